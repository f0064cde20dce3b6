"""event: a trainer says that something happened; ``started`` claims the job and is told its attempt."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from functions import store, tokens, web
from functions.callback import Call, Said


class Event(msgspec.Struct, forbid_unknown_fields=True):
    """The body."""

    type: Literal["started", "checkpoint", "interrupted", "warning", "log"]
    message: Annotated[str, Meta(max_length=4_000)] | None = None
    data: dict[str, Any] | None = None
    attempt: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


@web.endpoint("POST /v1/jobs/{job_id}/event")
def event(request: web.Request, job_id: str) -> web.Answer:
    """Answer with the job's state and attempt."""
    claims = tokens.require_callback(request, job_id)  # 401
    body = web.body(request, Event)  # 413, 415, 422
    call = Call(job_id, web.delivery(request, job_id), body.attempt, claims.get("launch"))  # 422
    said = Said(body.type, body.message, body.data)
    if said.type == "started":
        job = store.claim(call, said, at=tokens.now())  # 404, 409, 503
    else:
        job = store.record_event(call, said, at=tokens.now())  # 404, 409, 422, 503
    return {"state": job.state, "attempt": job.attempt}
