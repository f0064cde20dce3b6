"""Requests as handlers receive them: the body, the query string, and the headers that identify a repeated call."""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar, get_origin
from urllib.parse import parse_qsl

import msgspec

from functions.domain import errors, fields, json_values
from functions.domain.callbacks import Delivery

#: the limit for JSON bodies of the API
BODY_LIMIT_BYTES = 64 * 1024
#: the limit for deliveries of events, which may be batches
DELIVERY_LIMIT_BYTES = 1024 * 1024

Model = TypeVar("Model")


class CloudEvent(msgspec.Struct, omit_defaults=True):
    """A CloudEvent in structured mode, for the API's description; ``cloudevents`` parses all modes."""

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    subject: str = ""
    data: Any = None


@dataclass(frozen=True)
class Request:
    """A request whose body has arrived completely."""

    method: str
    #: percent-decoded
    path: str
    query: str
    #: by lower-case name
    headers: Mapping[str, str]
    #: truncated after DELIVERY_LIMIT_BYTES + 1 bytes
    content: bytes
    #: the caller: the ``sub`` of an API token
    subject: str = ""
    #: the claims of a callback token
    claims: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def value(self) -> Any:
        """Return the body as a JSON value, decoded once; an absent body counts as ``{}``.

        Raises:
            ValueError: it is not JSON in UTF-8, or nested too deep.
        """
        return json_values.decode(self.content or b"{}")


def headers_by_name(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return an ASGI scope's headers by lower-case name; values of a repeated header are joined by commas."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def trace_id(headers: Mapping[str, str]) -> str:
    """Return the trace id of a W3C ``traceparent`` header, or a new one."""
    parts = headers.get("traceparent", "").split("-")
    if len(parts) == 4 and len(parts[1]) == 32 and set(parts[1]) <= set("0123456789abcdef"):  # noqa: PLR2004 -- the W3C's format
        return parts[1]
    return secrets.token_hex(16)


def raw_body(request: Request, limit_bytes: int = DELIVERY_LIMIT_BYTES) -> bytes:
    """Return the request's body.

    Raises:
        TooLarge: it is over the limit.
    """
    if len(request.content) > limit_bytes:
        raise too_large()
    return request.content


def too_large() -> errors.TooLarge:
    """Return the error for a body over its limit: the same for all, since a cut body does not tell what it is."""
    return errors.TooLarge(
        f"send at most {BODY_LIMIT_BYTES} bytes of JSON, or {DELIVERY_LIMIT_BYTES} bytes of events or notifications;"
        " data goes through storage"
    )


def body(request: Request, model: type[Model]) -> Model:
    """Return the request's JSON body as a ``model``; an absent body counts as ``{}``.

    Raises:
        TooLarge: it is over BODY_LIMIT_BYTES.
        UnsupportedMedia: the content type is not JSON.
        Unusable: a field cannot be used; ``members["errors"]`` names the field to change.
    """
    content = raw_body(request, BODY_LIMIT_BYTES)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content and media_type and media_type != "application/json" and not media_type.endswith("+json"):
        raise errors.UnsupportedMedia(f"send Content-Type: application/json, not {media_type}")
    try:
        value = request.value
    except ValueError as error:
        raise errors.unusable_field("body", str(error)) from error
    return fields.convert(value, model)


def query(request: Request, model: type[Model]) -> Model:
    """Return the request's query string as a ``model``.

    Of a repeated parameter the first value counts; for a list all count, and a value may hold several with commas.

    Raises:
        Unusable: a parameter is unknown or cannot be used.
    """
    pairs = parse_qsl(request.query, keep_blank_values=True)
    parameters: dict[str, Any] = dict(reversed(pairs))
    for name in parameters.keys() & _lists(model):
        values = [value for key, text in pairs if key == name for value in text.split(",")]
        parameters[name] = [value.strip() for value in values if value.strip()]
    try:
        return fields.convert(parameters, model, strict=False)
    except errors.Unusable as error:  # a list is one parameter, whichever of its values is wrong
        wrong = list(fields.problems(parameters, model, strict=False))
        named = [problem._replace(field=problem.field.partition("[")[0]) for problem in wrong]
        raise fields.unusable(named) from error


def _lists(model: type) -> set[str]:
    """Return the names of a model's fields that are lists."""
    return {field.encode_name for field in msgspec.structs.fields(model) if get_origin(field.type) is list}


def idempotency_key(request: Request) -> str | None:
    """Return the caller's ``Idempotency-Key``, if any.

    Raises:
        Unusable: it is too long for an index, or not printable.
    """
    return _index_value(request, "Idempotency-Key")


def delivery(request: Request, job_id: str) -> Delivery:
    """Return the source and id that identify a repeated call; a call without them is always new.

    Raises:
        Unusable: one of them is too long for an index, or not printable.
    """
    key = idempotency_key(request)
    if key is not None:
        return Delivery(f"idempotency-key:{request.path}", key)
    source = _index_value(request, "ce-source") or f"/v1/jobs/{job_id}"
    return Delivery(source, _index_value(request, "ce-id") or secrets.token_hex(16))


def _index_value(request: Request, name: str) -> str | None:
    value = request.headers.get(name.lower())
    if value is not None and not (0 < len(value) <= 256 and value.isprintable()):  # noqa: PLR2004 -- the size of the index
        raise errors.unusable_field(name, "use 1 to 256 printable characters")
    return value
