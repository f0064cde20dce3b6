"""How a delivered event becomes a job: once, or never and then with the reason on record."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from functions import cloudevent, errors, identities, launcher, logs, notifications, spec, storage, store, store_sweep
from functions.cloudevent import CloudEvent, Headers
from functions.errors import Refusal
from functions.notifications import Rejected, Upload
from functions.spec import Spec
from functions.states import State
from functions.tables import Job

CREATE = "dev.stoker.job.create"


def deliver(headers: Headers, body: bytes, *, at: datetime) -> None:
    """Take each record of a delivery; those that can never become a job are kept with their reason.

    Raises:
        Busy: a retry can mend it.
    """
    text = body.decode("utf-8", "replace")
    with rejecting(text, at=at):
        for found in _read(headers, body):
            with logs.apart(), rejecting(text, at=at):
                _take(found, at=at)


@contextmanager
def rejecting(text: str, *, at: datetime, identity: str | None = None) -> Iterator[None]:
    """Keep what the block finds unusable for ever, with its reason; what a retry can mend is raised on."""
    try:
        yield
    except errors.Busy:
        raise
    except (Refusal, ValueError) as error:
        logs.log(logging.WARNING, "rejected an event", reason=str(error)[:500])
        store_sweep.reject(str(error), text, at=at, identity=identity)


def _read(headers: Headers, body: bytes) -> list[Upload | Rejected | CloudEvent]:
    if cloudevent.is_event(headers):
        events = cloudevent.parse_each(headers, body)
        asked = [event for event in events if isinstance(event, CloudEvent) and event.type == CREATE]
        if asked and len(asked) == len(events):
            return list(asked)
    return list(notifications.read(headers, body))


def _take(found: Upload | Rejected | CloudEvent, *, at: datetime) -> None:
    if isinstance(found, Rejected):
        raise ValueError(found.reason)  # noqa: TRY004 -- it is a value that a stranger sent
    if isinstance(found, Upload):
        upload(found, at=at)
    else:
        if not isinstance(found.data, dict):
            raise ValueError(f"{CREATE}: send a JSON object, as POST /v1/jobs takes")  # noqa: TRY004 -- a stranger's value
        asked = spec.from_request(found.data)
        make(asked, identities.of_event(found.source, found.id), at=at)


def upload(found: Upload, *, at: datetime) -> Job | None:
    """Make the job of an uploaded dataset, as its metadata asks; None when the upload is gone by now.

    Raises:
        Unusable, ValueError: it can never become a job.
        Busy: a retry can mend it.
    """
    if found.bucket != storage.bucket():
        raise ValueError(f"uploads to {found.bucket!r} are not ours: the bucket is {storage.bucket()!r}")
    dataset_id = notifications.dataset_id(found.key)
    metadata = found.metadata if found.metadata_known else storage.upload_metadata(found.key)
    if metadata is None:
        return None
    job, _ = make(
        spec.from_upload(dataset_id, metadata),
        identities.of_upload(found.bucket, found.key, found.etag),
        at=at,
        dataset_etag=found.etag,
    )
    return job


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
