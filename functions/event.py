"""event: a trainer reports an event; ``started`` claims the job and returns the attempt's number."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from functions.api import requests, tokens
from functions.api.requests import Request
from functions.api.routes import CALLBACK, DELIVERY, function, route
from functions.domain.callbacks import Callback, TrainerEvent
from functions.domain.states import State
from functions.store import callbacks


class Event(msgspec.Struct, forbid_unknown_fields=True):
    """The request body."""

    type: Literal["started", "checkpoint", "interrupted", "warning", "log"]
    message: Annotated[str, Meta(max_length=4_000)] | None = None
    data: dict[str, Any] | None = None
    attempt: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


class EventResponse(msgspec.Struct):
    """The response: the job's state, and its current attempt."""

    state: State
    attempt: int


@route("POST", "/v1/jobs/{job_id}/event", access=CALLBACK, headers=DELIVERY)
def record_event(request: Request, job_id: str, body: Event) -> EventResponse:
    """Record an event of a trainer. ``started`` claims the job; the response has the attempt's number."""
    call = Callback(job_id, requests.delivery(request, job_id), body.attempt, request.claims.get("launch"))  # 422
    trainer_event = TrainerEvent(body.type, body.message, body.data)
    if trainer_event.type == "started":
        job = callbacks.claim(call, trainer_event, now=tokens.now())  # 404, 409, 503
    else:
        job = callbacks.record_event(call, trainer_event, now=tokens.now())  # 404, 409, 422, 503
    return EventResponse(State(job.state), job.attempt)


event = function("event", record_event)
