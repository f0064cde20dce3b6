"""Statements of trainers' callbacks: one public function per callback, one transaction each; a repeated call is one.

``heartbeats`` has the hot path.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import and_, case, literal, or_, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from functions.domain.callbacks import Callback, TrainerEvent
from functions.domain.errors import WrongState
from functions.domain.states import Reason, State
from functions.store.session import read, write
from functions.store.tables import Job, JobEvent, Moment
from functions.store.transitions import Condition, add_event, change_state, log_change, refusal

#: the message of a job while a trainer checks its dataset
CHECKS = "checks the dataset"


def claim(call: Callback, event: TrainerEvent, *, now: datetime) -> Job:
    """Start a new attempt, counted from 1, for a trainer process that has just started.

    A repeated call returns the attempt of the first call. A call of a replaced launch is refused.

    Raises:
        NotFound, WrongState: as ``jobs.move``.
    """

    def start(session: Session) -> Job | None:
        still = _is_current_launch(call)
        _begin(session, call.job_id, now=now, still=still)
        job: Job | None = session.scalar(
            update(Job)
            .where(col(Job.id) == call.job_id, _has_begun(), still)
            .values(attempt=Job.attempt + 1, epoch=None, step=None, progress_at=now, **_sign_of_life(now))
            .returning(Job)
        )
        if job is not None:
            type_ = "check_started" if job.checking else event.type
            add_event(session, job, type_, event.message, data=event.data, delivery=call.delivery, now=now)
            log_change(session, job, f"attempt {job.attempt} has started")
        return job

    return _execute_once(call, State.RUNNING, start)


def record_event(call: Callback, event: TrainerEvent, *, now: datetime) -> Job:
    """Add a trainer's event to the timeline, and count it as a sign of life.

    Raises:
        NotFound: the job does not exist.
        WrongState: the job has ended, or belongs to a newer launch or attempt.
        Unusable: no trainer has claimed the attempt.
    """

    def note(session: Session) -> Job | None:
        job = _record_sign_of_life(session, call, now=now)
        if job is not None:
            add_event(session, job, event.type, event.message, data=event.data, delivery=call.delivery, now=now)
        return job

    return _execute_once(call, State.RUNNING, note)


def begin(call: Callback, *, now: datetime) -> Job | None:
    """Move a job to RUNNING on a trainer's first heartbeat, unless that trainer only checks the dataset.

    Returns None if this call was processed before.

    Raises:
        NotFound, WrongState, Unusable: as ``record_event``.
    """
    with write() as session:
        job = _record_sign_of_life(session, call, now=now)
        if job is None:
            _first_result(session, call, State.RUNNING)
        return job


def finish(  # noqa: PLR0913 -- the fields of one callback
    call: Callback,
    to: State,
    *,
    now: datetime,
    metrics: dict[str, float] | None,
    artifacts: list[str] | None,
    reason: Reason | None = None,
    message: str | None = None,
) -> Job:
    """Finish a job as its trainer reports; a check of the dataset can only fail it (see ``checks``).

    Raises:
        NotFound, WrongState, Unusable: as ``record_event``.
    """
    results = {"metrics": metrics, "artifacts": artifacts}
    values = {"reason": reason, "message": message, **{name: value for name, value in results.items() if value}}

    def end(session: Session) -> Job | None:
        return change_state(
            session, call.job_id, to, now=now, values=values, still=is_current(call), delivery=call.delivery
        )

    return _execute_once(call, to, end)


def _execute_once(call: Callback, to: State, transaction: Callable[[Session], Job | None]) -> Job:
    """Run a callback's transaction; for a repeated call, return the first result and write nothing."""
    try:
        with write() as session:
            job = transaction(session)
            return job if job is not None else _first_result(session, call, to)
    except IntegrityError:  # the call's timeline row exists, so the whole repeated transaction is rolled back
        with read() as session:
            return _first_result(session, call, to)


def _record_sign_of_life(session: Session, call: Callback, *, now: datetime) -> Job | None:
    """Begin an open job and update its heartbeat; return None if it has ended or the call is not current."""
    _begin(session, call.job_id, now=now, still=is_current(call))
    job: Job | None = session.scalar(
        update(Job)
        .where(col(Job.id) == call.job_id, _has_begun(), is_current(call))
        .values(_sign_of_life(now))
        .returning(Job)
    )
    return job


def _begin(session: Session, job_id: str, *, now: datetime, still: Condition) -> None:
    """Make a job RUNNING because its trainer calls, or only QUEUED while that trainer checks the dataset."""
    change_state(
        session, job_id, State.QUEUED, now=now, values={"message": CHECKS}, still=and_(still, col(Job.checking))
    )
    change_state(session, job_id, State.RUNNING, now=now, values={"message": None}, still=still)


def _has_begun() -> Condition:
    return or_(col(Job.state) == State.RUNNING, and_(col(Job.state) == State.QUEUED, col(Job.checking)))


def _sign_of_life(now: datetime) -> dict[str, Any]:
    """Return the columns that a callback updates in a job that has begun; if the job waited, the wait ends."""
    is_running = col(Job.waiting_since).is_(None)
    return {
        "heartbeat_at": now,
        "liveness": case((col(Job.checking), None), else_="live"),
        "message": case((col(Job.checking), CHECKS), (is_running, Job.message), else_=None),
        "running_since": case((is_running, Job.running_since), else_=literal(now, Moment())),
        "waiting_since": None,
    }


def is_current(call: Callback) -> Condition:
    """Return the fencing condition: the call is of the job's current attempt, and its launch was not replaced."""
    is_current_attempt = col(Job.attempt) == (Job.attempt if call.attempt is None else call.attempt)
    return and_(is_current_attempt, _is_current_launch(call))


def _is_current_launch(call: Callback) -> Condition:
    return col(Job.launch) <= (Job.launch if call.launch is None else call.launch)


def refuse_replaced(job: Job, launch: int | None) -> None:
    """Refuse a caller whose token names an older launch than the job's; a token without a launch is current.

    Raises:
        WrongState: the launch was replaced.
    """
    if launch is not None and launch < job.launch:
        raise WrongState(f"launch {launch} has been replaced by launch {job.launch}; stop", state=job.state)


def _first_result(session: Session, call: Callback, to: State) -> Job:
    """Return the job with the attempt of the first time that this call was processed.

    Raises:
        NotFound, WrongState, Unusable: the call was not processed before, and is refused.
    """
    source, id_ = call.delivery
    query = select(JobEvent).where(JobEvent.job_id == call.job_id, JobEvent.ce_source == source, JobEvent.ce_id == id_)
    first = session.exec(query).first()
    job = session.get(Job, call.job_id, populate_existing=True)
    if first is not None and job is not None:
        session.expunge(job)
        job.attempt = first.attempt
        return job
    if job is not None:
        refuse_replaced(job, call.launch)
    raise refusal(session, call.job_id, to, call.attempt)
