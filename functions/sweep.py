"""sweep: every minute, puts right what a crash, an outage or a lost message has left; see ``sweeping``."""

from functions import sweeping, tokens, web
from functions.errors import NotFound
from functions.kubernetes_objects import job_id_of

#: of ApiServerSource in reference mode; the subject is the object's path
_CHANGED = "dev.knative.apiserver.ref."


@web.endpoint("POST /v1/sweep", "POST /")
def sweep(request: web.Request) -> web.Answer:
    """Answer with an empty body: these are events, of a PingSource, or of an ApiServerSource about one object."""
    tokens.require_api(request, "jobs:write")  # 401, 403
    if request.headers.get("ce-type", "").startswith(_CHANGED):
        _look(request.headers.get("ce-subject", ""))  # 503
    else:
        sweeping.once(at=tokens.now())  # 503
    return web.empty(204)


def _look(path: str) -> None:
    job_id = job_id_of(path.rpartition("/")[2])
    try:
        if job_id is not None:
            sweeping.look(job_id, at=tokens.now())
    except NotFound:  # a Job without a row is an orphan, which the next sweep stops; to deliver it again helps nobody
        return
