"""uploads: sends a storage's notifications to the Broker, which retries until create-job accepts them.

Used in clusters only: without a Broker, the storage's webhook calls create-job directly.
"""

import hashlib
from typing import Any

from functions.api import requests, tokens
from functions.api.requests import Request
from functions.api.responses import Response, empty
from functions.api.routes import EVENT, api, function, route
from functions.domain.errors import Busy
from functions.events import cloudevents, sink
from functions.runtime import logs

UPLOADED = "dev.stoker.upload"


@route("POST", "/v1/uploads", access=api("datasets:notify"), statuses=(202,), headers=EVENT, accepts=Any)
def receive_upload(request: Request) -> Response:
    """Send a storage's notification to the Broker, and respond when the Broker has accepted it.

    A notification that is a CloudEvent is sent, with its attributes, as the data of a new event. A token for uploads
    can therefore not send events of other types, such as ``dev.stoker.job.create``.
    """
    now = tokens.now()
    body = requests.raw_body(request)  # 413
    if cloudevents.is_event(request.headers):
        body = cloudevents.as_json(request.headers, body)
    headers = cloudevents.outgoing_headers(
        type_=UPLOADED,
        id_=hashlib.sha256(body).hexdigest(),
        subject="datasets",
        now=now.isoformat(),
        trace_id=logs.context.get()["trace_id"],
    )
    status = sink.post(headers, body)  # 503
    if not 200 <= status < 300:  # noqa: PLR2004 -- HTTP's success
        raise Busy(f"the Broker answered {status}; check its address and who may send to it")
    return empty(202)


uploads = function("uploads", receive_upload, receive_upload.at("/"))
