"""jobs: read access to jobs, their events and artifacts, and to rejected events."""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from functions.api.requests import Request
from functions.api.responses import Response
from functions.api.routes import api, function, route
from functions.domain import names
from functions.domain.states import State
from functions.runtime import storage
from functions.runtime.storage import Artifact
from functions.store import queries, views
from functions.store.views import JobEventView, JobView, RejectedEventView

READ = api("jobs:read", "jobs:write")

Limit = Annotated[int, Meta(ge=1, le=500)]
Position = Annotated[int, Meta(ge=0, le=2**62)]


class JobsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The query parameters of the list of jobs."""

    state: State | None = None
    framework: str | None = None
    dataset_id: str | None = None
    cursor: str | None = None
    limit: Limit = 50

    def filters(self) -> dict[str, str]:
        """Return the columns to filter by, and their values."""
        equal = {"state": self.state, "framework": self.framework, "dataset_id": self.dataset_id}
        return {name: names.normalised(value) for name, value in equal.items() if value is not None}


class EventsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The query parameters of a job's timeline."""

    kind: Literal["state", "event", "heartbeat"] | None = None
    after: Position = 0
    limit: Limit = 100


class RejectedQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The query parameters of the list of rejected events."""

    after: Position = 0
    limit: Limit = 100


class JobsPage(msgspec.Struct):
    """A page of jobs, newest first; ``next_cursor`` is the ``cursor`` of the next page."""

    jobs: list[JobView]
    next_cursor: str | None


class Archive(msgspec.Struct):
    """The object with a job's archived events: gzipped JSON lines, each with its job_id."""

    key: str
    url: str


class JobEventsPage(msgspec.Struct):
    """A page of a job's events, oldest first; ``next_after`` is the ``after`` of the next page."""

    events: list[JobEventView]
    next_after: int | None
    #: present once retention has archived all events
    archive: Archive | UnsetType = UNSET


class RejectedEventsPage(msgspec.Struct):
    """A page of rejected events, oldest first; ``next_after`` is the ``after`` of the next page."""

    events: list[RejectedEventView]
    next_after: int | None


class Artifacts(msgspec.Struct):
    """A job's stored objects, the trainer's image, and the version of the dataset."""

    artifacts: list[Artifact]
    image: str | None
    dataset_etag: str | None


@route("GET", "/v1/jobs", access=READ)
def list_jobs(_: Request, query: JobsQuery) -> JobsPage:
    """List jobs, newest first."""
    jobs, next_cursor = queries.jobs(query.filters(), cursor=query.cursor, limit=query.limit)  # 422, 503
    return JobsPage([views.job_json(job) for job in jobs], next_cursor)


@route("GET", "/v1/jobs/{job_id}", access=READ)
def get_job(_: Request, job_id: str) -> JobView:
    """Return one job."""
    return views.job_json(queries.job(job_id))  # 404, 503


@route("GET", "/v1/jobs/{job_id}/events", access=READ)
def list_job_events(_: Request, job_id: str, query: EventsQuery) -> JobEventsPage:
    """List a job's timeline (state changes, events and heartbeats), oldest first."""
    rows, next_after = queries.events(job_id, kind=query.kind, after=query.after, limit=query.limit)  # 404, 503
    archive_key = None if rows else queries.archive_key(job_id)
    archive = Archive(archive_key, storage.public_link(archive_key)) if archive_key else UNSET
    return JobEventsPage([views.event_json(row) for row in rows], next_after, archive)


@route("GET", "/v1/jobs/{job_id}/artifacts", access=READ)
def list_job_artifacts(_: Request, job_id: str) -> Artifacts:
    """List the objects that a job has stored, with download links."""
    job = queries.job(job_id)  # 404, 503
    return Artifacts(storage.artifacts(job.id), job.image, job.dataset_etag)  # 503


@route("GET", "/v1/rejected-events", access=READ)
def list_rejected_events(_: Request, query: RejectedQuery) -> RejectedEventsPage:
    """List events that can never become a job, with the reason."""
    rows, next_after = queries.rejected_events(after=query.after, limit=query.limit)  # 503
    return RejectedEventsPage([views.rejected_json(row) for row in rows], next_after)


@route("GET", "/v1/openapi.json", access=READ)
def get_openapi(_: Request) -> dict[str, Any] | Response:
    """Return the OpenAPI description of this API."""
    description = Path(__file__).with_name("api") / "openapi.json"
    return Response(200, description.read_bytes(), {"content-type": "application/json"})


jobs = function(
    "jobs",
    list_jobs,
    get_job,
    list_job_events,
    list_job_artifacts,
    list_rejected_events,
    get_openapi,
    other_methods={"/v1/jobs": {"POST"}},
)
