"""done: a trainer reports, once, how its job ended."""

import msgspec

from functions import report, tokens
from functions.api import requests
from functions.api.requests import Request
from functions.api.routes import CALLBACK, DELIVERY, function, route
from functions.callback import Call
from functions.report import Report
from functions.states import State


class Ended(msgspec.Struct):
    """The response."""

    state: State


@route("POST", "/v1/jobs/{job_id}/done", access=CALLBACK, headers=DELIVERY)
def report_done(request: Request, job_id: str, body: Report) -> Ended:
    """Record how a job ended; the same report again has the same response."""
    call = Call(job_id, requests.delivery(request, job_id), body.attempt, request.claims.get("launch"))
    job = report.finish(call, body, at=tokens.now())  # 404, 409, 422, 503
    return Ended(State(job.state))


done = function("done", report_done)
