"""Responses of handlers: JSON, an empty body, or problem+json (RFC 9457)."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from functions.domain.errors import Refusal
from functions.runtime import logs

#: a time in RFC 3339 notation
Time = Annotated[datetime, Meta(tz=True)]


class Response(NamedTuple):
    """A status, headers and a body."""

    status: int
    content: bytes = b""
    headers: Mapping[str, str] = {}


def reply(value: object, status: int = 200, **headers: str) -> Response:
    """Return a JSON response of a model or a dictionary."""
    return Response(status, msgspec.json.encode(value), {"content-type": "application/json", **headers})


def tagged(response: Response, tag: str, if_none_match: str) -> Response:
    """Return a response with its ETag, or 304 without a body if the caller already has it (RFC 9110, 13.1.2)."""
    headers = {"etag": f'"{tag}"', "cache-control": "private, no-cache"}
    known = {one.strip().removeprefix("W/").strip('"') for one in if_none_match.split(",")}
    if known & {tag, "*"}:
        return Response(304, b"", headers)
    return response._replace(headers={**response.headers, **headers})


def empty(status: int) -> Response:
    """Return an empty response: a Broker treats a 2xx whose body is not a CloudEvent as an error."""
    return Response(status)


def problem(refusal: Refusal, headers: Mapping[str, str] | None = None) -> Response:
    """Return the problem+json response for a refusal."""
    members = {
        "title": refusal.title,
        "status": refusal.status,
        "detail": str(refusal),
        "trace_id": logs.context.get().get("trace_id", ""),
        **refusal.members,
    }
    retry_after = refusal.members.get("retry_after_seconds", 5)
    of_status = {
        503: {"retry-after": "5"},
        429: {"retry-after": str(retry_after)},
        401: {"www-authenticate": "Bearer"},
    }.get(refusal.status, {})
    # Not msgspec: a detail may quote lone surrogates, which only json writes as escapes.
    content = json.dumps(members).encode()
    return Response(
        refusal.status, content, {"content-type": "application/problem+json", **of_status, **(headers or {})}
    )
