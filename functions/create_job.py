"""create-job: creates a job from an HTTP request or an uploaded dataset; repeated deliveries create one job."""

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
    """Create a job. For a CloudEvent or a storage notification the response is empty."""
    now = tokens.now()
    content = requests.raw_body(request)  # 413
    items = _delivered(request, content)
    if items is not None:
        may_create = tokens.allows(request, "jobs:write")
        intake.deliver(items, content, may_create=may_create, owner=request.subject, now=now)  # 403, 503
        return empty(202)
    tokens.require_api(request, "jobs:write")  # 403
    requested = specs.from_request(requests.body(request, dict))  # 413, 415, 422
    key = requests.idempotency_key(request)  # 422
    identity = key and identities.of_request(request.subject, key)
    job, new = intake.request(requested, identity, spec.Origin(request.subject or None), now=now)  # 503
    if not new and job.spec != spec.as_json(requested):
        raise unusable_field(
            "Idempotency-Key", f"job {job.id} was created with this key and another body; use a new key"
        )
    return reply(views.job_json(job), 201 if new else 200, Location=f"/v1/jobs/{job.id}")


def _delivered(request: Request, content: bytes) -> list[intake.Item] | None:
    """Return the items of a CloudEvent delivery or a storage notification; None for an API request."""
    if cloudevents.is_event(request.headers):
        return intake.events(request.headers, content)
    try:
        value = request.value
    except ValueError:
        return None  # parsing the body as an API request reports the same error
    return intake.records(value) if notifications.is_notification(value) else None


create_job = function("create_job", submit_job, submit_job.at("/"), other_methods={"/v1/jobs": {"GET", "HEAD"}})
