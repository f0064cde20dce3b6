"""uploads: what a storage's webhook says becomes an event of the Broker, which keeps it until create-job has taken it.

For clusters: where there is no Broker, the webhook calls create-job itself.
"""

import hashlib

from functions import cloudevent, logs, sink, tokens, web
from functions.errors import Busy

UPLOADED = "dev.stoker.upload"


@web.endpoint("POST /v1/uploads", "POST /")
def uploads(request: web.Request) -> web.Answer:
    """Answer with nothing once the Broker has it."""
    at = tokens.now()
    tokens.require_api(request, "datasets:notify")  # 401, 403
    body = web.raw_body(request, web.DELIVERY_LIMIT_BYTES)  # 413
    headers = cloudevent.outgoing_headers(
        type_=UPLOADED,
        id_=hashlib.sha256(body).hexdigest(),
        subject="datasets",
        at=at.isoformat(),
        trace_id=logs.about.get()["trace_id"],
    )
    status = sink.post(headers, body)  # 503
    if not 200 <= status < 300:  # noqa: PLR2004 -- HTTP's success
        raise Busy(f"the Broker answered {status}; see to its address, and to who may send to it")
    return web.empty(202)
