"""done: a trainer reports, once, how its job ended."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from functions import store, tokens
from functions.api import requests
from functions.api.requests import Request
from functions.api.routes import CALLBACK, DELIVERY, function, route
from functions.callback import Call
from functions.states import Reason, State


class Error(msgspec.Struct, forbid_unknown_fields=True):
    """Why a job FAILED."""

    reason: Reason = Reason.TRAINER_ERROR
    message: Annotated[str, Meta(max_length=4_000)] | None = None


class Report(msgspec.Struct, forbid_unknown_fields=True):
    """The body."""

    status: Literal["SUCCEEDED", "FAILED"]
    metrics: Annotated[dict[str, float], Meta(max_length=500)] | None = None
    artifacts: Annotated[list[Annotated[str, Meta(max_length=1_000)]], Meta(max_length=500)] | None = None
    error: Error | None = None
    attempt: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


class Ended(msgspec.Struct):
    """The response."""

    state: State


@route("POST", "/v1/jobs/{job_id}/done", access=CALLBACK, headers=DELIVERY)
def report_done(request: Request, job_id: str, body: Report) -> Ended:
    """Record how a job ended; the same report again has the same response."""
    error = (body.error or Error()) if body.status == "FAILED" else None
    job = store.finish(  # 404, 409, 422, 503
        Call(job_id, requests.delivery(request, job_id), body.attempt, request.claims.get("launch")),
        State(body.status),
        metrics=body.metrics,
        artifacts=body.artifacts,
        reason=error.reason if error else None,
        message=error.message if error else None,
        at=tokens.now(),
    )
    return Ended(State(job.state))


done = function("done", report_done)
