"""HTTP to the functions: one call, its JSON, or an error in one line that says what to do."""

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
    """Where the functions are, and as whom to call them."""

    url: str
    token: str


class CallError(Exception):
    """A call that did not do what was asked; its words are one line for a person, ``problem`` is for a script."""

    def __init__(self, line: str, problem: Json) -> None:
        super().__init__(line)
        self.problem = problem


class AwayError(CallError):
    """No answer, or one that says to try again: the same call may succeed later."""


def connect() -> Api:
    """Return where STOKER_URL and STOKER_TOKEN lead, else the local stack.

    Raises:
        CallError: neither is set, and the local stack was never started.
    """
    local = read_environment()
    url = os.environ.get("STOKER_URL") or local.get("STOKER_URL")
    if not url:
        line = "there is no local stack yet; start it (./taskw up), or set STOKER_URL and STOKER_TOKEN"
        raise CallError(line, {"title": "no address", "detail": line})
    token = os.environ.get("STOKER_TOKEN")
    if not token and "STOKER_URL" in os.environ and url != local.get("STOKER_URL"):
        line = f"STOKER_URL is set, STOKER_TOKEN is not: make a token where {url} runs (./taskw token)"
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
    """Return the JSON answer.

    Raises:
        AwayError: no answer, 429 or 5xx.
        CallError: any other refusal.
    """
    asked = {name: value for name, value in (query or {}).items() if value is not None}
    sent = {"Authorization": f"Bearer {api.token}"}
    try:
        answer = httpx.request(
            method, f"{api.url}{path}", params=asked, json=body, headers=sent, timeout=_TIMEOUT_SECONDS
        )
    except httpx.TransportError as error:
        line = f"no answer from {api.url} ({error or type(error).__name__}); for the local stack: ./taskw up"
        raise AwayError(line, {"title": "no answer", "detail": line}) from error
    if answer.is_success:
        content: Json = answer.json()
        return content
    raise refused(answer.status_code, _problem(answer))


def refused(status: int, problem: Json) -> CallError:
    """Return a problem+json as an error whose one line names the field and the fix."""
    if problem.get("errors"):
        said = "; ".join(f"{error['field']}: {error['detail']}" for error in problem["errors"])
    else:
        said = str(problem.get("detail") or problem.get("title") or "refused")
    if status == _UNAUTHENTICATED:
        said += "; make a new token with ./taskw token, and set STOKER_TOKEN to it"
    if problem.get("state"):
        said += f" (the job is {problem['state']})"
    trace = f", trace {problem['trace_id']}" if problem.get("trace_id") else ""
    kind = AwayError if status in {429, 503} or status > _SERVER_ERROR else CallError
    return kind(f"{said} [HTTP {status}{trace}]", {"status": status, **problem})


def _problem(answer: httpx.Response) -> Json:
    try:
        content = answer.json()
    except ValueError:  # not ours: a proxy's page
        content = None
    return content if isinstance(content, dict) else {"title": answer.reason_phrase, "detail": answer.text[:200]}
