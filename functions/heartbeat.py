"""heartbeat: a trainer reports its progress. Called far more often than the others: see ``store.heartbeats``."""

import msgspec
from msgspec import UNSET, UnsetType

from functions.api import requests, tokens
from functions.api.requests import Request
from functions.api.routes import CALLBACK, DELIVERY, function, route
from functions.domain.callbacks import Callback
from functions.domain.states import State
from functions.store import heartbeats


class HeartbeatResponse(msgspec.Struct):
    """The response. ``token``, if present, replaces the caller's token, which expires soon."""

    state: State
    token: str | UnsetType = UNSET


@route("POST", "/v1/jobs/{job_id}/heartbeat", access=CALLBACK, headers=DELIVERY)
async def record_heartbeat(request: Request, job_id: str, body: heartbeats.Heartbeat) -> HeartbeatResponse:
    """Record a trainer's progress. The response has a new token when the caller's token expires soon."""
    now = tokens.now()
    call = Callback(job_id, requests.delivery(request, job_id), body.attempt, request.claims.get("launch"))  # 422
    state = await heartbeats.record(call, body, now=now)  # 404, 409, 422, 503
    return HeartbeatResponse(state, tokens.renewed(request.claims, now=now) or UNSET)


heartbeat = function("heartbeat", record_heartbeat)
