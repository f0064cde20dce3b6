"""cancel: moves a job to CANCELLED at once; its trainer gets SIGTERM, and SIGKILL after a grace period."""

from typing import Annotated

import msgspec
from msgspec import Meta

from functions.api import requests, tokens
from functions.api.requests import Request
from functions.api.responses import Response, empty
from functions.api.routes import EVENT, api, function, route
from functions.domain.errors import Unusable, WrongState
from functions.domain.states import State
from functions.events import cloudevents, intake
from functions.events.cloudevents import CloudEvent
from functions.launchers import launching
from functions.runtime import logs
from functions.store import jobs, queries, views
from functions.store.tables import Job
from functions.store.views import JobView

CANCEL = "dev.stoker.job.cancel"


class Cancel(msgspec.Struct, forbid_unknown_fields=True):
    """The request body; optional."""

    message: Annotated[str, Meta(max_length=4_000)] | None = None


@route("POST", "/v1/jobs/{job_id}/cancel", access=api("jobs:write"))
def cancel_job(_: Request, job_id: str, body: Cancel) -> JobView:
    """Cancel a job. Cancelling a CANCELLED job again changes nothing."""
    return views.job_json(_cancel(job_id, body.message))  # 404, 409, 503


@route("POST", "/v1/cancel", access=api("jobs:write"), statuses=(202,), headers=EVENT, accepts=requests.CloudEvent)
def receive_cancel_event(request: Request) -> Response:
    """Receive CloudEvents of type ``dev.stoker.job.cancel`` whose subject is the id of the job to cancel.

    An event that cannot cancel a job is stored as a rejected event with the reason; the rest of its batch is processed.
    """
    body = requests.raw_body(request)  # 413
    now, text = tokens.now(), body.decode("utf-8", "replace")
    for event in _events(request, body):
        with logs.restored_context(), intake.rejecting(text, now=now):
            _cancel_by_event(event)  # 503
    return empty(202)


def _events(request: Request, body: bytes) -> list[CloudEvent | ValueError]:
    try:
        return cloudevents.parse_each(request.headers, body)
    except ValueError as error:
        return [error]


def _cancel_by_event(event: CloudEvent | ValueError) -> None:
    """Cancel the job that an event names. Raises Unusable or NotFound if it names none."""
    if isinstance(event, ValueError):
        raise Unusable(str(event))
    if event.type != CANCEL:
        raise Unusable(f"a CloudEvent of type {event.type} does not cancel a job: filter it out in the Trigger")
    if not event.subject:
        raise Unusable(f"event {event.id[:100]} of type {CANCEL} has no subject: set it to the job's id")
    try:
        _cancel(event.subject, f"by event {event.id} of {event.source}")
    except WrongState:  # the job has already ended; a redelivery would change nothing
        return


def _cancel(job_id: str, message: str | None) -> Job:
    try:
        job = jobs.move(job_id, State.CANCELLED, message=message, now=tokens.now())
    except WrongState as error:
        if error.members["state"] != State.CANCELLED:
            raise
        job = queries.job(job_id)
    # If the process crashes before this line, sweep stops the trainer of the ended job.
    launching.stop(job.id)
    return job


cancel = function("cancel", cancel_job, receive_cancel_event, receive_cancel_event.at("/"))
