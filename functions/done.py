"""done: a trainer reports, once, how its job ended."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from functions import store, tokens, web
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


@web.endpoint("POST /v1/jobs/{job_id}/done")
def done(request: web.Request, job_id: str) -> web.Answer:
    """Answer with the job's state."""
    claims = tokens.require_callback(request, job_id)  # 401
    report = web.body(request, Report)  # 413, 415, 422
    error = (report.error or Error()) if report.status == "FAILED" else None
    job = store.finish(  # 404, 409, 422, 503
        Call(job_id, web.delivery(request, job_id), report.attempt, claims.get("launch")),
        State(report.status),
        metrics=report.metrics,
        artifacts=report.artifacts,
        reason=error.reason if error else None,
        message=error.message if error else None,
        at=tokens.now(),
    )
    return {"state": job.state}
