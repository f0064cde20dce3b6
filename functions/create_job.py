"""create-job: creates a job from an HTTP request or an uploaded dataset; repeated deliveries create one job."""

from collections.abc import Callable
from typing import Any

from functions.api import requests, specs, tokens
from functions.api.requests import Request
from functions.api.responses import Response, empty, reply
from functions.api.routes import IDEMPOTENCY, api, function, route
from functions.domain import descriptions, identities, spec
from functions.domain.errors import NotFound, WrongState, unusable_field
from functions.domain.spec import Origin, Spec, SpecChanges
from functions.domain.states import State
from functions.events import cloudevents, intake, notifications
from functions.launchers import launching
from functions.runtime import storage
from functions.store import queries, views
from functions.store.tables import Job
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
        intake.deliver(items, content, may_create=may_create, owner=request.subject, now=now)  # 403, 429, 503
        return empty(202)
    tokens.require_api(request, "jobs:write")  # 403
    requested = specs.from_request(requests.body(request, dict))  # 413, 415, 422
    key = requests.idempotency_key(request)  # 422
    identity = key and identities.of_request(request.subject, key)
    job, new = intake.request(requested, identity, Origin(request.subject or None), now=now)  # 503
    return _created(job, requested, is_new=new)


@route("POST", "/v1/validate", access=api("jobs:write"), statuses=(204,), accepts=Spec)
def validate_job(request: Request) -> Response:
    """Check a request as ``POST /v1/jobs`` does, and create no job. Its dataset need not be in the bucket yet."""
    launching.check(specs.from_request(requests.body(request, dict)))  # 413, 415, 422
    return empty(204)


@route(
    "POST",
    "/v1/jobs/{job_id}/clone",
    access=api("jobs:write"),
    statuses=(201, 200),
    headers=IDEMPOTENCY,
    accepts=SpecChanges,
)
def clone_job(request: Request, job_id: str) -> JobView | Response:
    """Create a job with another job's settings, and with the changes in the body."""
    old = queries.job(job_id)  # 404, 503
    requested = specs.from_request(_changed(old, request))  # 413, 415, 422
    return _derived(request, requested, Origin(request.subject or None, cloned_from=old.id))


@route(
    "POST",
    "/v1/jobs/{job_id}/resume",
    access=api("jobs:write"),
    statuses=(201, 200),
    headers=IDEMPOTENCY,
    accepts=SpecChanges,
)
def resume_job(request: Request, job_id: str) -> JobView | Response:
    """Create a job that continues a FAILED or CANCELLED job from its last checkpoint, with the changes in the body.

    Framework, model, task and dataset stay as they are; more ``epochs`` are possible.
    """
    old = queries.job(job_id)  # 404, 503
    if old.state not in {State.FAILED, State.CANCELLED}:
        advice = _TRAIN_ON.format(id=old.id) if old.state == State.SUCCEEDED else "it has not ended"
        message = f"job {old.id} is {old.state}: only a FAILED or CANCELLED job can be resumed; {advice}"
        raise WrongState(message, state=old.state)
    kept = {name: getattr(old, name) for name in _KEPT}
    changed = _changed(old, request, **kept, dataset_etag=old.dataset_etag)
    for name in _KEPT:
        if changed.get(name) != kept[name]:
            raise unusable_field(name, f"a resumed job keeps it ({kept[name]}); clone the job to change it")
    requested = specs.from_request(changed, is_resumed=True)
    origin = Origin(request.subject or None, resumed_from=old.id)
    return _derived(request, requested, origin, prepare=lambda new_id: _copy_checkpoints(old, new_id))


_TRAIN_ON = (
    "to train on from its best.pt, clone it with checkpoint_key checkpoints/job-{id}/best.pt "
    "(stoker clone {id} --from-job {id} --epochs N)"
)
#: what the checkpoint is of
_KEPT = ("framework", "model_name", "task", "dataset_id")


def _copy_checkpoints(old: Job, new_id: str) -> None:
    try:
        storage.copy_checkpoints(old.id, new_id)  # 503
    except NotFound as error:
        raise WrongState(f"{error}: clone the job, to start again", state=old.state) from error


def _changed(old: Job, request: Request, **more: Any) -> dict[str, Any]:
    """Return a job's request with the changes in a body: null removes, hyperparameters are changed one by one."""
    changes = requests.body(request, dict)  # 413, 415, 422
    described = {name: getattr(old, name) for name in spec.DESCRIPTION}
    if old.name is not None and "name" not in changes:
        described["name"] = descriptions.next_name(old.name, queries.names_like(descriptions.base_name(old.name)))
    changed = {**old.spec, **described, **more, **changes}
    if isinstance(changes.get("hyperparameters"), dict):
        merged = {**old.spec.get("hyperparameters", {}), **changes["hyperparameters"]}
        changed["hyperparameters"] = {name: value for name, value in merged.items() if value is not None}
    return {name: value for name, value in changed.items() if value is not None}


def _derived(
    request: Request, requested: Spec, origin: Origin, prepare: Callable[[str], None] | None = None
) -> Response:
    key = requests.idempotency_key(request)  # 422
    identity = key and identities.of_request(request.subject, key)
    job, new = intake.request(requested, identity, origin, now=tokens.now(), prepare=prepare)  # 409, 422, 429, 503
    if not new and (job.resumed_from, job.cloned_from) != (origin.resumed_from, origin.cloned_from):
        raise unusable_field("Idempotency-Key", f"job {job.id} was created with this key by another request")
    return _created(job, requested, is_new=new)


def _created(job: Job, requested: Spec, *, is_new: bool) -> Response:
    """Return the response for a job; refuse a request whose key has created the job with another body."""
    if not is_new and job.spec != spec.as_json(requested):
        raise unusable_field(
            "Idempotency-Key", f"job {job.id} was created with this key and another body; use a new key"
        )
    return reply(views.job_json(job), 201 if is_new else 200, Location=f"/v1/jobs/{job.id}")


def _delivered(request: Request, content: bytes) -> list[intake.Item] | None:
    """Return the items of a CloudEvent delivery or a storage notification; None for an API request."""
    if cloudevents.is_event(request.headers):
        return intake.events(request.headers, content)
    try:
        value = request.value
    except ValueError:
        return None  # parsing the body as an API request reports the same error
    return intake.records(value) if notifications.is_notification(value) else None


create_job = function(
    "create_job",
    submit_job,
    validate_job,
    clone_job,
    resume_job,
    submit_job.at("/"),
    other_methods={"/v1/jobs": {"GET", "HEAD"}},
)
