"""Call the functions over HTTP: return the JSON of the response, or raise an error whose message fits on one line."""

import os
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import httpx

from client.home import read_environment
from client.minting import mint

_TOKEN_SECONDS = 7 * 24 * 3600
_TIMEOUT_SECONDS = 30.0
_UNAUTHENTICATED = 401
_SERVER_ERROR = 500
Json = dict[str, Any]


class Api(NamedTuple):
    """The address of the functions, and the token to call them with."""

    url: str
    token: str


class CallError(Exception):
    """A call failed; the message is one line for people, ``problem`` is the JSON for scripts."""

    def __init__(self, line: str, problem: Json) -> None:
        super().__init__(line)
        self.problem = problem


class UnavailableError(CallError):
    """No response, or one with a temporary error: the same call may succeed later."""


def connect() -> Api:
    """Return the API of STOKER_URL and STOKER_TOKEN, or else of the local stack.

    Raises:
        CallError: neither is set, and the local stack was never started; or STOKER_TOKEN is missing.
    """
    local = read_environment()
    url = os.environ.get("STOKER_URL") or local.get("STOKER_URL")
    if not url:
        line = "there is no local stack yet; start it (./taskw up), or set STOKER_URL and STOKER_TOKEN"
        raise CallError(line, {"title": "no address", "detail": line})
    token = os.environ.get("STOKER_TOKEN")
    if not token and "STOKER_URL" in os.environ and url != local.get("STOKER_URL"):
        line = f"STOKER_URL is set, STOKER_TOKEN is not: create a token where {url} runs (./taskw token)"
        raise CallError(line, {"title": "no token", "detail": line})
    return Api(url.rstrip("/"), token or mint(local["JWT_SECRETS"], "client", "jobs:read jobs:write", _TOKEN_SECONDS))


def call(
    api: Api,
    method: Literal["GET", "POST"],
    path: str,
    *,
    query: Mapping[str, Any] | None = None,
    body: Json | None = None,
) -> Json:
    """Return the JSON of the response.

    Raises:
        UnavailableError: no response, 429, 502, 503 or 504.
        CallError: any other error.
    """
    parameters = {name: value for name, value in (query or {}).items() if value is not None}
    headers = {"Authorization": f"Bearer {api.token}"}
    try:
        response = httpx.request(
            method, f"{api.url}{path}", params=parameters, json=body, headers=headers, timeout=_TIMEOUT_SECONDS
        )
    except httpx.TransportError as error:
        line = f"no response from {api.url} ({error or type(error).__name__}); to start the local stack: ./taskw up"
        raise UnavailableError(line, {"title": "no response", "detail": line}) from error
    if response.is_success:
        content: Json = response.json()
        return content
    raise error_from(response.status_code, _problem(response))


def error_from(status: int, problem: Json) -> CallError:
    """Return a problem+json as an exception whose message names the field and the fix."""
    if problem.get("errors"):
        message = "; ".join(f"{error['field']}: {error['detail']}" for error in problem["errors"])
    else:
        message = str(problem.get("detail") or problem.get("title") or "the request failed")
    if status == _UNAUTHENTICATED:
        message += "; create a new token with ./taskw token, and set STOKER_TOKEN to it"
    if problem.get("state"):
        message += f" (the job is {problem['state']})"
    trace = f", trace {problem['trace_id']}" if problem.get("trace_id") else ""
    error_class = UnavailableError if status in {429, 503} or status > _SERVER_ERROR else CallError
    return error_class(f"{message} [HTTP {status}{trace}]", {"status": status, **problem})


def _problem(response: httpx.Response) -> Json:
    try:
        content = response.json()
    except ValueError:  # not from Stoker: a proxy's error page
        content = None
    return content if isinstance(content, dict) else {"title": response.reason_phrase, "detail": response.text[:200]}
