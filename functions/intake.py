"""How a delivered event becomes a job: once, or never and then with the reason on record."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from functions import cloudevent, identities, launcher, logs, names, notifications, spec, storage, store, store_sweep
from functions.cloudevent import CloudEvent, Headers
from functions.errors import Busy, Forbidden, Refusal, Unusable
from functions.notifications import Rejected, Upload
from functions.spec import Spec
from functions.states import State
from functions.tables import Job

CREATE = "dev.stoker.job.create"


def deliver(headers: Headers, body: bytes, *, may_create: bool, at: datetime) -> None:
    """Take each event or record of a delivery on its own; what can never become a job is recorded with the reason.

    ``may_create``: whether the caller may send ``dev.stoker.job.create``.

    Raises:
        Busy, ConfigurationError: the same delivery succeeds later; what was taken is recognised then.
        Forbidden: an event asks for a job, which the caller may not; the rest of the delivery was taken.
    """
    text = body.decode("utf-8", "replace")
    items = _read(headers, body)
    allowed = [item for item in items if may_create or not isinstance(item, CloudEvent)]
    for item in allowed:
        # By its upload's identity, which sweep knows too: it is recorded once, whoever meets it first.
        about = item.upload if isinstance(item, Rejected) else item
        identity = identity_of(about) if isinstance(about, Upload) else None
        with logs.apart(), rejecting(text, at=at, identity=identity):
            _take(item, at=at)
    if len(allowed) < len(items):
        raise Forbidden(f"an event of type {CREATE} needs a token with the scope jobs:write")


@contextmanager
def rejecting(text: str, *, at: datetime, identity: str | None = None) -> Iterator[None]:
    """Record a delivery that the block finds unusable for ever, with the reason.

    Only a Refusal means that: whatever else is raised is not the sender's fault, and raised on.
    """
    try:
        yield
    except Busy:
        raise
    except Refusal as error:
        logs.log(logging.WARNING, "rejected an event", reason=str(error)[:500])
        store_sweep.reject(str(error), text, at=at, identity=identity)


def _read(headers: Headers, body: bytes) -> list[Upload | Rejected | CloudEvent]:
    try:
        if not cloudevent.is_event(headers):
            return [*notifications.read(headers, body)]
        events = cloudevent.parse_each(headers, body)
        creates = [event for event in events if isinstance(event, CloudEvent) and event.type == CREATE]
        others = [event for event in events if not (isinstance(event, CloudEvent) and event.type == CREATE)]
        return [*creates, *notifications.read_each(others)]
    except ValueError as error:
        return [Rejected(str(error))]


def _take(item: Upload | Rejected | CloudEvent, *, at: datetime) -> None:
    if isinstance(item, Rejected):
        raise Unusable(item.reason)
    if isinstance(item, Upload):
        upload(item, at=at)
        return
    with naming(f"event {item.id[:100]} of {item.source[:100]}"):
        if not isinstance(item.data, dict):
            raise Unusable("its data must be a JSON object, as POST /v1/jobs takes")
        asked = spec.from_request(item.data)
    make(asked, identities.of_event(item.source, item.id), at=at)


@contextmanager
def naming(subject: str) -> Iterator[None]:
    """Begin the reason of a refusal with what it is about."""
    try:
        yield
    except Unusable as error:
        raise Unusable(f"{subject}: {error}", **error.members) from error


def upload(found: Upload, *, at: datetime) -> Job | None:
    """Make the job of an uploaded dataset, as its metadata asks; None when the upload is gone by now.

    Raises:
        Unusable: it can never become a job; the reason begins with the key.
        Busy, ConfigurationError: it may become one later.
    """
    with naming(names.shown(found.key)):
        if found.bucket != storage.bucket():
            raise Unusable(f"the bucket of this installation is {storage.bucket()}, not {names.shown(found.bucket)}")
        dataset_id = notifications.dataset_id(found.key)
        metadata = found.metadata if found.metadata_known else storage.upload_metadata(found.key)
        if metadata is None:
            return None
        asked = spec.from_upload(dataset_id, metadata)
    return make(asked, identity_of(found), at=at, dataset_etag=found.etag)[0]


def identity_of(found: Upload) -> str:
    """Return what makes two notifications the same upload."""
    return identities.of_upload(found.bucket, found.key, found.etag)


def make(asked: Spec, identity: str | None, *, at: datetime, dataset_etag: str | None = None) -> tuple[Job, bool]:
    """Write the job, or find the one of this identity, and launch it if nobody has yet; the flag says if it is new.

    Raises:
        Busy: the store is away.
    """
    job, new = store.create(
        asked, identity=identity, trace_id=logs.about.get()["trace_id"], at=at, dataset_etag=dataset_etag
    )
    logs.bind(job_id=job.id)
    if new:
        logs.log(logging.INFO, "created a job", framework=job.framework, dataset_id=job.dataset_id)
    return (launcher.launch(job, at=at) if job.state == State.PENDING else job), new
