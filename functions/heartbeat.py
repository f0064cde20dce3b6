"""heartbeat: a trainer says how far it is. The one function that runs often: see ``store_heartbeat``."""

from functions import store_heartbeat, tokens, web
from functions.callback import Call


@web.endpoint("POST /v1/jobs/{job_id}/heartbeat")
def heartbeat(request: web.Request, job_id: str) -> web.Answer:
    """Answer with the job's state, and with a new token when the caller's nears its end."""
    at = tokens.now()
    claims = tokens.require_callback(request, job_id)  # 401
    beat = web.body(request, store_heartbeat.Beat)  # 413, 415, 422
    call = Call(job_id, web.delivery(request, job_id), beat.attempt, claims.get("launch"))  # 422
    state = store_heartbeat.record(call, beat, at=at)  # 404, 409, 422, 503
    fresh = tokens.renewed(claims, at=at)
    return {"state": state} | ({"token": fresh} if fresh else {})
