"""Statements that change jobs: one public function per rule of the contract, one transaction each.

Every function takes the current time as ``now`` (aware UTC), so that tests control the clock, and works on SQLite and
PostgreSQL alike. ``heartbeats`` has the hot path, ``queries`` the read-only statements, ``upkeep`` those of sweep.

A transaction writes first, and reads only if the write matched no row. This avoids upgrading locks on SQLite, and
acting on stale rows on PostgreSQL.
"""

import logging
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, literal, not_, or_, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from functions.domain import curves, descriptions
from functions.domain.callbacks import Callback, Delivery, TrainerEvent
from functions.domain.errors import NotFound, Unusable, WrongState, unusable_field
from functions.domain.spec import UNKNOWN, Origin, Spec, as_json
from functions.domain.states import BEFORE, FINAL, NEXT, Reason, State
from functions.runtime import logs
from functions.store.session import log_after_commit, read, write
from functions.store.tables import IgnoredUpload, Job, JobEvent, JobTag, Moment, Outbox
from functions.store.views import job_json

#: an additional WHERE condition of an update
Condition = ColumnElement[bool]
#: the message of a job while a trainer checks its dataset
CHECKS = "checks the dataset"


def create(  # noqa: PLR0913 -- the columns of a new job
    spec: Spec,
    *,
    identity: str | None,
    trace_id: str,
    now: datetime,
    dataset_etag: str | None = None,
    dataset_key: str | None = None,
    origin: Origin = UNKNOWN,
    job_id: str | None = None,
    checking: bool = False,
    check_skipped: str | None = None,
) -> tuple[Job, bool]:
    """Create a PENDING job, or return the existing job with this identity; the flag says whether the job is new.

    ``dataset_key`` is the key of the dataset's object, if it is not exactly ``datasets/{dataset_id}.zip``. With
    ``checking``, the first launch only checks the dataset; ``check_skipped`` is why it does not.

    Raises:
        IntegrityError: the job has no identity, and its random id exists already.
    """
    job = Job(
        id=job_id or new_id(now),
        identity=identity,
        name=spec.name,
        name_key=descriptions.search_key(spec.name) if spec.name else None,
        tags=spec.tags,
        notes=spec.notes,
        **origin._asdict(),
        framework=spec.framework,
        task=spec.task,
        dataset_id=spec.dataset_id,
        dataset_etag=dataset_etag,
        dataset_key=dataset_key,
        model_name=spec.model_name,
        spec=as_json(spec),
        trace_id=trace_id,
        attempt_limit=spec.attempt_limit,
        epochs=spec.epochs,
        metrics={},
        artifacts=[],
        created_at=now,
        sequence=1,
        checking=checking,
    )
    try:
        with write() as session:
            session.add(job)
            session.flush()
            _add_tags(session, job)
            _add_state_rows(session, job, now=now)
            if check_skipped is not None:
                add_event(session, job, "check_skipped", check_skipped, now=now)
            return job, True
    except IntegrityError:
        if identity is None:
            raise
        with read() as session:
            existing = session.exec(select(Job).where(Job.identity == identity)).first()
        if existing is None:
            raise
        return existing, False


def new_id(now: datetime) -> str:
    """Return a new job's id. It begins with the time, so that recent jobs are close together in the indexes."""
    return f"{int(now.timestamp()):08x}{secrets.token_hex(6)}"


def _add_tags(session: Session, job: Job) -> None:
    session.add_all(JobTag(job_id=job.id, tag=tag, created_at=job.created_at) for tag in job.tags or [])


def describe(job_id: str, changes: Mapping[str, Any]) -> Job:
    """Change a job's name, tags or notes, in whatever state it is.

    Raises:
        NotFound: the job does not exist.
    """
    values = dict(changes)
    if "name" in values:
        values["name_key"] = descriptions.search_key(values["name"]) if values["name"] else None
    with write() as session:
        job: Job | None = session.scalar(
            update(Job).where(col(Job.id) == job_id).values(values or {"id": job_id}).returning(Job)
        )
        if job is None:
            raise NotFound(f"there is no job {job_id}")
        if "tags" in values:
            session.execute(delete(JobTag).where(col(JobTag.job_id) == job_id))
            _add_tags(session, job)
        return job


def remove(job_id: str, *, now: datetime) -> None:
    """Delete an ended job with its timeline, and tell so by an event. Its upload makes no second job.

    Raises:
        NotFound: the job does not exist.
        WrongState: the job has not ended.
    """
    with write() as session:
        job: Job | None = session.scalar(
            update(Job)
            .where(col(Job.id) == job_id, col(Job.state).in_(FINAL))
            .values(sequence=Job.sequence + 1)
            .returning(Job)
        )
        if job is None:
            refuse_open(session.get(Job, job_id), job_id)
            raise NotFound(f"there is no job {job_id}")  # it was deleted in between
        _add_outbox_row(session, job, "deleted", now=now)
        if job.identity is not None:
            session.merge(IgnoredUpload(identity=job.identity, at=now))
        for table in (JobEvent, JobTag):
            session.execute(delete(table).where(col(table.job_id) == job_id))
        session.execute(delete(Job).where(col(Job.id) == job_id))
        log_change(session, job, "the job is deleted")


def refuse_open(job: Job | None, job_id: str) -> None:
    """Raise WrongState if a job has not ended; NotFound if there is none."""
    if job is None:
        raise NotFound(f"there is no job {job_id}")
    if job.state not in FINAL:
        raise WrongState(f"job {job_id} is {job.state}: cancel it before you delete it", state=job.state)


def move(  # noqa: PLR0913 -- the columns that a change of state writes
    job_id: str,
    to: State,
    *,
    now: datetime,
    message: str | None = None,
    reason: Reason | None = None,
    still: Condition | None = None,
) -> Job:
    """Move a job to a later state, as decided by the control plane.

    Raises:
        NotFound: the job does not exist.
        WrongState: the job cannot become ``to``, or ``still`` does not hold; ``members["state"]`` is its state.
    """
    with write() as session:
        job = _move(session, job_id, to, now=now, values={"message": message, "reason": reason}, still=still)
        if job is None:
            raise _refusal(session, job_id, to)
        return job


def unchanged(job: Job, *columns: str) -> Condition:
    """Return the condition that columns of a job still have the values that were read."""
    return and_(*[col(getattr(Job, name)).is_not_distinct_from(getattr(job, name)) for name in columns])


def no_activity_since(job: Job) -> Condition:
    """Return the condition that a job was neither submitted nor called back for since it was read."""
    return unchanged(job, "launch", "submitted_at", "heartbeat_at")


def claim(call: Callback, event: TrainerEvent, *, now: datetime) -> Job:
    """Start a new attempt, counted from 1, for a trainer process that has just started.

    A repeated call returns the attempt of the first call. A call of a replaced launch is refused.

    Raises:
        NotFound, WrongState: as ``move``.
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
        return _move(session, call.job_id, to, now=now, values=values, still=is_current(call), delivery=call.delivery)

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


def _move(  # noqa: PLR0913 -- the only statement that changes ``state``
    session: Session,
    job_id: str,
    to: State,
    *,
    now: datetime,
    values: dict[str, Any],
    still: Condition | None = None,
    delivery: Delivery | None = None,
) -> Job | None:
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
        _add_state_rows(session, job, now=now, delivery=delivery)
    return job


def _add_state_rows(session: Session, job: Job, *, now: datetime, delivery: Delivery | None = None) -> None:
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
    _add_outbox_row(session, job, job.state.lower(), now=now)
    session.flush()
    level = logging.WARNING if job.state == State.FAILED else logging.INFO
    log_change(session, job, f"the job is {job.state}", level=level, reason=job.reason, detail=job.message)


def _add_outbox_row(session: Session, job: Job, event: str, *, now: datetime) -> None:
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


def log_change(session: Session, job: Job, message: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Log a change of a job after the commit, under the job's trace id rather than the request's."""
    request_trace_id = logs.context.get().get("trace_id")
    if request_trace_id not in {None, job.trace_id}:
        fields["request_trace_id"] = request_trace_id
    names = ("trace_id", "state", "attempt", "launch", "framework", "dataset_id")
    described = {"job_id": job.id} | {name: getattr(job, name) for name in names} | fields
    log_after_commit(session, level, message, **{name: value for name, value in described.items() if value is not None})


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
    _move(session, job_id, State.QUEUED, now=now, values={"message": CHECKS}, still=and_(still, col(Job.checking)))
    _move(session, job_id, State.RUNNING, now=now, values={"message": None}, still=still)


def _has_begun() -> Condition:
    return or_(col(Job.state) == State.RUNNING, and_(col(Job.state) == State.QUEUED, col(Job.checking)))


def next_launch(now: datetime) -> dict[str, Any]:
    """Return the columns of a job whose next launch begins."""
    unknown = dict.fromkeys(("submitted_at", "token_key", "token_expires_at", "image"))
    return {"launch": Job.launch + 1, "heartbeat_at": now, "progress_at": now, **unknown}


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
    raise _refusal(session, call.job_id, to, call.attempt)


def _refusal(session: Session, job_id: str, to: State, attempt: int | None = None) -> NotFound | WrongState | Unusable:
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
