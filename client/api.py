"""Call the functions over HTTP: return the JSON of the response, or raise an error whose message fits on one line."""

import atexit
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from client import contexts
from client.errors import NOT_PERMITTED, CallError, Json, UnavailableError

if TYPE_CHECKING:
    import httpx

__all__ = ["Api", "CallError", "Json", "UnavailableError", "call", "connect", "error_from", "request"]

_TIMEOUT_SECONDS = 30.0
_UNAUTHENTICATED, _FORBIDDEN, _NOT_FOUND, _NO_METHOD = 401, 403, 404, 405
_SERVER_ERROR = 500
#: a read is tried again this often while the server asks to wait
_TRIES, _LONGEST_WAIT_SECONDS = 3, 10.0
Method = Literal["GET", "POST", "PATCH", "DELETE"]


@dataclass
class Api:
    """The address of the functions, and the token to call them with."""

    url: str
    token: str = field(repr=False)
    server: contexts.Server | None = field(default=None, repr=False)


@cache
def http() -> "httpx.Client":
    """Return the client of this process, which keeps connections open between calls."""
    import httpx  # noqa: PLC0415 -- a fifth of a second, which `--help` need not wait for

    client = httpx.Client(timeout=_TIMEOUT_SECONDS)
    atexit.register(client.close)
    return client


def connect(context: str | None = None) -> Api:
    """Return the API of the selected server; see ``contexts.select``.

    Raises:
        CallError: there is none, or no token for it.
    """
    server = contexts.select(context)
    return Api(server.url, server.token, server)


def call(  # noqa: PLR0913 -- what HTTP has
    api: Api,
    method: Method,
    path: str,
    *,
    query: Mapping[str, Any] | None = None,
    body: Json | None = None,
    headers: Mapping[str, str] | None = None,
    feature: str = "",
) -> Json:
    """Return the JSON of the response. ``feature``: what an older server lacks if it does not know the path.

    Raises:
        UnavailableError: no response, 429, 502, 503 or 504.
        CallError: any other error.
    """
    response = request(api, method, path, query=query, body=body, headers=headers, feature=feature)
    content: Json = response.json() if response.content else {}
    return content


def request(  # noqa: PLR0913 -- as ``call``
    api: Api,
    method: Method,
    path: str,
    *,
    query: Mapping[str, Any] | None = None,
    body: Json | None = None,
    headers: Mapping[str, str] | None = None,
    feature: str = "",
) -> "httpx.Response":
    """Return the response, which may be a 304; a read is tried again as the server asks. Raises: as ``call``."""
    for left in reversed(range(_TRIES if method == "GET" else 1)):
        try:
            return _request(api, method, path, query, body, headers, feature)
        except UnavailableError as error:
            if not left or error.retry_after_seconds is None or error.retry_after_seconds > _LONGEST_WAIT_SECONDS:
                raise
            time.sleep(error.retry_after_seconds)
    raise AssertionError("unreachable")


def _request(  # noqa: PLR0913, PLR0917 -- as ``call``
    api: Api,
    method: Method,
    path: str,
    query: Mapping[str, Any] | None,
    body: Json | None,
    headers: Mapping[str, str] | None,
    feature: str,
) -> "httpx.Response":
    import httpx  # noqa: PLC0415 -- as above

    parameters = {name: value for name, value in (query or {}).items() if value is not None}
    sent = {"Authorization": f"Bearer {api.token}", **(headers or {})}
    try:
        response = http().request(method, f"{api.url}{path}", params=parameters, json=body, headers=sent)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise no_response(api, error) from error
    if response.is_success or response.status_code == httpx.codes.NOT_MODIFIED:
        return response
    problem = _problem(response)
    if feature and _is_unknown_path(response.status_code, problem):
        line = f"{api.url} is of an older version, which has no {feature}: it needs Stoker 0.2 or later"
        raise CallError(line, {"title": "unknown path", "status": response.status_code})
    raise error_from(response.status_code, problem, _seconds(response.headers.get("Retry-After")))


def no_response(api: Api, error: Exception) -> UnavailableError:
    """Return the error for a server that does not respond."""
    is_local = api.server is not None and api.server.stack is not None
    fix = "; start the local stack: ./taskw up" if is_local else "; check the address and the network"
    line = f"no response from {api.url} ({error or type(error).__name__}){fix}"
    return UnavailableError(line, {"title": "no response"})


def error_from(status: int, problem: Json, retry_after_seconds: float | None = None) -> CallError:
    """Return a problem+json (RFC 9457) as an exception whose message names the field and the fix."""
    if problem.get("errors"):
        message = "; ".join(f"{error['field']}: {error['detail']}" for error in problem["errors"])
    else:
        message = str(problem.get("detail") or problem.get("title") or "the request failed")
    if status == _UNAUTHENTICATED:
        message += "; sign in again (stoker login URL), or set STOKER_TOKEN to a new token (./taskw token)"
    if problem.get("state") and str(problem["state"]) not in message:
        message += f" (the job is {problem['state']})"
    trace = f", trace {problem['trace_id']}" if problem.get("trace_id") else ""
    line, content = f"{message} [HTTP {status}{trace}]", {"status": status, **problem}
    if status in {429, 503} or status > _SERVER_ERROR:
        return UnavailableError(line, content, retry_after_seconds=retry_after_seconds)
    return CallError(line, content, exit_code=NOT_PERMITTED if status in {_UNAUTHENTICATED, _FORBIDDEN} else 1)


def _problem(response: "httpx.Response") -> Json:
    try:
        content = response.json()
    except ValueError:  # not from Stoker: a proxy's error page
        content = None
    return content if isinstance(content, dict) else {"title": response.reason_phrase, "detail": response.text[:200]}


def _is_unknown_path(status: int, problem: Json) -> bool:
    return status == _NO_METHOD or (status == _NOT_FOUND and "no such path" in str(problem.get("detail")))


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isdigit() else None
