"""Routes, each declared once by a decorator of its handler.

    @route("POST", "/v1/jobs/{job_id}/heartbeat", access=CALLBACK, headers=DELIVERY)
    async def record_heartbeat(request: Request, job_id: str, body: Heartbeat) -> HeartbeatResponse: ...

    heartbeat = function("heartbeat", record_heartbeat)

The handler's annotations are the models: ``body`` and ``query`` are parsed before the call, and the returned model is
encoded. ``infra.openapi`` reads the same declarations. ``function`` combines routes into a target of
functions-framework. A handler runs in a thread; one that is a coroutine function, such as this one, in the event loop.
"""

import hashlib
import inspect
import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import IO, Any, Literal, NamedTuple, get_args

import functions_framework.aio
from anyio import to_thread
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.responses import Response as StarletteResponse
from starlette.routing import BaseRoute, Match, Router
from starlette.routing import Route as StarletteRoute
from starlette.types import Receive, Scope, Send

from functions.api import requests, tokens
from functions.api.requests import DELIVERY_LIMIT_BYTES, Request
from functions.api.responses import Response, problem, reply, tagged
from functions.domain import errors
from functions.domain.errors import Busy, ConfigurationError, Refusal
from functions.runtime import configuration, logs, settings

#: how much of a body is read: a sender receives the 413 only if its body has been read
READ_LIMIT_BYTES = 16 * 1024 * 1024
#: larger bodies are buffered in a file
_MEMORY_LIMIT_BYTES = 128 * 1024

JOB_ID = "[a-z0-9][a-z0-9-]{0,62}"
#: headers that identify a repeated call
IDEMPOTENCY = ("Idempotency-Key",)
DELIVERY = ("Idempotency-Key", "ce-source", "ce-id")
#: attributes of a CloudEvent in binary mode
EVENT = ("ce-specversion", "ce-id", "ce-source", "ce-type", "ce-subject")

#: the callable that functions-framework serves
Target = Callable[[StarletteRequest], Any]
Handler = Callable[..., Any]


class Access(NamedTuple):
    """The token that a route requires: a trainer's callback token, an API token with one of these scopes, or none."""

    scheme: Literal["callback", "api", "public"]
    scopes: tuple[str, ...] = ()
    #: refuses a link to a job by the job's id and the token's number of revocations
    refuse_link: Callable[[str, object], None] | None = None


CALLBACK = Access("callback")
#: the actor of a callback
TRAINER = "trainer"
#: for the console's files, which contain no data
PUBLIC = Access("public")


def api(*scopes: str, refuse_link: Callable[[str, object], None] | None = None) -> Access:
    """Return the access for API tokens with any of these scopes. One that accepts links to the job can refuse them."""
    return Access("api", scopes, refuse_link)


class _JobId(StringConvertor):
    regex = JOB_ID


register_url_convertor("job_id", _JobId())


class Route(StarletteRoute):
    """One method of one path, its handler and its models."""

    def __init__(  # noqa: PLR0913 -- the parts of a declaration
        self,
        method: str,
        path: str,
        handler: Handler,
        *,
        access: Access,
        statuses: tuple[int, ...],
        headers: tuple[str, ...],
        accepts: Any,
        media_type: str,
    ) -> None:
        super().__init__(path.replace("{job_id}", "{job_id:job_id}"), self._serve, methods=[method])
        parameters = inspect.signature(handler).parameters
        self.method, self.declared_path, self.handler, self.access = method, path, handler, access
        self.statuses, self.headers = statuses, headers
        #: the function's name: the last part of the handler's module
        self.function = handler.__module__.rpartition(".")[2]
        self.body = parameters["body"].annotation if "body" in parameters else None
        self.query = parameters["query"].annotation if "query" in parameters else None
        #: the body's model in the API's description, if the handler parses the body itself
        self.accepts = accepts or self.body
        self.response = _model_of(inspect.signature(handler).return_annotation)
        #: of a successful response
        self.media_type = media_type

    async def _serve(self, request: StarletteRequest) -> StarletteResponse:
        call = self, request.scope, request.state.content, request.path_params
        if inspect.iscoroutinefunction(self.handler):
            return _response(await answer_async(*call))
        return _response(await to_thread.run_sync(answer, *call, abandon_on_cancel=True))

    def at(self, path: str) -> "Route":
        """Return the same route at another path."""
        return Route(
            self.method,
            path,
            self.handler,
            access=self.access,
            statuses=self.statuses,
            headers=self.headers,
            accepts=self.accepts,
            media_type=self.media_type,
        )


def _model_of(annotation: Any) -> Any:
    """Return the model that a handler returns, if it returns one."""
    models = [kind for kind in get_args(annotation) or (annotation,) if kind is not Response]
    return models[0] if models else None


def route(  # noqa: PLR0913 -- as Route
    method: str,
    path: str,
    *,
    access: Access,
    statuses: tuple[int, ...] = (200,),
    headers: tuple[str, ...] = (),
    accepts: Any = None,
    media_type: str = "application/json",
) -> Callable[[Handler], Route]:
    """Declare a handler's route; path parameters become keyword arguments.

    ``statuses`` are the possible statuses of success; a returned model is sent with the first.
    """

    def declare(handler: Handler) -> Route:
        return Route(
            method,
            path,
            handler,
            access=access,
            statuses=statuses,
            headers=headers,
            accepts=accepts,
            media_type=media_type,
        )

    return declare


def answer(route: Route, scope: Scope, content: IO[bytes], values: Mapping[str, str]) -> Response:
    """Call a route's handler, and return its response or problem+json; log an access line."""
    started = time.monotonic()
    try:
        request, arguments = _parsed(route, scope, content, values)
        response = _encoded(route, request, route.handler(request, **arguments))
    except Exception as error:  # noqa: BLE001 -- each becomes a response
        response = _refusal_of(error)
    _log_access(scope, response, seconds=round(time.monotonic() - started, 4))
    return response


async def answer_async(route: Route, scope: Scope, content: IO[bytes], values: Mapping[str, str]) -> Response:
    """Do the same as ``answer`` with a handler that is a coroutine function, in the event loop."""
    started = time.monotonic()
    try:
        request, arguments = _parsed(route, scope, content, values)
        response = _encoded(route, request, await route.handler(request, **arguments))
    except Exception as error:  # noqa: BLE001 -- each becomes a response
        response = _refusal_of(error)
    _log_access(scope, response, seconds=round(time.monotonic() - started, 4))
    return response


def _log_access(scope: Scope, response: Response, **fields: Any) -> None:
    logs.log(logging.DEBUG, "answered", method=scope["method"], path=scope["path"], status=response.status, **fields)


def _refusal_of(error: Exception) -> Response:
    """Return the response for an error that is being handled, and log it."""
    if isinstance(error, Refusal):
        logs.log(logging.WARNING, "refused", status=error.status, detail=str(error)[:500])
        return problem(error)
    if isinstance(error, ConfigurationError):
        return _misconfigured(error)
    logs.log(logging.ERROR, "failed", exc_info=True)  # details go to the log, never to the caller
    return problem(Refusal("this is a defect of Stoker; search its log for this trace id"))


def _misconfigured(error: ConfigurationError) -> Response:
    logs.log(logging.ERROR, "misconfigured", detail=str(error))
    return problem(Busy(f"this installation is misconfigured: {error}"))


def _authenticated(access: Access, request: Request, values: Mapping[str, str]) -> Request:
    if access.scheme == "public":
        return request
    if access.scheme == "callback":
        request = replace(request, claims=tokens.require_callback(request, values["job_id"]))
        logs.bind(actor=TRAINER)
    else:
        claims = tokens.require_api(request, *access.scopes, job_id=values.get("job_id"))
        if access.refuse_link and claims.get("scope") == tokens.LINK_SCOPE:
            access.refuse_link(values["job_id"], claims.get("revocations", 0))
        request = replace(request, subject=str(claims.get("sub", "")))
        logs.bind(actor=request.subject)
    return request


def _parsed(
    route: Route, scope: Scope, content: IO[bytes], values: Mapping[str, str]
) -> tuple[Request, dict[str, Any]]:
    """Return the authenticated request, and the handler's other arguments."""
    logs.bind(function=route.function, **values)
    content.seek(0)
    query = scope["query_string"].decode("latin-1")
    request = Request(scope["method"], scope["path"], query, scope["state"]["headers"], content.read())
    request = _authenticated(route.access, request, values)
    arguments: dict[str, Any] = dict(values)
    if route.body is not None:
        arguments["body"] = requests.body(request, route.body)
    if route.query is not None:
        arguments["query"] = requests.query(request, route.query)
    return request, arguments


def _encoded(route: Route, request: Request, result: Any) -> Response:
    """Return the response for a handler's return value."""
    if isinstance(result, Response):
        return result
    response = reply(result, route.statuses[0])
    if route.method != "GET":
        return response
    tag = hashlib.sha256(response.content).hexdigest()[:32]
    return tagged(response, tag, request.headers.get("if-none-match", ""))


def _health(_: StarletteRequest) -> StarletteResponse:
    try:
        configuration.check()
    except ConfigurationError as error:
        return _response(_misconfigured(error))
    return PlainTextResponse("ok\n")


class _Application:
    """The routes of a function as an ASGI application. To functions-framework it is a response."""

    def __init__(self, name: str, routes: Iterable[Route], other_methods: Mapping[str, set[str]]) -> None:
        self._name, self._elsewhere = name, other_methods
        self._router = Router([*routes, StarletteRoute("/healthz", _health)], redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive the complete request, then dispatch it to its route."""
        headers = requests.headers_by_name(scope["headers"])
        logs.context.set({"function": self._name, "trace_id": requests.trace_id(headers)})
        with tempfile.SpooledTemporaryFile(_MEMORY_LIMIT_BYTES) as content:
            try:
                is_complete = await _receive(StarletteRequest(scope, receive), content)
            except ClientDisconnect:
                return
            path = scope["path"].removesuffix("/") or "/"
            scope = {**scope, "path": path, "path_params": {}, "state": {"content": content, "headers": headers}}
            try:
                await (self._router if is_complete else _too_large())(scope, receive, send)
            except HTTPException as error:  # Starlette raises it if no route matches
                refused = self._refused(scope, error.status_code)
                _log_access(scope, refused)
                await _response(refused)(scope, receive, send)

    def _refused(self, scope: Scope, status: int) -> Response:
        if status == errors.MethodNotAllowed.status:
            own = _methods(self._router.routes, scope)
            allowed = ", ".join(sorted(own | self._elsewhere.get(scope["path"], set())))
            return problem(errors.MethodNotAllowed(f"{scope['path']} takes {allowed}"), {"allow": allowed})
        return problem(errors.NotFound("no such path here; the API is below /v1/jobs"))


def _methods(routes: Iterable[BaseRoute], scope: Scope) -> set[str]:
    """Return the methods of a path. Starlette's own ``Allow`` header has only the first route's."""
    return {
        method
        for route in routes
        if isinstance(route, StarletteRoute) and route.matches(scope)[0] is not Match.NONE
        for method in route.methods or ()
    }


async def _receive(request: StarletteRequest, content: IO[bytes]) -> bool:
    """Store the first DELIVERY_LIMIT_BYTES + 1 bytes of a body; return whether it was read to its end."""
    read_bytes = 0
    async for chunk in request.stream():
        content.write(chunk[: max(DELIVERY_LIMIT_BYTES + 1 - read_bytes, 0)])
        read_bytes += len(chunk)
        if read_bytes > READ_LIMIT_BYTES:
            return False
    return True


def _too_large() -> StarletteResponse:
    return _response(problem(requests.too_large(), {"connection": "close"}))


def _response(response: Response) -> StarletteResponse:
    return StarletteResponse(response.content, response.status, dict(response.headers))


def function(name: str, *routes: Route, other_methods: Mapping[str, set[str]] | None = None) -> Target:
    """Return a target of functions-framework that serves these routes and ``/healthz``.

    ``other_methods``: the methods that other functions serve, by path; they are included in ``Allow``.
    """
    application = _Application(name, routes, other_methods or {})

    async def target(_: StarletteRequest) -> Any:
        if not logs.is_started():  # by functions-framework's own command, which does not run api.server
            with suppress(ConfigurationError):
                logs.start(settings.settings().log_format, settings.settings().log_level)
        return application

    target.__name__ = name
    return functions_framework.aio.http(target)
