"""jobs: the read side: pages of jobs, one job, its events, its artifacts; and what was rejected."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from functions import storage, store_read, tokens, views, web
from functions.states import State

Limit = Annotated[int, Meta(ge=1, le=500)]
Position = Annotated[int, Meta(ge=0, le=2**62)]


class JobsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which jobs."""

    state: State | None = None
    framework: str | None = None
    dataset_id: str | None = None
    cursor: str | None = None
    limit: Limit = 50

    def filters(self) -> dict[str, str]:
        """Return the equalities asked for."""
        asked = {"state": self.state, "framework": self.framework, "dataset_id": self.dataset_id}
        return {name: value for name, value in asked.items() if value is not None}


class EventsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which of a job's events."""

    kind: Literal["state", "event", "heartbeat"] | None = None
    after: Position = 0
    limit: Limit = 100


class RejectedQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which of the rejected events."""

    after: Position = 0
    limit: Limit = 100


@web.endpoint(
    "GET /v1/jobs",
    "GET /v1/jobs/{job_id}",
    "GET /v1/jobs/{job_id}/events",
    "GET /v1/jobs/{job_id}/artifacts",
    "GET /v1/rejected-events",
    "GET /v1/openapi.json",
)
def jobs(request: web.Request, job_id: str = "") -> web.Answer:
    """Answer with what the path names; the API's description takes a token as all else does."""
    tokens.require_api(request, "jobs:read", "jobs:write")  # 401, 403
    path = request.path.rstrip("/")
    if path == "/v1/rejected-events":
        return _rejected(web.query(request, RejectedQuery))  # 422, 503
    if path == "/v1/openapi.json":
        return web.json_text(Path(__file__).with_name("openapi.json").read_bytes())
    if not job_id:
        return _page(web.query(request, JobsQuery))  # 422, 503
    if path.endswith(f"/{job_id}/events"):
        return _events(job_id, web.query(request, EventsQuery))  # 404, 422, 503
    if path.endswith(f"/{job_id}/artifacts"):
        return {"artifacts": storage.artifacts(store_read.job(job_id).id)}  # 404, 503
    return views.job_json(store_read.job(job_id))  # 404, 503


def _page(asked: JobsQuery) -> web.Answer:
    found, next_cursor = store_read.jobs(asked.filters(), cursor=asked.cursor, limit=asked.limit)
    return {"jobs": [views.job_json(job) for job in found], "next_cursor": next_cursor}


def _events(job_id: str, asked: EventsQuery) -> web.Answer:
    found, next_after = store_read.events(job_id, kind=asked.kind, after=asked.after, limit=asked.limit)
    answer = {"events": [views.event_json(row) for row in found], "next_after": next_after}
    archive_key = None if found else store_read.archive_key(job_id)
    # Retention has moved all of them: one object, gzip of JSON lines, each with its job_id.
    return answer | ({"archive": {"key": archive_key, "url": storage.link("GET", archive_key)}} if archive_key else {})


def _rejected(asked: RejectedQuery) -> web.Answer:
    found, next_after = store_read.rejected_events(after=asked.after, limit=asked.limit)
    return {"events": [views.event_json(row) for row in found], "next_after": next_after}
