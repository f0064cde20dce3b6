"""The statement that changes a job's state, and the rows of timeline and outbox that belong to a change."""

import logging
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, not_, update
from sqlmodel import Session, col

from functions.domain import curves
from functions.domain.callbacks import Delivery
from functions.domain.errors import NotFound, Unusable, WrongState, unusable_field
from functions.domain.states import BEFORE, FINAL, NEXT, State
from functions.runtime import logs
from functions.store.session import log_after_commit
from functions.store.tables import Job, JobEvent, Outbox
from functions.store.views import job_json

#: an additional WHERE condition of an update
Condition = ColumnElement[bool]


def change_state(  # noqa: PLR0913 -- the only statement that changes ``state``
    session: Session,
    job_id: str,
    to: State,
    *,
    now: datetime,
    values: dict[str, Any],
    still: Condition | None = None,
    delivery: Delivery | None = None,
) -> Job | None:
    """Move a job to a later state, with its timeline row and outbox row; return None if it does not match."""
    stamps: dict[str, Any] = {}
    if to in FINAL:
        stamps = {"finished_at": now, "liveness": None, "waiting_since": None, "checking": False}
    elif to == State.RUNNING:
        moments = ("started_at", "running_since", "heartbeat_at", "progress_at")
        stamps = {"liveness": "live", **dict.fromkeys(moments, now)}
    elif to == State.QUEUED:
        stamps = {"queued_at": now}
    # Compare-and-set: of two concurrent callers, only one succeeds.
    where = [col(Job.id) == job_id, col(Job.state).in_(BEFORE[to])] + ([] if still is None else [still])
    if to in {State.RUNNING, State.SUCCEEDED}:  # only by a trainer of the job's own task
        where.append(not_(col(Job.checking)))
    job: Job | None = session.scalar(
        update(Job).where(*where).values(state=to, sequence=Job.sequence + 1, **stamps, **values).returning(Job)
    )
    if job is not None:
        add_state_rows(session, job, now=now, delivery=delivery)
    return job


def add_state_rows(session: Session, job: Job, *, now: datetime, delivery: Delivery | None = None) -> None:
    """Add the timeline row and the outbox row of the state that the job has just entered."""
    source, id_ = delivery or (None, None)
    data = {"reason": job.reason} if job.reason else None
    actor = logs.actor()
    session.add(
        JobEvent(
            job_id=job.id,
            kind="state",
            type=job.state,
            attempt=job.attempt,
            message=job.message,
            actor=actor,
            data=data,
            metrics=curves.split(job.metrics)[0] if job.state in FINAL else None,
            ce_source=source,
            ce_id=id_,
            at=now,
        )
    )
    add_outbox_row(session, job, job.state.lower(), now=now)
    session.flush()
    level = logging.WARNING if job.state == State.FAILED else logging.INFO
    log_change(session, job, f"the job is {job.state}", level=level, reason=job.reason, detail=job.message)


def add_outbox_row(session: Session, job: Job, event: str, *, now: datetime) -> None:
    """Add the CloudEvent of a change to the outbox."""
    session.add(
        Outbox(
            job_id=job.id,
            sequence=job.sequence,
            type=f"dev.stoker.job.{event}",
            data=job_json(job) | {"actor": logs.actor()},
            trace_id=job.trace_id,
            created_at=now,
        )
    )


def add_event(  # noqa: PLR0913 -- the columns of a timeline row
    session: Session,
    job: Job,
    type_: str,
    message: str | None,
    *,
    data: dict[str, Any] | None = None,
    metrics: dict[str, float] | None = None,
    delivery: Delivery | None = None,
    now: datetime,
) -> None:
    """Add to a job's timeline what its trainer reports, or what the control plane observes."""
    source, id_ = delivery or (None, None)
    session.add(
        JobEvent(
            job_id=job.id,
            kind="event",
            type=type_,
            attempt=job.attempt,
            message=message,
            actor=logs.actor(),
            data=data,
            metrics=metrics,
            ce_source=source,
            ce_id=id_,
            at=now,
        )
    )
    session.flush()


def log_change(session: Session, job: Job, message: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Log a change of a job after the commit, under the job's trace id rather than the request's."""
    request_trace_id = logs.context.get().get("trace_id")
    if request_trace_id not in {None, job.trace_id}:
        fields["request_trace_id"] = request_trace_id
    names = ("trace_id", "state", "attempt", "launch", "framework", "dataset_id")
    described = {"job_id": job.id} | {name: getattr(job, name) for name in names} | fields
    log_after_commit(session, level, message, **{name: value for name, value in described.items() if value is not None})


def unchanged(job: Job, *columns: str) -> Condition:
    """Return the condition that columns of a job still have the values that were read."""
    return and_(*[col(getattr(Job, name)).is_not_distinct_from(getattr(job, name)) for name in columns])


def no_activity_since(job: Job) -> Condition:
    """Return the condition that a job was neither submitted nor called back for since it was read."""
    return unchanged(job, "launch", "submitted_at", "heartbeat_at")


def next_launch(now: datetime) -> dict[str, Any]:
    """Return the columns of a job whose next launch begins."""
    unknown = dict.fromkeys(("submitted_at", "token_key", "token_expires_at", "image"))
    return {"launch": Job.launch + 1, "heartbeat_at": now, "progress_at": now, **unknown}


def refusal(session: Session, job_id: str, to: State, attempt: int | None = None) -> NotFound | WrongState | Unusable:
    """Return the error that tells why an update to state ``to`` matched no row."""
    job = session.get(Job, job_id, populate_existing=True)
    if job is None:
        return NotFound(f"there is no job {job_id}")
    if attempt is not None and attempt > job.attempt and job.state not in FINAL:
        return unusable_field("attempt", f"no process has claimed attempt {attempt}; the current one is {job.attempt}")
    if attempt is not None and attempt < job.attempt:
        return WrongState(f"attempt {attempt} has been replaced by attempt {job.attempt}; stop", state=job.state)
    message = f"job {job_id} is {job.state}: it {'has ended' if job.state in FINAL else 'has moved on'}"
    if to not in NEXT[State(job.state)]:
        message += f" and cannot become {to}"
    return WrongState(message, state=job.state)
