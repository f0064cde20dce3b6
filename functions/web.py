"""The only module that knows HTTP: routes, bodies, answers, problem+json (RFC 9457)."""

import json
import logging
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl

import msgspec

from functions import errors, logs
from functions.callback import Delivery
from functions.errors import Refusal
from functions.settings import settings

if TYPE_CHECKING:
    from flask import Request as FrameworkRequest

BODY_LIMIT_BYTES = 64 * 1024
DELIVERY_LIMIT_BYTES = 1024 * 1024


class Request(NamedTuple):
    """What came in, by whichever server: ours hands it over as it is, functions-framework's as Flask's."""

    method: str
    #: percent-decoded
    path: str
    query: str
    #: by lower-case name
    headers: Mapping[str, str]
    #: what is over DELIVERY_LIMIT_BYTES may be cut off
    content: bytes


class Response(NamedTuple):
    """What goes out; in the order in which Flask takes such a tuple for an answer."""

    content: bytes
    status: int
    headers: dict[str, str]


Answer = dict[str, Any] | Response
Body = TypeVar("Body")
Handler = Callable[..., Answer]
Endpoint = Callable[["Request | FrameworkRequest"], Response]

JOB_ID = "[a-z0-9][a-z0-9-]{0,62}"
_HEALTH = "GET /healthz"


class _Rule(NamedTuple):
    """A route, taken apart."""

    route: str
    method: str
    path: re.Pattern[str]


#: the routes of each endpoint, for ``dispatcher``
_routes: dict[Endpoint, tuple[str, ...]] = {}


def endpoint(*routes: str) -> Callable[[Handler], Endpoint]:
    """Make a functions-framework HTTP target of a handler: its routes, its JSON answers, its refusals as problems.

    A route is ``"POST /v1/jobs/{job_id}/done"``; what it names is passed on. Health is answered here.
    """
    # A decorator, not functions_framework.errorhandler: that binds to the first app of a process only.
    rules = _rules((*routes, _HEALTH))
    logs.start(settings().log_format)

    def decorate(handler: Handler) -> Endpoint:
        @wraps(handler)
        def answer(request: "Request | FrameworkRequest") -> Response:
            return _answer(handler, rules, _read(request))

        _routes[answer] = routes
        return answer

    return decorate


def _answer(handler: Handler, rules: Iterable[_Rule], request: Request) -> Response:
    logs.about.set({"function": handler.__name__, "trace_id": _trace_id(request)})
    try:
        route, values = _match(rules, request)
        if route == _HEALTH:
            return Response(b"ok\n", 200, {"content-type": "text/plain"})
        logs.bind(**values)
        answer = handler(request, **values)
        return answer if isinstance(answer, Response) else reply(answer)
    except Refusal as refusal:
        logs.log(logging.WARNING, "refused", status=refusal.status, detail=str(refusal)[:500])
        return _problem(refusal)
    except Exception:  # noqa: BLE001 -- the last line of defence: nothing inside is shown to the caller
        logs.log(logging.ERROR, "failed", exc_info=True)
        return _problem(Refusal("this is a defect of Stoker; the log has the details under this trace id"))


def _read(request: "Request | FrameworkRequest") -> Request:
    if isinstance(request, Request):
        return request
    headers = {name.lower(): value for name, value in request.headers.items()}
    content = request.stream.read(DELIVERY_LIMIT_BYTES + 1)
    return Request(request.method, request.path, request.query_string.decode("latin-1"), headers, content)


def routes() -> Mapping[Endpoint, tuple[str, ...]]:
    """Return the routes of each endpoint that this process has loaded."""
    return _routes


def dispatcher(*endpoints: Endpoint) -> Endpoint:
    """Return the endpoint that passes a request to the one whose route it is: the first, where two share one."""
    owner: dict[str, Endpoint] = {}
    for one in endpoints:
        for route in _routes[one]:
            owner.setdefault(route, one)
    rules = _rules(owner)

    def dispatch(request: "Request | FrameworkRequest") -> Response:
        request = _read(request)
        try:
            route, _ = _match(rules, request)
        except Refusal:
            return endpoints[0](request)  # any of them answers what none of them knows, and health
        return owner[route](request)

    return dispatch


def _rules(routes: Iterable[str]) -> list[_Rule]:
    # Not by werkzeug's routing: importing it takes longer than all else here together.
    def rule(route: str) -> _Rule:
        method, path = route.split()
        return _Rule(route, method, re.compile(path.replace("{job_id}", f"(?P<job_id>{JOB_ID})") + "/?"))

    return [rule(route) for route in routes]


def _match(rules: Iterable[_Rule], request: Request) -> tuple[str, Mapping[str, str]]:
    """Return the route that a request goes by, and what its path names."""
    method = "GET" if request.method == "HEAD" else request.method
    others = set()
    for rule in rules:
        if found := rule.path.fullmatch(request.path):
            if rule.method == method:
                return rule.route, found.groupdict()
            others.add(rule.method)
    if others:
        raise errors.MethodNotAllowed(f"{request.path} takes {', '.join(sorted(others))}")
    raise errors.NotFound("no such path here; the API is below /v1/jobs")


def _trace_id(request: Request) -> str:
    """Return the trace of a W3C ``traceparent`` header, else a new one."""
    parts = request.headers.get("traceparent", "").split("-")
    if len(parts) == 4 and len(parts[1]) == 32 and set(parts[1]) <= set("0123456789abcdef"):  # noqa: PLR2004 -- the W3C's
        return parts[1]
    return secrets.token_hex(16)


def reply(body: dict[str, Any], status: int = 200, **headers: str) -> Response:
    """Return a JSON answer."""
    return json_text(json.dumps(body).encode(), status, **headers)


def json_text(content: bytes, status: int = 200, **headers: str) -> Response:
    """Return an answer whose JSON is written already."""
    return Response(content, status, {"content-type": "application/json", **headers})


def empty(status: int) -> Response:
    """Return the answer to an event delivery: a Broker takes a 2xx with a body that is no CloudEvent for an error."""
    return Response(b"", status, {})


def _problem(refusal: Refusal) -> Response:
    problem = {
        "title": refusal.title,
        "status": refusal.status,
        "detail": str(refusal),
        "trace_id": logs.about.get()["trace_id"],
        **refusal.members,
    }
    headers = {503: {"retry-after": "5"}, 401: {"www-authenticate": "Bearer"}}.get(refusal.status, {})
    return Response(
        json.dumps(problem).encode(), refusal.status, {"content-type": "application/problem+json"} | headers
    )


def raw_body(request: Request, limit_bytes: int = BODY_LIMIT_BYTES) -> bytes:
    """Return the request's body.

    Raises:
        TooLarge: it is over the limit.
    """
    if len(request.content) > limit_bytes:
        raise _too_large(limit_bytes)
    return request.content


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
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if raw and media_type and media_type != "application/json" and not media_type.endswith("+json"):
        raise errors.UnsupportedMedia(f"send Content-Type: application/json, not {media_type}")
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
    given = dict(reversed(parse_qsl(request.query, keep_blank_values=True)))  # of two, the first
    try:
        return msgspec.convert(given, model, strict=False)
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
    value = request.headers.get(name.lower())
    if value is not None and not (0 < len(value) <= 256 and value.isprintable()):  # noqa: PLR2004 -- what an index holds
        raise errors.unusable_field(name, "use 1 to 256 printable characters")
    return value
