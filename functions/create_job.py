"""create-job: a request over HTTP, or an uploaded dataset, becomes a job; once, however often it is said."""

from functions import identities, intake, notifications, spec, tokens, views, web
from functions.errors import unusable_field


@web.endpoint("POST /v1/jobs", "POST /")
def create_job(request: web.Request) -> web.Answer:
    """Answer an API call with the job, and the delivery of an event with an empty body."""
    at = tokens.now()
    subject = tokens.require_api(request, "jobs:write", "datasets:notify")  # 401, 403
    body = web.raw_body(request, web.DELIVERY_LIMIT_BYTES)  # 413
    if notifications.is_notification(request.headers, body):
        intake.deliver(request.headers, body, at=at)  # 503: what was taken is recognised when it comes again
        return web.empty(202)
    tokens.require_api(request, "jobs:write")  # 403
    asked = spec.from_request(web.json_of(request, body, dict))  # 413, 415, 422
    key = web.idempotency_key(request)  # 422
    job, new = intake.make(asked, key and identities.of_request(subject, key), at=at)  # 503
    if not new and job.spec != spec.as_json(asked):
        raise unusable_field("Idempotency-Key", f"it has made job {job.id} of another body; use a new key")
    return web.reply(views.job_json(job), 201 if new else 200, Location=f"/v1/jobs/{job.id}")
