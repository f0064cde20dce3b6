"""done: a trainer reports how its job ended."""

import msgspec

from functions.api import requests, tokens
from functions.api.requests import Request
from functions.api.routes import CALLBACK, DELIVERY, function, route
from functions.domain.callbacks import Callback
from functions.domain.states import FINAL, State
from functions.launchers import launching
from functions.runtime.settings import settings
from functions.store import reports
from functions.store.reports import Report


class DoneResponse(msgspec.Struct):
    """The response."""

    state: State


@route("POST", "/v1/jobs/{job_id}/done", access=CALLBACK, headers=DELIVERY)
def report_done(request: Request, job_id: str, body: Report) -> DoneResponse:
    """Record how a job, or its check of the dataset, ended. Repeating the same report returns the same response."""
    call = Callback(job_id, requests.delivery(request, job_id), body.attempt, request.claims.get("launch"))
    job = reports.finish(call, body, now=tokens.now())  # 404, 409, 422, 503
    if job.state not in FINAL and settings().launcher == "local":
        # It takes its place in the queue at once. In a cluster, and after a crash before this line, sweep launches it.
        launching.launch(job, now=tokens.now())
    return DoneResponse(State(job.state))


done = function("done", report_done)
