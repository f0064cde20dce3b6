"""jobs: lists and shows jobs, their events and artifacts, and rejected events; changes a job's name, tags and notes."""

import hashlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from functions.api import tokens
from functions.api.requests import Request
from functions.api.responses import Response, empty, reply, tagged
from functions.api.routes import api, function, route
from functions.domain import curves, descriptions, names
from functions.domain.declarations import Declaration, Option
from functions.domain.errors import Forbidden, Unauthenticated, unusable_field
from functions.domain.spec import Name
from functions.domain.states import State
from functions.launchers import launching
from functions.runtime import logfiles, storage
from functions.runtime.registry import trainers
from functions.runtime.settings import settings
from functions.runtime.storage import Artifact
from functions.store import history, queries, views
from functions.store import jobs as jobs_store
from functions.store.views import JobEventView, JobView, RejectedEventView


def _refuse_revoked(job_id: str, revocations: object) -> None:
    # The job was deleted: the handler responds with 404.
    if queries.link_revocations(job_id) not in {None, revocations}:  # 503
        raise Unauthenticated("this link to the job was revoked; ask for a new one")


READ = api("jobs:read", "jobs:write")
#: also by a link to the job
READ_ONE = api("jobs:read", "jobs:write", tokens.LINK_SCOPE, refuse_link=_refuse_revoked)

Limit = Annotated[int, Meta(ge=1, le=500)]
Time = Annotated[datetime, Meta(tz=True, description="a time in RFC 3339 notation, such as 2026-11-26T10:00:00Z")]
Position = Annotated[int, Meta(ge=0, le=2**62)]


#: how long after a job's end its log may still grow
LOG_DELAY = timedelta(seconds=30)


class JobsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The query parameters of the list of jobs."""

    #: any of these, separated by commas
    state: list[State] = []
    framework: str | None = None
    dataset_id: str | None = None
    owner: str | None = None
    #: a part of the name, in any case
    name: Annotated[str, Meta(max_length=names.NAME_LENGTH)] | None = None
    tag: Annotated[str, Meta(max_length=descriptions.TAG_LENGTH)] | None = None
    created_after: Time | None = None
    created_before: Time | None = None
    sort: Literal["-created_at", "created_at"] = "-created_at"
    after: str | None = None
    #: the earlier name of ``after``
    cursor: str | None = None
    limit: Limit = 50

    def filters(self) -> dict[str, str]:
        """Return the columns to filter by, and their values."""
        named = {"framework": self.framework, "dataset_id": self.dataset_id}
        equal = {name: names.normalised(value) for name, value in named.items() if value is not None}
        return equal if self.owner is None else equal | {"owner": self.owner}  # a token's subject is never changed

    def search(self) -> queries.Search:
        """Return the other conditions."""
        return queries.Search(
            states=frozenset(self.state),
            name=self.name or None,
            tag=names.normalised(self.tag) if self.tag else None,
            created_after=self.created_after,
            created_before=self.created_before,
            oldest_first=self.sort == "created_at",
        )


class EventsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The query parameters of a job's timeline."""

    kind: Literal["state", "event", "heartbeat"] | None = None
    after: Position = 0
    limit: Limit = 100


class MetricsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The query parameters of a job's metrics."""

    points: Annotated[int, Meta(ge=2, le=10_000)] = 500


class LogQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The query parameters of a job's log."""

    offset: Annotated[int, Meta(ge=-(2**53), le=2**53)] = 0
    attempt: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None


class ArtifactsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The query parameters of a job's artifacts."""

    #: of the keys, such as results/
    prefix: Annotated[str, Meta(max_length=1_024)] = ""
    after: Annotated[str, Meta(max_length=1_024)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 1_000


class RejectedQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The query parameters of the list of rejected events."""

    after: Position = 0
    limit: Limit = 100


class Changes(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a PATCH."""

    name: Name | UnsetType | None = UNSET
    tags: descriptions.Tags | UnsetType | None = UNSET
    notes: descriptions.Notes | UnsetType | None = UNSET

    def columns(self) -> dict[str, Any]:
        """Return the columns that change, and their values."""
        columns: dict[str, Any] = {}
        if self.name is not UNSET:
            columns["name"] = self.name and names.normalised(self.name)
        if self.tags is not UNSET:
            columns["tags"] = descriptions.normalised_tags(self.tags or [])
        if self.notes is not UNSET:
            columns["notes"] = self.notes and descriptions.normalised_notes(self.notes)
        return columns


class NewJobLink(msgspec.Struct, forbid_unknown_fields=True):
    """The request for a read-only link to a job: how long it is valid, from a minute to 30 days."""

    valid_seconds: Annotated[int, Meta(ge=60, le=30 * 86_400)] = 7 * 86_400


class JobLink(msgspec.Struct):
    """A read-only link: ``path`` after the console's address, and the token that it contains, for the API."""

    path: str
    token: str
    expires_at: Time


class JobsPage(msgspec.Struct):
    """A page of jobs; ``next_after`` is the ``after`` of the next page, and ``next_cursor`` the same."""

    jobs: list[JobView]
    next_after: str | None
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


class Metrics(msgspec.Struct):
    """Columns of the same length, ``rows``: epoch, step, time, and one for each metric."""

    columns: dict[str, list[float | None]]
    rows: int


class RejectedEventsPage(msgspec.Struct):
    """A page of rejected events, oldest first; ``next_after`` is the ``after`` of the next page."""

    events: list[RejectedEventView]
    next_after: int | None


class Artifacts(msgspec.Struct):
    """A job's stored objects, the trainer's image, and the version of the dataset."""

    artifacts: list[Artifact]
    image: str | None
    dataset_etag: str | None
    #: the ``after`` of the next page
    next_after: str | None


class Framework(msgspec.Struct):
    """A framework; ``options`` are hyperparameters (null: unknown), ``fields`` those of the job with their defaults."""

    framework: str
    #: names, and shell patterns of names
    models: tuple[str, ...]
    tasks: tuple[str, ...]
    fields: list[Option]
    options: list[Option] | None
    #: the framework's own names of fields, such as lr0 for learning_rate
    aliases: dict[str, str]


class Frameworks(msgspec.Struct):
    """All frameworks, by name."""

    frameworks: list[Framework]


@route("GET", "/v1/jobs", access=READ)
def list_jobs(_: Request, query: JobsQuery) -> JobsPage:
    """List jobs, newest first by default. Conditions are combined with AND; ``state`` accepts several states."""
    after = query.after if query.after is not None else query.cursor
    jobs, next_after = queries.jobs(query.filters(), cursor=after, limit=query.limit, search=query.search())  # 422, 503
    return JobsPage([views.job_json(job) for job in jobs], next_after, next_after)


@route("GET", "/v1/jobs/{job_id}", access=READ_ONE)
def get_job(_: Request, job_id: str) -> JobView:
    """Return one job; while it waits, with its place in the queue (1 is next) and how many jobs wait."""
    return views.placed_json(*queries.job_with_place(job_id))  # 404, 503


@route("PATCH", "/v1/jobs/{job_id}", access=api("jobs:write"))
def describe_job(_: Request, job_id: str, body: Changes) -> JobView:
    """Change a job's name, tags or notes; null removes a value, and absent fields keep theirs."""
    return views.job_json(jobs_store.describe(job_id, body.columns()))  # 404, 422, 503


@route("DELETE", "/v1/jobs/{job_id}", access=api("jobs:write"), statuses=(204,))
def delete_job(_: Request, job_id: str) -> Response:
    """Delete an ended job: its objects in the bucket, and then its rows.

    If the storage is unavailable, delete the job again later. Jobs that were resumed or cloned from it stay.
    """
    jobs_store.refuse_open(queries.job(job_id), job_id)  # 404, 409, 503
    storage.delete_artifacts(job_id)  # 503
    jobs_store.remove(job_id, now=tokens.now())  # 404, 409, 503
    return empty(204)


@route("GET", "/v1/jobs/{job_id}/events", access=READ_ONE)
def list_job_events(_: Request, job_id: str, query: EventsQuery) -> JobEventsPage:
    """List a job's timeline (state changes, events and heartbeats), oldest first."""
    rows, next_after = queries.events(job_id, kind=query.kind, after=query.after, limit=query.limit)  # 404, 503
    archive_key = None if rows else queries.archive_key(job_id)
    archive = Archive(archive_key, storage.public_link(archive_key)) if archive_key else UNSET
    return JobEventsPage([views.event_json(row) for row in rows], next_after, archive)


@route("GET", "/v1/jobs/{job_id}/metrics", access=READ_ONE)
def get_job_metrics(request: Request, job_id: str, query: MetricsQuery) -> Metrics | Response:
    """Return a job's metrics over time as columns, thinned to about ``points`` rows.

    First and last rows and each metric's extremes stay. ``time`` is in seconds since 1970.
    """
    tag = hashlib.sha256(f"{history.version(job_id)} {query.points}".encode()).hexdigest()[:32]  # 404, 503
    known = tagged(Response(200), tag, request.headers.get("if-none-match", ""))
    if known.status != 200:  # noqa: PLR2004 -- HTTP's OK
        return known
    columns = curves.columns(history.metrics(job_id), query.points)  # 503
    response = reply(Metrics(columns, len(columns["time"])))
    return response._replace(headers={**response.headers, **known.headers})


@route("GET", "/v1/jobs/{job_id}/log", access=READ_ONE, media_type="text/plain")
def get_job_log(_: Request, job_id: str, query: LogQuery) -> Response:
    """Return a part of the log of a job's attempt (by default the latest), at most 1 MiB, from a byte offset.

    A negative offset counts from the end. The header ``Log-Next-Offset`` is where the next part begins,
    ``Log-Complete`` whether nothing more will follow, ``Log-Attempt`` the attempt.
    """
    job = queries.job(job_id)  # 404, 503
    latest = max(job.attempt, 1)
    attempt = latest if query.attempt is None else query.attempt
    if attempt > latest:
        raise unusable_field("attempt", f"the latest attempt of this job is {latest}")
    part = logfiles.stored(job_id, attempt, query.offset)  # 503
    if part is None and (file := launching.local_log(job, attempt)) is not None:
        part = logfiles.local(file, query.offset)
    part = part or logfiles.Part(0, b"", 0)
    # A trainer stores the end of its log after the job's end.
    is_over = job.finished_at is not None and tokens.now() - job.finished_at > LOG_DELAY
    next_offset = part.start + len(part.content)
    headers = {
        "content-type": "text/plain; charset=utf-8",
        "log-next-offset": str(next_offset),
        "log-attempt": str(attempt),
        "log-complete": str((is_over or attempt < latest) and next_offset >= part.size_bytes).lower(),
    }
    return Response(200, part.content.decode("utf-8", "replace").encode(), headers)


@route("GET", "/v1/jobs/{job_id}/artifacts", access=READ_ONE)
def list_job_artifacts(_: Request, job_id: str, query: ArtifactsQuery) -> Artifacts:
    """List the objects that a job has stored, by key, with download links."""
    job = queries.job(job_id)  # 404, 503
    page, next_after = storage.artifacts(job.id, prefix=query.prefix, after=query.after or "", limit=query.limit)  # 503
    return Artifacts(page, job.image, job.dataset_etag, next_after)


@route("POST", "/v1/jobs/{job_id}/links", access=READ, statuses=(201,))
def create_job_link(request: Request, job_id: str, body: NewJobLink) -> JobLink | Response:
    """Return a link with which anyone can read only this job, until it expires or is revoked.

    It expires with the Stoker token that created it, and after JOB_LINK_DAYS at the latest.
    """
    job = queries.job(job_id)  # 404, 503
    days = settings().job_link_days
    if not days:
        raise Forbidden("this installation has no links to jobs (JOB_LINK_DAYS is 0)")
    now = tokens.now()
    valid_seconds = min(body.valid_seconds, days * 86_400)
    token, expires_at = tokens.mint_link(request, job_id, valid_seconds, revocations=job.link_revocations, now=now)
    path = f"/jobs/{job_id}#token={token}"
    return reply(JobLink(path, token, expires_at), 201, Location=f"/v1/jobs/{job_id}")


@route("DELETE", "/v1/jobs/{job_id}/links", access=api("jobs:write"), statuses=(204,))
def revoke_job_links(_: Request, job_id: str) -> Response:
    """Revoke all existing links to this job; new ones can be created."""
    jobs_store.revoke_links(job_id)  # 404, 503
    return empty(204)


@route("GET", "/v1/rejected-events", access=READ)
def list_rejected_events(_: Request, query: RejectedQuery) -> RejectedEventsPage:
    """List events that can never become a job, with the reason."""
    rows, next_after = queries.rejected_events(after=query.after, limit=query.limit)  # 503
    return RejectedEventsPage([views.rejected_json(row) for row in rows], next_after)


@route("GET", "/v1/frameworks", access=READ)
def list_frameworks(_: Request) -> Frameworks:
    """List the frameworks: their models, tasks and options, as each trainer declares them."""
    return Frameworks([_framework(name, trainer.declared) for name, trainer in sorted(trainers().items())])


def _framework(name: str, declared: Declaration) -> Framework:
    parts = (declared.models, declared.tasks, declared.fields, declared.options, declared.aliases)
    return Framework(name, *parts)


@route("GET", "/v1/openapi.json", access=READ)
def get_openapi(_: Request) -> dict[str, Any] | Response:
    """Return the OpenAPI description of this API."""
    description = Path(__file__).with_name("api") / "openapi.json"
    return Response(200, description.read_bytes(), {"content-type": "application/json"})


jobs = function(
    "jobs",
    list_jobs,
    get_job,
    describe_job,
    delete_job,
    list_job_events,
    get_job_metrics,
    get_job_log,
    list_job_artifacts,
    create_job_link,
    revoke_job_links,
    list_rejected_events,
    list_frameworks,
    get_openapi,
    other_methods={"/v1/jobs": {"POST"}},
)
