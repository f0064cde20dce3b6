"""dead-letter: stores events that a Broker could not deliver, with the reason, among the rejected events."""

from typing import Any

from functions.api import requests, tokens
from functions.api.requests import Request
from functions.api.responses import Response, empty
from functions.api.routes import EVENT, api, function, route
from functions.store import upkeep


@route(
    "POST", "/v1/dead-letters", access=api("datasets:notify", "jobs:write"), statuses=(202,), headers=EVENT, accepts=Any
)
def receive_dead_letter(request: Request) -> Response:
    """Record an event that a Broker could not deliver. Knative's ``knativeerror…`` attributes give the reason."""
    now = tokens.now()
    body = requests.raw_body(request)  # 413
    destination = request.headers.get("ce-knativeerrordest", "its subscriber")[:500]
    status = request.headers.get("ce-knativeerrorcode", "without an answer")[:20]
    upkeep.reject(f"not delivered to {destination}: {status}", body.decode("utf-8", "replace"), now=now)  # 503
    return empty(202)


dead_letter = function("dead_letter", receive_dead_letter, receive_dead_letter.at("/"))
