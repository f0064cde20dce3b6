"""Turns received events into jobs: each event creates its job once, or is stored as rejected with the reason."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from functions.api import specs
from functions.domain import identities, names, spec
from functions.domain.errors import Busy, Forbidden, Refusal, TooMany, Unusable, unusable_field
from functions.domain.spec import Origin, Spec
from functions.domain.states import State
from functions.events import cloudevents, notifications
from functions.events.cloudevents import CloudEvent, Headers
from functions.events.notifications import Rejected, Upload
from functions.launchers import base, launching
from functions.runtime import logs, storage
from functions.runtime.registry import trainers
from functions.runtime.settings import settings
from functions.runtime.storage import StoredObject
from functions.store import jobs, queries, upkeep
from functions.store.tables import Job

CREATE = "dev.stoker.job.create"
_RATE_WINDOW = timedelta(hours=1)


class GoneError(Unusable):
    """The uploaded bytes are no longer in the bucket.

    Rejected under a separate identity: if the same bytes are uploaded again, sweep still creates their job.
    """

    def __init__(self, detail: str, *, identity: str) -> None:
        super().__init__(detail)
        self.identity = identity


#: one item of a request: an upload, a record that can never become a job, or an event that requests a job
Item = Upload | Rejected | CloudEvent


def events(headers: Headers, body: bytes) -> list[Item]:
    """Return the items of a request with CloudEvents."""
    try:
        events = cloudevents.parse_each(headers, body)
        creates = [event for event in events if isinstance(event, CloudEvent) and event.type == CREATE]
        others = [event for event in events if not (isinstance(event, CloudEvent) and event.type == CREATE)]
        return [*creates, *notifications.read(others)]
    except ValueError as error:
        return [Rejected(str(error))]


def records(value: object) -> list[Item]:
    """Return the items of a storage's notification."""
    try:
        return [*notifications.read([value])]
    except ValueError as error:
        return [Rejected(str(error))]


def deliver(items: Sequence[Item], body: bytes, *, may_create: bool, owner: str = "", now: datetime) -> None:
    """Process each item of a request separately; store an item that can never become a job as rejected.

    ``may_create``: whether the caller, ``owner``, may send ``dev.stoker.job.create``.

    Raises:
        Busy, TooMany, ConfigurationError: repeat the request later; items that were processed are then recognised.
        Forbidden: an event requests a job, which the caller may not do; all other items were processed.
    """
    text = body.decode("utf-8", "replace")
    allowed = [item for item in items if may_create or not isinstance(item, CloudEvent)]
    for item in allowed:
        # Reject under the upload's identity, which sweep uses too, so that the rejection is stored only once.
        about = item.upload if isinstance(item, Rejected) else item
        identity = identity_of(about) if isinstance(about, Upload) else None
        with logs.restored_context(), rejecting(text, now=now, identity=identity):
            _process(item, Origin(owner or None), now=now)
    if len(allowed) < len(items):
        raise Forbidden(f"an event of type {CREATE} needs a token with the scope jobs:write")


@contextmanager
def rejecting(text: str, *, now: datetime, identity: str | None = None) -> Iterator[None]:
    """Store a rejected event if the block raises a Refusal other than Busy and TooMany.

    Only such a Refusal means that the event can never become a job; all other exceptions propagate.
    """
    try:
        yield
    except (Busy, TooMany):
        raise
    except Refusal as error:
        logs.log(logging.WARNING, "rejected an event", reason=str(error)[:500])
        rejected_identity = error.identity if isinstance(error, GoneError) else identity
        upkeep.reject(str(error), text, now=now, identity=rejected_identity)


def _process(item: Item, origin: Origin, *, now: datetime) -> None:
    if isinstance(item, Rejected):
        raise Unusable(item.reason)
    if isinstance(item, Upload):
        upload(item, now=now)
        return
    with naming(f"event {item.id[:100]} of {item.source[:100]}"):
        if not isinstance(item.data, dict):
            raise Unusable("its data must be a JSON object, as in POST /v1/jobs")
        request(specs.from_request(item.data), identities.of_event(item.source, item.id), origin, now=now)


@contextmanager
def naming(subject: str) -> Iterator[None]:
    """Prefix the message of a refusal with its subject."""
    try:
        yield
    except Unusable as error:
        raise Unusable(f"{subject}: {error}", **error.members) from error


def upload(uploaded: Upload, *, now: datetime) -> None:
    """Create the job of an uploaded dataset from the object's metadata.

    Raises:
        Unusable: the upload can never become a job; the message begins with the key.
        Busy, ConfigurationError: the upload may become a job later.
    """
    with naming(names.printable(uploaded.keys[0])):
        if uploaded.bucket != storage.bucket():
            raise Unusable(
                f"the bucket of this installation is {storage.bucket()}, not {names.printable(uploaded.bucket)}"
            )
    dataset = _current(uploaded)
    if dataset is None:
        return
    identity = identities.of_upload(uploaded.bucket, dataset.key, dataset.etag)
    if specs.is_without_job(dataset.metadata):
        upkeep.ignore(identity, now=now)
    if queries.is_ignored(identity):
        return
    with naming(names.printable(dataset.key)):
        requested = specs.from_upload(notifications.dataset_id(dataset.key), dataset.metadata)
        origin = Origin(specs.owner_of_upload(dataset.metadata))
        job, is_new = _create(requested, dataset, identity, origin, now=now)
        if not is_new and job.spec != spec.as_json(requested):
            raise Unusable(
                f"these bytes have made job {job.id} already, with other settings; "
                "to train on them again, send POST /v1/jobs"
            )


def identity_of(uploaded: Upload) -> str | None:
    """Return the identity of an upload; None if the notification does not name the version."""
    return identities.of_upload(uploaded.bucket, uploaded.keys[0], uploaded.etag) if uploaded.etag else None


def _current(uploaded: Upload) -> StoredObject | None:
    """Return the uploaded object if the bucket still has its uploaded version; None if the upload was processed before.

    If the key may be encoded or not, the variant with the uploaded version is used.

    Raises:
        GoneError: the object was overwritten or deleted before a job was created from it.
    """
    objects = [stored for stored in map(storage.head, uploaded.keys) if stored is not None]
    for stored in objects:
        if _is_version(stored, uploaded):
            return stored
    if queries.is_processed({identities.of_upload(uploaded.bucket, key, uploaded.etag) for key in uploaded.keys}):
        return None
    key, version = uploaded.keys[0], uploaded.etag or uploaded.version
    version_text = f"version {version}" if version else "it"
    change = "was overwritten" if objects else "was deleted"
    raise GoneError(
        f"{names.printable(key)}: {version_text} {change} before a job was made of it",
        identity=identities.of_missing_version(uploaded.bucket, key, version),
    )


def _is_version(stored: StoredObject, uploaded: Upload) -> bool:
    if uploaded.etag:
        return stored.etag == uploaded.etag
    return not (uploaded.version and stored.version) or stored.version == uploaded.version


def request(
    requested: Spec,
    identity: str | None,
    origin: Origin,
    *,
    now: datetime,
    prepare: Callable[[str], None] | None = None,
) -> tuple[Job, bool]:
    """Create a requested job from the current version of the dataset, or return the existing job with this identity.

    ``prepare`` is called with the id of the job before it is created.

    Raises:
        Unusable: the dataset does not exist, or not in the requested version; or the launcher can never start the job.
        TooMany: the owner has created too many jobs.
        Busy, ConfigurationError: the store or the storage is unavailable or misconfigured.
    """
    existing = queries.job_of(identity) if identity else None
    if existing is not None:
        return _launched(existing, now=now), False
    _check_rate(origin, now=now)
    keys = [storage.dataset_key(name) for name in names.forms(requested.dataset_id)]
    dataset = next(filter(None, map(storage.head, keys)), None)
    if dataset is None:
        hint = f"; leave .zip out of {requested.dataset_id}" if requested.dataset_id.lower().endswith(".zip") else ""
        raise unusable_field(
            "dataset_id", f"there is no {keys[0]} in the bucket {storage.bucket()}: upload it first{hint}"
        )
    return _create(requested, dataset, identity, origin, now=now, prepare=prepare)


def _check_rate(origin: Origin, *, now: datetime) -> None:
    """Refuse a request of an owner who has created JOBS_PER_HOUR jobs. Raises TooMany.

    Replicas share only the database, and concurrent requests do not see each other's jobs: the limit stops
    runaway loops, but is not exact.
    """
    limit = settings().jobs_per_hour
    if not limit or origin.owner is None:
        return
    next_at = queries.next_creation_at(origin.owner, limit=limit, window=_RATE_WINDOW, now=now)
    if next_at is not None:
        seconds = max(1, math.ceil((next_at - now).total_seconds()))
        raise TooMany(
            f"{names.printable(origin.owner)} has created {limit} jobs in the last hour (JOBS_PER_HOUR)",
            retry_after_seconds=seconds,
        )


def _create(  # noqa: PLR0913 -- as request
    requested: Spec,
    dataset: StoredObject,
    identity: str | None,
    origin: Origin,
    *,
    now: datetime,
    prepare: Callable[[str], None] | None = None,
) -> tuple[Job, bool]:
    """Create the job, or return the existing one; launch it if it is PENDING. The flag says whether it is new."""
    if requested.dataset_etag and requested.dataset_etag.strip('"') != dataset.etag:
        raise unusable_field("dataset_etag", f"the version of {dataset.key} in the bucket is {dataset.etag}")
    launching.check(requested)
    checking, check_skipped = _first_check(requested, dataset, origin)
    job_id = jobs.new_id(now)
    if prepare is not None:
        prepare(job_id)
    job, is_new = jobs.create(
        requested,
        dataset_etag=dataset.etag,
        dataset_key=None if dataset.key == storage.dataset_key(requested.dataset_id) else dataset.key,
        identity=identity,
        origin=origin,
        job_id=job_id,
        trace_id=logs.context.get()["trace_id"],
        checking=checking,
        check_skipped=check_skipped,
        now=now,
    )
    if prepare is not None and not is_new:  # a concurrent equal request was first
        storage.delete_artifacts(job_id)
    logs.bind(job_id=job.id)
    return _launched(job, now=now), is_new


def _first_check(requested: Spec, dataset: StoredObject, origin: Origin) -> tuple[bool, str | None]:
    """Return whether the first launch only checks the dataset, and why a requested check is skipped."""
    is_wanted = settings().check_first if requested.check_first is None else requested.check_first
    if not is_wanted or requested.task != "train":
        return False, None
    if base.CHECK not in trainers()[requested.framework].tasks:
        return False, f"the trainer {requested.framework} has no task check"
    if origin.resumed_from is not None and queries.job(origin.resumed_from).dataset_etag == dataset.etag:
        return False, f"job {origin.resumed_from}, which it resumes, has trained on this dataset"
    return True, None


def _launched(job: Job, *, now: datetime) -> Job:
    return launching.launch(job, now=now) if job.state == State.PENDING else job
