"""sweep: every minute, puts right what a crash, an outage or a lost message has left; see ``sweeping``."""

from flask import Request

from functions import sweeping, tokens, web


@web.endpoint("POST /v1/sweep", "POST /")
def sweep(request: Request) -> web.Answer:
    """Answer with an empty body: PingSource delivers events."""
    tokens.require_api(request, "jobs:write")  # 401, 403
    sweeping.once(at=tokens.now())  # 503
    return web.empty(204)
