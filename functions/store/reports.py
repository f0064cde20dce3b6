"""How a trainer reports its end: the body of ``done``, or the same JSON as ``results/job-{id}/done.json``."""

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
from functions.store import jobs
from functions.store.tables import Job

#: as the API's limit of bodies
_LIMIT_BYTES = 64 * 1024


class Error(msgspec.Struct, forbid_unknown_fields=True):
    """Why a job FAILED."""

    reason: Reason = Reason.TRAINER_ERROR
    message: Annotated[str, Meta(max_length=4_000)] | None = None


class Report(msgspec.Struct, forbid_unknown_fields=True):
    """The body."""

    status: Literal["SUCCEEDED", "FAILED"]
    metrics: Annotated[dict[str, float], Meta(max_length=500)] | None = None
    artifacts: Annotated[list[Annotated[str, Meta(max_length=1_000)]], Meta(max_length=500)] | None = None
    error: Error | None = None
    attempt: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


def finish(call: Callback, report: Report, *, now: datetime) -> Job:
    """End a job as its trainer reports.

    Raises:
        NotFound, WrongState, Unusable, Busy: as ``store.finish``.
    """
    error = (report.error or Error()) if report.status == "FAILED" else None
    return jobs.finish(
        call,
        State(report.status),
        metrics=report.metrics,
        artifacts=report.artifacts,
        reason=error.reason if error else None,
        message=error.message if error else None,
        now=now,
    )


def finish_as_stored(job: Job, *, now: datetime) -> bool:
    """End a job as the report in the bucket says, which its trainer stored before it called ``done``.

    For a trainer that has ended without its ``done`` having arrived. False, and nothing changes, when there is no valid
    report of the job's attempt.

    Raises:
        WrongState: the job has ended, or belongs to a newer launch or attempt, since it was read.
        Busy: the store or the storage is away.
    """
    key = f"results/job-{job.id}/done.json"
    content = storage.read(key, limit_bytes=_LIMIT_BYTES)
    if content is None:
        return False
    try:
        report = msgspec.json.decode(content, type=Report)
        if report.attempt != job.attempt:
            return False
        finish(Callback(job.id, Delivery(key, f"report-{job.attempt}"), job.attempt, job.launch), report, now=now)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, Unusable) as error:
        log(logging.WARNING, "the trainer's stored report cannot be used", key=key, detail=str(error)[:300])
        return False
    log(logging.INFO, "ended a job as its trainer's stored report says", state=report.status)
    return True
