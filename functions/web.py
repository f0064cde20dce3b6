"""The only module that knows HTTP: routes, bodies, answers, problem+json (RFC 9457)."""

import json
import logging
import secrets
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

import msgspec
from flask import Request, Response
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as NoSuchMethod
from werkzeug.routing import BaseConverter, Map, Rule

from functions import errors, logs
from functions.callback import Delivery
from functions.errors import Refusal
from functions.settings import settings

Answer = dict[str, Any] | Response
Body = TypeVar("Body")
Handler = Callable[..., Answer]
Endpoint = Callable[[Request], Response]

BODY_LIMIT_BYTES = 64 * 1024
DELIVERY_LIMIT_BYTES = 1024 * 1024


JOB_ID = "[a-z0-9][a-z0-9-]{0,62}"


class _JobId(BaseConverter):
    regex = JOB_ID


#: the routes of each endpoint, for ``dispatcher``
_routes: dict[Endpoint, tuple[str, ...]] = {}


def endpoint(*routes: str) -> Callable[[Handler], Endpoint]:
    """Make a functions-framework HTTP target of a handler: its routes, its JSON answers, its refusals as problems.

    A route is ``"POST /v1/jobs/<job_id:job_id>/done"``; what it names is passed on. Health is answered here.
    """
    # A decorator, not functions_framework.errorhandler: that binds to the first app of a process only.
    routing = _routing(*routes, "GET /healthz")
    logs.start(settings().log_format)

    def decorate(handler: Handler) -> Endpoint:
        @wraps(handler)
        def answer(request: Request) -> Response:
            logs.about.set({"function": handler.__name__, "trace_id": _trace_id(request)})
            try:
                rule, values = _match(routing, request)
                if rule == "/healthz":
                    return Response("ok\n", mimetype="text/plain")
                logs.bind(**values)
                return _response(handler(request, **values))
            except Refusal as refusal:
                logs.log(logging.WARNING, "refused", status=refusal.status, detail=str(refusal)[:500])
                return _problem(refusal)
            except Exception:  # noqa: BLE001 -- the last line of defence: nothing inside is shown to the caller
                logs.log(logging.ERROR, "failed", exc_info=True)
                return _problem(Refusal("this is a defect of Stoker; the log has the details under this trace id"))

        _routes[answer] = routes
        return answer

    return decorate


def routes() -> Mapping[Endpoint, tuple[str, ...]]:
    """Return the routes of each endpoint that this process has loaded."""
    return _routes


def dispatcher(*endpoints: Endpoint) -> Endpoint:
    """Return the endpoint that passes a request to the one whose route it is: the first, where two share one."""
    owner: dict[str, Endpoint] = {}
    for one in endpoints:
        for route in _routes[one]:
            owner.setdefault(route, one)
    routing = _routing(*owner)

    def dispatch(request: Request) -> Response:
        try:
            rule, _ = routing.bind("").match(request.path, request.method)
        except HTTPException:
            return endpoints[0](request)  # any of them answers what none of them knows, and health
        return owner[f"{request.method} {rule}"](request)

    return dispatch


def _routing(*routes: str) -> Map:
    """Return werkzeug's map; each route is its own endpoint's name, so that ``match`` returns its path."""
    pairs = [route.split(maxsplit=1) for route in routes]
    rules = [Rule(path, methods=[method], endpoint=path) for method, path in pairs]
    return Map(rules, converters={"job_id": _JobId}, strict_slashes=False, merge_slashes=False)


def _match(routing: Map, request: Request) -> tuple[str, Mapping[str, str]]:
    try:
        return routing.bind("").match(request.path, request.method)
    except NoSuchMethod as error:
        raise errors.MethodNotAllowed(f"{request.path} takes {', '.join(sorted(error.valid_methods or ()))}") from error
    except HTTPException as error:
        raise errors.NotFound("no such path here; the API is below /v1/jobs") from error


def _trace_id(request: Request) -> str:
    """Return the trace of a W3C ``traceparent`` header, else a new one."""
    parts = request.headers.get("traceparent", "").split("-")
    if len(parts) == 4 and len(parts[1]) == 32 and set(parts[1]) <= set("0123456789abcdef"):  # noqa: PLR2004 -- the W3C's
        return parts[1]
    return secrets.token_hex(16)


def _response(answer: Answer) -> Response:
    return answer if isinstance(answer, Response) else reply(answer)


def reply(body: dict[str, Any], status: int = 200, **headers: str) -> Response:
    """Return a JSON answer."""
    return Response(json.dumps(body), status, headers, mimetype="application/json")


def empty(status: int) -> Response:
    """Return the answer to an event delivery: a Broker takes a 2xx with a body that is no CloudEvent for an error."""
    return Response(status=status)


def _problem(refusal: Refusal) -> Response:
    problem = {
        "title": refusal.title,
        "status": refusal.status,
        "detail": str(refusal),
        "trace_id": logs.about.get()["trace_id"],
        **refusal.members,
    }
    headers = {503: {"Retry-After": "5"}, 401: {"WWW-Authenticate": "Bearer"}}.get(refusal.status, {})
    return Response(json.dumps(problem), refusal.status, headers, mimetype="application/problem+json")


def raw_body(request: Request, limit_bytes: int = BODY_LIMIT_BYTES) -> bytes:
    """Return the request's body.

    Raises:
        TooLarge: it is over the limit; no more than the limit was read.
    """
    raw = b"" if (request.content_length or 0) > limit_bytes else request.stream.read(limit_bytes + 1)
    if (request.content_length or 0) > limit_bytes or len(raw) > limit_bytes:
        raise _too_large(limit_bytes)
    return raw


def _too_large(limit_bytes: int) -> errors.TooLarge:
    return errors.TooLarge(f"send at most {limit_bytes} bytes; data goes through storage")


def body(request: Request, model: type[Body]) -> Body:
    """Return the request's JSON body as a ``model``; an absent body counts as ``{}``.

    Raises:
        TooLarge, UnsupportedMedia: as they say.
        Unusable: the body does not fit; ``members["errors"]`` names the field to change.
    """
    return json_of(request, raw_body(request), model)


def json_of(request: Request, raw: bytes, model: type[Body]) -> Body:
    """Return a body that has been read already as a ``model``.

    Raises:
        TooLarge, UnsupportedMedia, Unusable: as ``body``.
    """
    if len(raw) > BODY_LIMIT_BYTES:
        raise _too_large(BODY_LIMIT_BYTES)
    if raw and request.mimetype and request.mimetype != "application/json" and not request.mimetype.endswith("+json"):
        raise errors.UnsupportedMedia(f"send Content-Type: application/json, not {request.mimetype}")
    try:
        return msgspec.json.decode(raw or b"{}", type=model)
    except msgspec.ValidationError as error:
        raise errors.unusable_fields(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"the body is not JSON in UTF-8 (which has no NaN or Infinity): {error}"
        raise errors.Unusable(message, errors=[{"field": "body", "detail": str(error)}]) from error


def query(request: Request, model: type[Body]) -> Body:
    """Return the request's query string as a ``model``.

    Raises:
        Unusable: a parameter does not fit, or is unknown.
    """
    try:
        return msgspec.convert(request.args.to_dict(), model, strict=False)
    except msgspec.ValidationError as error:
        raise errors.unusable_fields(error) from error


def idempotency_key(request: Request) -> str | None:
    """Return the caller's ``Idempotency-Key``, if any."""
    return _short(request, "Idempotency-Key")


def delivery(request: Request, job_id: str) -> Delivery:
    """Return the source and id by which a repeated call is recognised; a call that brings none is always new."""
    key = _short(request, "Idempotency-Key")
    if key is not None:
        return Delivery(f"idempotency-key:{request.path}", key)
    source = _short(request, "ce-source") or f"/v1/jobs/{job_id}"
    return Delivery(source, _short(request, "ce-id") or secrets.token_hex(16))


def _short(request: Request, name: str) -> str | None:
    value = request.headers.get(name)
    if value is not None and not (0 < len(value) <= 256 and value.isprintable()):  # noqa: PLR2004 -- what an index holds
        raise errors.unusable_field(name, "use 1 to 256 printable characters")
    return value
