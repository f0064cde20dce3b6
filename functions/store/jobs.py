"""All SQL of jobs: one public function a sentence of the contract, one transaction each.

Every function takes the moment it happens at (``at``, aware UTC), so that tests own the clock, and runs
unchanged on SQLite and PostgreSQL. ``store_heartbeat`` has the hot path, ``store_read`` what only reads,
``store_sweep`` what only sweep needs.

Writes come first and reads only after a miss: no lock is upgraded on SQLite, no stale row believed on PostgreSQL.
"""

import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, literal, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from functions.domain.callbacks import Callback, Delivery, TrainerEvent
from functions.domain.errors import NotFound, Unusable, WrongState, unusable_field
from functions.domain.spec import Spec, as_json
from functions.domain.states import BEFORE, FINAL, NEXT, Reason, State
from functions.store.session import read, write
from functions.store.tables import Job, JobEvent, Moment, Outbox
from functions.store.views import job_json

#: of an update: what must yet hold in that very statement
Condition = ColumnElement[bool]


def create(  # noqa: PLR0913 -- what a new job has
    spec: Spec,
    *,
    identity: str | None,
    trace_id: str,
    now: datetime,
    dataset_etag: str | None = None,
    dataset_key: str | None = None,
) -> tuple[Job, bool]:
    """Write a PENDING job, or return the one that has this identity already; the flag says whether it is new.

    ``dataset_key`` is the dataset's object, where its name is not ``datasets/{dataset_id}.zip`` to the letter.

    Raises:
        IntegrityError: the job has no identity, and its id is another job's.
    """
    job = Job(
        # The time first: what runs now lies together in the indexes, however many jobs have ended.
        id=f"{int(now.timestamp()):08x}{secrets.token_hex(6)}",
        identity=identity,
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
    )
    try:
        with write() as session:
            session.add(job)
            session.flush()
            _tell(session, job, now=now)
            return job, True
    except IntegrityError:
        if identity is None:
            raise
        with read() as session:
            existing = session.exec(select(Job).where(Job.identity == identity)).first()
        if existing is None:
            raise
        return existing, False


def move(  # noqa: PLR0913 -- what a move writes
    job_id: str,
    to: State,
    *,
    now: datetime,
    message: str | None = None,
    reason: Reason | None = None,
    still: Condition | None = None,
) -> Job:
    """Move a job to a later state on the control plane's own account.

    Raises:
        NotFound: there is no such job.
        WrongState: the job is past ``to``, or ``still`` no longer holds; ``members["state"]`` says where it is.
    """
    with write() as session:
        job = _move(session, job_id, to, now=now, values={"message": message, "reason": reason}, still=still)
        if job is None:
            raise _miss(session, job_id, to)
        return job


def as_read(job: Job, *columns: str) -> Condition:
    """Return the condition that these columns of a job still hold what was read."""
    return and_(*[col(getattr(Job, name)).is_not_distinct_from(getattr(job, name)) for name in columns])


def unheard_since(job: Job) -> Condition:
    """Return the condition that since the job was read, nobody has submitted it and its trainer has not called back."""
    return as_read(job, "launch", "submitted_at", "heartbeat_at")


def claim(call: Callback, said: TrainerEvent, *, now: datetime) -> Job:
    """Give the job to the trainer's process that has just started: a new attempt, counted from 1.

    The same call again returns the attempt of the first time. A call of a launch that was replaced claims nothing.

    Raises:
        NotFound, WrongState: as ``move``.
    """

    def start(session: Session) -> Job | None:
        is_current = _is_current_launch(call)
        _move(session, call.job_id, State.RUNNING, now=now, values={"message": None}, still=is_current)
        job: Job | None = session.scalar(
            update(Job)
            .where(col(Job.id) == call.job_id, col(Job.state) == State.RUNNING, is_current)
            .values(attempt=Job.attempt + 1, epoch=None, step=None, progress_at=now, **_sign_of_life(now))
            .returning(Job)
        )
        if job is not None:
            _record(session, job, call, said, now=now)
        return job

    return _once(call, State.RUNNING, start)


def record_event(call: Callback, said: TrainerEvent, *, now: datetime) -> Job:
    """Write a trainer's event into the timeline; it counts as a sign of life.

    Raises:
        NotFound: there is no such job.
        WrongState: the job has ended, or belongs to a newer launch or attempt.
        Unusable: the attempt is one that was never claimed.
    """

    def note(session: Session) -> Job | None:
        job = _touch(session, call, now=now)
        if job is not None:
            _record(session, job, call, said, now=now)
        return job

    return _once(call, State.RUNNING, note)


def begin_running(call: Callback, *, now: datetime) -> bool:
    """Move a job to RUNNING by a trainer's first heartbeat; False when this very call was answered before.

    Raises:
        NotFound, WrongState, Unusable: as ``record_event``.
    """
    with write() as session:
        if _touch(session, call, now=now) is not None:
            return True
        _answered_before(session, call, State.RUNNING)
        return False


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
    """End a job by its trainer's word.

    Raises:
        NotFound, WrongState, Unusable: as ``record_event``.
    """
    told = {"metrics": metrics, "artifacts": artifacts}
    values = {"reason": reason, "message": message, **{name: value for name, value in told.items() if value}}

    def end(session: Session) -> Job | None:
        return _move(session, call.job_id, to, now=now, values=values, still=_is_current(call), delivery=call.delivery)

    return _once(call, to, end)


def _once(call: Callback, to: State, transaction: Callable[[Session], Job | None]) -> Job:
    """Run a callback's transaction; on a miss, or when the call was made before, give the first answer or refuse."""
    try:
        with write() as session:
            job = transaction(session)
            return job if job is not None else _answered_before(session, call, to)
    except IntegrityError:  # its timeline row is there already: all of the second time is undone
        with read() as session:
            return _answered_before(session, call, to)


def _move(  # noqa: PLR0913 -- the one statement that writes ``state``
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
        stamps = {"finished_at": now, "liveness": None, "waiting_since": None}
    elif to == State.RUNNING:
        moments = ("started_at", "running_since", "heartbeat_at", "progress_at")
        stamps = {"liveness": "live", **dict.fromkeys(moments, now)}
    elif to == State.QUEUED:
        stamps = {"queued_at": now}
    # Compare-and-set: of two callers that race, the database lets one through.
    where = [col(Job.id) == job_id, col(Job.state).in_(BEFORE[to])] + ([] if still is None else [still])
    job: Job | None = session.scalar(
        update(Job).where(*where).values(state=to, sequence=Job.sequence + 1, **stamps, **values).returning(Job)
    )
    if job is not None:
        _tell(session, job, now=now, delivery=delivery)
    return job


def _tell(session: Session, job: Job, *, now: datetime, delivery: Delivery | None = None) -> None:
    """Write the timeline's and the outbox's row of the state that the job has just entered."""
    source, id_ = delivery or (None, None)
    data = {"reason": job.reason} if job.reason else None
    session.add(
        JobEvent(
            job_id=job.id,
            kind="state",
            type=job.state,
            attempt=job.attempt,
            message=job.message,
            data=data,
            metrics=job.metrics if job.state in FINAL else None,
            ce_source=source,
            ce_id=id_,
            at=now,
        )
    )
    session.add(
        Outbox(
            job_id=job.id,
            sequence=job.sequence,
            type=f"dev.stoker.job.{job.state.lower()}",
            data=job_json(job),
            trace_id=job.trace_id,
            created_at=now,
        )
    )
    session.flush()


def _touch(session: Session, call: Callback, *, now: datetime) -> Job | None:
    """Count a sign of life of a job that has not ended, and make it RUNNING; None when it is past that."""
    _move(session, call.job_id, State.RUNNING, now=now, values={"message": None}, still=_is_current(call))
    job: Job | None = session.scalar(
        update(Job)
        .where(col(Job.id) == call.job_id, col(Job.state) == State.RUNNING, _is_current(call))
        .values(_sign_of_life(now))
        .returning(Job)
    )
    return job


def _sign_of_life(now: datetime) -> dict[str, Any]:
    """Return what a callback changes in a RUNNING job. It ends a wait: the running clock goes on."""
    runs = col(Job.waiting_since).is_(None)
    return {
        "heartbeat_at": now,
        "liveness": "live",
        "message": case((runs, Job.message), else_=None),
        "running_since": case((runs, Job.running_since), else_=literal(now, Moment())),
        "waiting_since": None,
    }


def _is_current(call: Callback) -> Condition:
    """Return the fence: the call is of the job's current attempt, and its launch has not been replaced."""
    of_attempt = col(Job.attempt) == (Job.attempt if call.attempt is None else call.attempt)
    return and_(of_attempt, _is_current_launch(call))


def _is_current_launch(call: Callback) -> Condition:
    return col(Job.launch) <= (Job.launch if call.launch is None else call.launch)


def refuse_replaced(job: Job, launch: int | None) -> None:
    """Refuse a caller whose token is of an older launch than the job's; a token that names none is current.

    Raises:
        WrongState: the launch was replaced.
    """
    if launch is not None and launch < job.launch:
        raise WrongState(f"launch {launch} has been replaced by launch {job.launch}; stop", state=job.state)


def _record(session: Session, job: Job, call: Callback, said: TrainerEvent, *, now: datetime) -> None:
    source, id_ = call.delivery
    session.add(
        JobEvent(
            job_id=job.id,
            kind="event",
            type=said.type,
            attempt=job.attempt,
            message=said.message,
            data=said.data,
            ce_source=source,
            ce_id=id_,
            at=now,
        )
    )
    session.flush()


def _answered_before(session: Session, call: Callback, to: State) -> Job:
    """Return the job as the first answer to this very call showed it, or raise why the call is refused."""
    source, id_ = call.delivery
    same = select(JobEvent).where(JobEvent.job_id == call.job_id, JobEvent.ce_source == source, JobEvent.ce_id == id_)
    first = session.exec(same).first()
    job = session.get(Job, call.job_id, populate_existing=True)
    if first is not None and job is not None:
        session.expunge(job)
        job.attempt = first.attempt
        return job
    if job is not None:
        refuse_replaced(job, call.launch)
    raise _miss(session, call.job_id, to, call.attempt)


def _miss(session: Session, job_id: str, to: State, attempt: int | None = None) -> NotFound | WrongState | Unusable:
    job = session.get(Job, job_id, populate_existing=True)
    if job is None:
        return NotFound(f"there is no job {job_id}")
    if attempt is not None and attempt > job.attempt and job.state not in FINAL:
        return unusable_field("attempt", f"no process has claimed attempt {attempt}; the current one is {job.attempt}")
    if attempt is not None and attempt < job.attempt:
        return WrongState(f"attempt {attempt} has been replaced by attempt {job.attempt}; stop", state=job.state)
    verb = "has ended" if job.state in FINAL else "has moved on"
    said = f"job {job_id} is {job.state}: it {verb}" + (
        "" if to in NEXT[State(job.state)] else f" and cannot become {to}"
    )
    return WrongState(said, state=job.state)
