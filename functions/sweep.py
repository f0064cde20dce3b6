"""sweep: runs every minute and repairs the effects of crashes, outages and lost messages; see ``sweeping``."""

from functions.api import tokens
from functions.api.requests import Request
from functions.api.responses import Response, empty
from functions.api.routes import EVENT, api, function, route
from functions.domain.errors import NotFound
from functions.launchers.kubernetes_objects import job_id_of
from functions.reconcile import sweeping

#: the type prefix of ApiServerSource's events in reference mode; their subject is the object's path
_CHANGED = "dev.knative.apiserver.ref."


@route("POST", "/v1/sweep", access=api("jobs:write"), statuses=(204,), headers=EVENT)
def run_sweep(request: Request) -> Response:
    """Run one sweep, or check one job if the event is an ApiServerSource's about that job's object."""
    if request.headers.get("ce-type", "").startswith(_CHANGED):
        _look(request.headers.get("ce-subject", ""))  # 503
    else:
        sweeping.run(now=tokens.now())  # 503
    return empty(204)


def _look(path: str) -> None:
    job_id = job_id_of(path.rpartition("/")[2])
    try:
        if job_id is not None:
            sweeping.reconcile_job(job_id, now=tokens.now())
    except NotFound:  # a Job without a row: the next sweep stops it, and a redelivery would not help
        return


sweep = function("sweep", run_sweep, run_sweep.at("/"))
