"""dead-letter: an event that a Broker has given up on is kept with its reason, beside those that were rejected."""

from functions import store_sweep, tokens, web


@web.endpoint("POST /v1/dead-letters", "POST /")
def dead_letter(request: web.Request) -> web.Answer:
    """Answer with an empty body: this is an event, with Knative's ``knativeerror…`` extensions."""
    at = tokens.now()
    tokens.require_api(request, "datasets:notify", "jobs:write")  # 401, 403
    body = web.raw_body(request, web.DELIVERY_LIMIT_BYTES)  # 413
    destination = request.headers.get("ce-knativeerrordest", "its subscriber")[:500]
    status = request.headers.get("ce-knativeerrorcode", "without an answer")[:20]
    store_sweep.reject(f"not delivered to {destination}: {status}", body.decode("utf-8", "replace"), at=at)  # 503
    return web.empty(202)
