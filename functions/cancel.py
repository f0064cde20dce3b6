"""cancel: the job is CANCELLED at once; its trainer gets SIGTERM, a grace, then SIGKILL."""

import logging
from typing import Annotated

import msgspec
from msgspec import Meta

from functions import cloudevent, intake, launcher, store, store_read, tokens, views, web
from functions.cloudevent import CloudEvent
from functions.errors import NotFound, Unusable, WrongState
from functions.logs import log
from functions.states import State
from functions.tables import Job

CANCEL = "dev.stoker.job.cancel"


class Cancel(msgspec.Struct, forbid_unknown_fields=True):
    """The body, which may be absent."""

    message: Annotated[str, Meta(max_length=4_000)] | None = None


@web.endpoint("POST /v1/jobs/{job_id}/cancel", "POST /v1/cancel", "POST /")
def cancel(request: web.Request, job_id: str = "") -> web.Answer:
    """Answer with the job; a CloudEvent of type ``dev.stoker.job.cancel``, subject the job's id, with nothing."""
    tokens.require_api(request, "jobs:write")  # 401, 403
    if job_id:
        asked = web.body(request, Cancel)  # 413, 415, 422
        return views.job_json(_cancel(job_id, asked.message))  # 404, 409, 503
    body = web.raw_body(request, web.DELIVERY_LIMIT_BYTES)  # 413
    with intake.rejecting(body.decode("utf-8", "replace"), at=tokens.now()):
        for event in cloudevent.parse_each(request.headers, body):
            if isinstance(event, CloudEvent) and event.type == CANCEL:
                _cancel_by_event(event)  # 503
            else:
                log(logging.WARNING, "not an event that cancels a job", detail=str(getattr(event, "type", event))[:200])
    return web.empty(202)


def _cancel_by_event(event: CloudEvent) -> None:
    try:
        _cancel(event.subject, f"by event {event.id} of {event.source}")
    except (NotFound, WrongState, Unusable):  # a retry would change nothing: it has ended, or never was
        return


def _cancel(job_id: str, message: str | None) -> Job:
    try:
        job = store.move(job_id, State.CANCELLED, message=message, at=tokens.now())
    except WrongState as refused:
        if refused.members["state"] != State.CANCELLED:
            raise
        job = store_read.job(job_id)
    # Safe to repeat, and sweep does: a crash right here leaves a trainer of an ended job, which it stops.
    launcher.stop(job.id)
    return job
