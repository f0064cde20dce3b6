"""presign: a trainer without storage credentials asks for a link to one object of its own."""

from datetime import timedelta
from typing import Literal

import msgspec

from functions import storage, store_read, tokens, web
from functions.errors import unusable_field
from functions.spec import Key
from functions.tables import Job
from functions.views import rfc3339


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """The body."""

    method: Literal["GET", "PUT"]
    key: Key


@web.endpoint("POST /v1/jobs/{job_id}/presign")
def presign(request: web.Request, job_id: str) -> web.Answer:
    """Answer with the link, and until when it is good."""
    at = tokens.now()
    tokens.require_callback(request, job_id)  # 401
    wanted = web.body(request, Wanted)  # 413, 415, 422
    job = store_read.job(job_id)  # 404, 503
    if not _allowed(job, wanted):
        raise unusable_field("key", f"a trainer of this job may not {wanted.method} {wanted.key}")
    url = storage.link(wanted.method, wanted.key)
    return {"url": url, "expires_at": rfc3339(at + timedelta(seconds=storage.LINK_SECONDS))}


def _allowed(job: Job, wanted: Wanted) -> bool:
    if wanted.key.startswith(storage.own_prefixes(job.id)):
        return True
    inputs = {f"datasets/{job.dataset_id}.zip", job.spec.get("checkpoint_key")}
    return wanted.method == "GET" and (wanted.key in inputs or wanted.key.startswith("models/"))
