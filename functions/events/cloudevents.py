"""Parses and writes CloudEvents 1.0 over HTTP (CloudEvents HTTP protocol binding 1.0.2).

The SDK's ``from_http`` is not used: it does not decode percent-encoded headers, accepts invalid JSON as text and
attributes of any type, and does not support batches.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import quote, unquote_to_bytes

import msgspec
from msgspec import Meta

from functions.domain import fields, json_values
from functions.domain.errors import Unusable

#: without control characters (CloudEvents 1.0 §3.1.1), and short enough for an index
_Attribute = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=1024,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]*\Z",
        description="text of 1 to 1,024 characters, without control characters",
    ),
]
#: by name, in upper or lower case
Headers = Mapping[str, str]
#: maximum events per request
BATCH_LIMIT = 1_000
#: headers that occur only in binary mode
_BINARY_MODE = ("ce-specversion", "ce-type")
_FAMILY = "application/cloudevents"
_ATTRIBUTES = ("specversion", "id", "source", "type", "subject")


class CloudEvent(NamedTuple):
    """One received event, with the attributes that Stoker uses."""

    id: str
    source: str
    type: str
    #: "" if there is none
    subject: str
    #: a JSON value; bytes if it is not JSON; None if there is none
    data: object


class _Envelope(msgspec.Struct):
    specversion: Literal["1.0"]
    id: _Attribute
    source: _Attribute
    type: _Attribute
    subject: _Attribute | None = None
    datacontenttype: str | None = None
    data: Any = None
    data_base64: bytes | None = None  # msgspec reads bytes from base64


def is_event(headers: Headers) -> bool:
    """Return whether a request's headers announce CloudEvents, in any of the three modes."""
    headers = _lower_case(headers)
    return not headers.keys().isdisjoint(_BINARY_MODE) or _media_type(headers).startswith(_FAMILY)


def parse_each(headers: Headers, body: bytes) -> list[CloudEvent | ValueError]:
    """Return the events of a request: one in binary or structured mode, any number in batched mode.

    An invalid event is returned as an error that tells what to change; the other events of its batch are not affected.

    Raises:
        ValueError: the whole request is invalid; the message tells what to change.
    """
    headers = _lower_case(headers)
    match _media_type(headers):
        case "application/cloudevents-batch+json":
            return _batch(body)
        case "application/cloudevents+json":
            return [structured(_json(body, "a CloudEvent in structured mode"))]
        case other if other.startswith(_FAMILY):
            raise ValueError(f"CloudEvents as {other[:100]!r} are not supported: send application/cloudevents+json")
        case _:
            return [_binary(headers, body)]


def as_json(headers: Headers, body: bytes) -> bytes:
    """Convert a request in any of the three modes to JSON: one event, or an array of events."""
    headers = _lower_case(headers)
    if _media_type(headers).startswith(_FAMILY):
        return body
    event: dict[str, Any] = {
        name.removeprefix("ce-"): _attribute(value) for name, value in headers.items() if name.startswith("ce-")
    }
    if headers.get("content-type"):
        event["datacontenttype"] = headers["content-type"]
    try:
        event["data"] = _json(body, "data")
    except ValueError:
        event["data_base64"] = body
    return msgspec.json.encode(event)


def outgoing_headers(
    *, type_: str, id_: str, subject: str, now: str, trace_id: str, **extensions: str
) -> dict[str, str]:
    """Return the headers of an event with a JSON body in binary mode; deterministic for the same arguments.

    The caller must pass the same ``id_`` each time it sends an event. The trace is sent as a header and as the
    Distributed Tracing extension.
    """
    span_id = hashlib.sha256(id_.encode()).hexdigest()[:16]
    traceparent = f"00-{trace_id}-{span_id}-01"
    attributes = {
        "specversion": "1.0",
        "id": id_,
        "source": "/stoker",
        "type": type_,
        "subject": subject,
        "time": now,
        "traceparent": traceparent,
        **extensions,
    }
    headers = {f"ce-{name}": _header_value(value) for name, value in attributes.items()}
    return headers | {"content-type": "application/json", "traceparent": traceparent}


def _lower_case(headers: Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _media_type(headers: Mapping[str, str]) -> str:
    return _essence(headers.get("content-type") or "")


def _essence(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def structured(event: object) -> CloudEvent | ValueError:
    """Convert a JSON value in structured mode to an event, or to an error that tells why it is invalid."""
    try:
        return _event(fields.convert(event, _Envelope))
    except (ValueError, Unusable) as error:
        return ValueError(f"the CloudEvent cannot be used: {error}")


def _batch(body: bytes) -> list[CloudEvent | ValueError]:
    # Decode each event separately, so that one that is nested too deeply does not affect the others.
    try:
        batch = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (ValueError, RecursionError) as error:
        message = "a batch of CloudEvents is a JSON array: send one, or application/cloudevents+json"
        raise ValueError(f"{message} ({error})") from error
    if len(batch) > BATCH_LIMIT:
        raise ValueError(f"send at most {BATCH_LIMIT} events at a time")
    return [_in_batch(bytes(event)) for event in batch]


def _in_batch(event: bytes) -> CloudEvent | ValueError:
    try:
        return structured(_json(event, "a CloudEvent of the batch"))
    except ValueError as error:
        return error


def _binary(headers: Mapping[str, str], body: bytes) -> CloudEvent | ValueError:
    attributes: dict[str, Any] = {
        name: _attribute(headers[f"ce-{name}"]) for name in _ATTRIBUTES if headers.get(f"ce-{name}")
    }
    envelope = attributes | {"datacontenttype": headers.get("content-type"), "data_base64": body or None}
    try:
        return _event(fields.convert(envelope, _Envelope))
    except (ValueError, Unusable) as error:
        return ValueError(f"the CloudEvent cannot be used: {error} (its attributes are headers: ce-id, ce-type, ...)")


def _event(envelope: _Envelope) -> CloudEvent:
    data = envelope.data
    if envelope.data_base64 is not None:
        data = _data(envelope.data_base64, _essence(envelope.datacontenttype or ""))
    return CloudEvent(envelope.id, envelope.source, envelope.type, envelope.subject or "", data)


def _data(raw: bytes, media_type: str) -> object:
    """Decode data as JSON if possible; otherwise return the bytes, unless the media type promises JSON."""
    try:
        return _json(raw, f"data of type {media_type[:100]!r}")
    except ValueError:
        if media_type == "application/json" or media_type.endswith("+json"):
            raise
        return raw


def _json(raw: bytes, what: str) -> object:
    try:
        return json_values.decode(raw)
    except ValueError as error:
        raise ValueError(f"{what} cannot be read: {error}") from error


def _attribute(value: str) -> str:
    """Decode a header's value (§3.1.3.2: UTF-8, percent-encoded).

    Servers pass header bytes as Latin-1, and some senders, such as Ceph, do not percent-encode UTF-8.
    """
    try:
        raw = value.encode("latin-1")
    except UnicodeEncodeError:
        raw = value.encode("utf-8", "replace")
    return unquote_to_bytes(raw).decode("utf-8", "replace")


def _header_value(value: str) -> str:
    return quote(value, safe="!#$&'()*+,/:;<=>?@[\\]^`{|}~")
