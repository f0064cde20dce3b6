"""A trainer's final report: the body of ``done``, or the same JSON stored as ``results/job-{id}/done.json``."""

import logging
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from functions.domain.callbacks import Callback, Delivery
from functions.domain.errors import Unusable
from functions.domain.states import Reason, State
from functions.runtime import storage
from functions.runtime.logs import log
from functions.store import callbacks, checks
from functions.store.tables import Job

#: the same as the API's limit on request bodies
_LIMIT_BYTES = 64 * 1024


class Error(msgspec.Struct, forbid_unknown_fields=True):
    """Why a job FAILED."""

    reason: Reason = Reason.TRAINER_ERROR
    message: Annotated[str, Meta(max_length=4_000)] | None = None


class Report(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``done``."""

    status: Literal["SUCCEEDED", "FAILED"]
    metrics: Annotated[dict[str, float], Meta(max_length=500)] | None = None
    artifacts: Annotated[list[Annotated[str, Meta(max_length=1_000)]], Meta(max_length=500)] | None = None
    error: Error | None = None
    attempt: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


def finish(call: Callback, report: Report, *, now: datetime) -> Job:
    """Finish a job, or its check of the dataset, as its trainer's report says.

    Raises:
        NotFound, WrongState, Unusable, Busy: as ``callbacks.finish``.
    """
    if report.status == "SUCCEEDED" and (job := checks.succeed(call, metrics=report.metrics, now=now)) is not None:
        return job
    error = (report.error or Error()) if report.status == "FAILED" else None
    return callbacks.finish(
        call,
        State(report.status),
        metrics=report.metrics,
        artifacts=report.artifacts,
        reason=error.reason if error else None,
        message=error.message if error else None,
        now=now,
    )


def finish_as_stored(job: Job, *, now: datetime) -> Job | None:
    """Finish a job, or its check of the dataset, by the report that its trainer stored before it called ``done``.

    This is for a trainer that has ended although its ``done`` did not arrive. Returns None, and changes nothing, if
    no trainer has started, or the current attempt has no valid report.

    Raises:
        WrongState: since the job was read, it has ended or was claimed by a newer launch or attempt.
        Busy: the store or the storage is unavailable.
    """
    if job.state != State.RUNNING and not job.checking:
        return None
    key = f"results/job-{job.id}/done.json"
    content = storage.read(key, limit_bytes=_LIMIT_BYTES)
    if content is None:
        return None
    try:
        report = msgspec.json.decode(content, type=Report)
        is_of_check = job.check_launches > 0 and job.attempt <= job.check_attempts
        if report.attempt != job.attempt or is_of_check:
            return None
        call = Callback(job.id, Delivery(key, f"report-{job.attempt}"), job.attempt, job.launch)
        finished = finish(call, report, now=now)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, Unusable) as error:
        log(logging.WARNING, "the trainer's stored report cannot be used", key=key, detail=str(error)[:300])
        return None
    log(logging.INFO, "finished a job by its trainer's stored report", state=report.status)
    return finished
