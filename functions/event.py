"""event: a trainer says that something happened; ``started`` claims the job and is told its attempt."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from functions.api import requests, tokens
from functions.api.requests import Request
from functions.api.routes import CALLBACK, DELIVERY, function, route
from functions.domain.callbacks import Callback, TrainerEvent
from functions.domain.states import State
from functions.store import jobs


class Event(msgspec.Struct, forbid_unknown_fields=True):
    """The body."""

    type: Literal["started", "checkpoint", "interrupted", "warning", "log"]
    message: Annotated[str, Meta(max_length=4_000)] | None = None
    data: dict[str, Any] | None = None
    attempt: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


class EventResponse(msgspec.Struct):
    """The response: what ``started`` has claimed, or where the job stands."""

    state: State
    attempt: int


@route("POST", "/v1/jobs/{job_id}/event", access=CALLBACK, headers=DELIVERY)
def record_event(request: Request, job_id: str, body: Event) -> EventResponse:
    """Record an event of a trainer; ``started`` claims the job and receives its attempt."""
    call = Callback(job_id, requests.delivery(request, job_id), body.attempt, request.claims.get("launch"))  # 422
    said = TrainerEvent(body.type, body.message, body.data)
    if said.type == "started":
        job = jobs.claim(call, said, now=tokens.now())  # 404, 409, 503
    else:
        job = jobs.record_event(call, said, now=tokens.now())  # 404, 409, 422, 503
    return EventResponse(State(job.state), job.attempt)


event = function("event", record_event)
