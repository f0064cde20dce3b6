"""presign: gives a trainer without storage credentials a presigned link to one object of its job."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from functions.api import tokens
from functions.api.requests import Request
from functions.api.responses import Time
from functions.api.routes import CALLBACK, function, route
from functions.domain.errors import WrongState, unusable_field
from functions.domain.spec import Key
from functions.domain.states import FINAL, State
from functions.runtime import storage
from functions.runtime.settings import settings
from functions.store import callbacks, queries
from functions.store.tables import Job

#: how long after a job's end its trainer may still store its log
LOG_GRACE = timedelta(seconds=600)


class PresignRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The request body."""

    method: Literal["GET", "PUT"]
    key: Key
    #: the number of parts of a multipart upload, for objects too large for one request (5 GiB)
    parts: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    #: a multipart upload in progress that needs new links
    upload_id: Annotated[str, Meta(min_length=1, max_length=1_024)] | None = None


class Link(msgspec.Struct, omit_defaults=True):
    """The response: one link, or the links of a multipart upload."""

    expires_at: Time
    url: str | None = None
    urls: list[str] | None = None
    complete_url: str | None = None
    abort_url: str | None = None
    upload_id: str | None = None


@route("POST", "/v1/jobs/{job_id}/presign", access=CALLBACK)
def presign_object(request: Request, job_id: str, body: PresignRequest) -> Link:
    """Return a presigned link to one object of the job, and the time when it expires."""
    now = tokens.now()
    job = queries.job(job_id)  # 404, 503
    if not _is_allowed(job, body):
        raise unusable_field("key", f"a trainer of this job may not {body.method} {body.key}")
    if body.method == "GET" and body.parts is not None:
        raise unusable_field("parts", "only uploads (PUT) have parts; leave it out of a download")
    if body.upload_id is not None and body.parts is None:
        raise unusable_field("upload_id", "send parts (the number of parts) too")
    launch = request.claims.get("launch")
    if not _completes_log_of_check(job, body, launch):
        callbacks.refuse_replaced(job, launch)  # 409
    if job.state in FINAL and not _completes_log(job, body, now) and not _stores_last_checkpoint(job, body, now):
        raise WrongState(f"job {job.id} has ended ({job.state}): it gets no more links", state=job.state)
    expires_at = now + timedelta(seconds=storage.LINK_SECONDS)
    if body.parts is None:
        return Link(expires_at, url=storage.link(body.method, body.key))
    links = storage.part_links(body.key, body.parts, body.upload_id)  # 503
    return Link(expires_at, None, links.urls, links.complete_url, links.abort_url, links.upload_id)


def _is_allowed(job: Job, wanted: PresignRequest) -> bool:
    if wanted.key.startswith(storage.own_prefixes(job.id)):
        return True
    inputs = {job.dataset_key or storage.dataset_key(job.dataset_id), job.spec.get("checkpoint_key")}
    return wanted.method == "GET" and (wanted.key in inputs or wanted.key.startswith("models/"))


def _completes_log_of_check(job: Job, wanted: PresignRequest, launch: int | None) -> bool:
    """Return whether this is the log of a check that has passed, and whose launch was therefore replaced."""
    is_log = wanted.method == "PUT" and wanted.key in {
        f"logs/job-{job.id}/attempt-{attempt}.log" for attempt in range(1, job.check_attempts + 1)
    }
    return is_log and launch == job.check_launches


def _completes_log(job: Job, wanted: PresignRequest, now: datetime) -> bool:
    is_log = wanted.method == "PUT" and wanted.key.startswith(f"logs/job-{job.id}/")
    return is_log and job.finished_at is not None and now - job.finished_at <= LOG_GRACE


def _stores_last_checkpoint(job: Job, wanted: PresignRequest, now: datetime) -> bool:
    """Return whether this is the last checkpoint of a cancelled job, for a job that resumes it."""
    is_last = wanted.method == "PUT" and wanted.key == f"checkpoints/job-{job.id}/last.pt"
    if not is_last or job.state != State.CANCELLED or job.finished_at is None:
        return False
    return now - job.finished_at <= timedelta(seconds=settings().stop_grace_seconds)


presign = function("presign", presign_object)
