"""presign: a trainer without storage credentials gets a link to one object of its own."""

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from functions import storage, store, store_read, tokens, web
from functions.errors import WrongState, unusable_field
from functions.spec import Key
from functions.states import FINAL
from functions.tables import Job
from functions.views import rfc3339

#: how long after a job's end its trainer may still store its log
LOG_GRACE = timedelta(seconds=600)


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """The body."""

    method: Literal["GET", "PUT"]
    key: Key


@web.endpoint("POST /v1/jobs/{job_id}/presign")
def presign(request: web.Request, job_id: str) -> web.Answer:
    """Answer with the link and the time at which it expires."""
    now = tokens.now()
    claims = tokens.require_callback(request, job_id)  # 401
    wanted = web.body(request, Wanted)  # 413, 415, 422
    job = store_read.job(job_id)  # 404, 503
    if not _is_allowed(job, wanted):
        raise unusable_field("key", f"a trainer of this job may not {wanted.method} {wanted.key}")
    store.refuse_replaced(job, claims.get("launch"))  # 409
    if job.state in FINAL and not _completes_log(job, wanted, now):
        raise WrongState(f"job {job.id} has ended ({job.state}): it gets no more links", state=job.state)
    url = storage.link(wanted.method, wanted.key)
    return {"url": url, "expires_at": rfc3339(now + timedelta(seconds=storage.LINK_SECONDS))}


def _is_allowed(job: Job, wanted: Wanted) -> bool:
    if wanted.key.startswith(storage.own_prefixes(job.id)):
        return True
    inputs = {f"datasets/{job.dataset_id}.zip", job.spec.get("checkpoint_key")}
    return wanted.method == "GET" and (wanted.key in inputs or wanted.key.startswith("models/"))


def _completes_log(job: Job, wanted: Wanted, now: datetime) -> bool:
    is_log = wanted.method == "PUT" and wanted.key.startswith(f"logs/job-{job.id}/")
    return is_log and job.finished_at is not None and now - job.finished_at <= LOG_GRACE
