"""create-job: a request over HTTP, or an uploaded dataset, becomes a job; once, however often it is said."""

from functions.api import requests, specs, tokens
from functions.api.requests import Request
from functions.api.responses import Response, empty, reply
from functions.api.routes import IDEMPOTENCY, api, function, route
from functions.domain import identities, spec
from functions.domain.errors import unusable_field
from functions.domain.spec import Spec
from functions.events import cloudevents, intake, notifications
from functions.store import views
from functions.store.views import JobView


@route(
    "POST",
    "/v1/jobs",
    access=api("jobs:write", "datasets:notify"),
    statuses=(201, 200, 202),
    headers=IDEMPOTENCY,
    accepts=Spec,
)
def submit_job(request: Request) -> JobView | Response:
    """Create a job. The delivery of an event, or of a storage's notification, is answered with an empty body."""
    now = tokens.now()
    content = requests.raw_body(request)  # 413
    items = _delivered(request, content)
    if items is not None:
        intake.deliver(items, content, may_create=tokens.allows(request, "jobs:write"), now=now)  # 403, 503
        return empty(202)
    tokens.require_api(request, "jobs:write")  # 403
    asked = specs.from_request(requests.body(request, dict))  # 413, 415, 422
    key = requests.idempotency_key(request)  # 422
    job, new = intake.request(asked, key and identities.of_request(request.subject, key), now=now)  # 503
    if not new and job.spec != spec.as_json(asked):
        raise unusable_field("Idempotency-Key", f"it has made job {job.id} of another body; use a new key")
    return reply(views.job_json(job), 201 if new else 200, Location=f"/v1/jobs/{job.id}")


def _delivered(request: Request, content: bytes) -> list[intake.Item] | None:
    """Return what a delivery of events or a storage's notification consists of; None for a call of the API."""
    if cloudevents.is_event(request.headers):
        return intake.events(request.headers, content)
    try:
        value = request.value
    except ValueError:
        return None  # the call is refused with the same reason
    return intake.records(value) if notifications.is_notification(value) else None


create_job = function("create_job", submit_job, submit_job.at("/"), other_methods={"/v1/jobs": {"GET", "HEAD"}})
