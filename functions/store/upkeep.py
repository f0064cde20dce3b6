"""Statements of sweep: its lease, open jobs, waits, relaunches, silence; and the rejected events of create-job."""

import hashlib
import secrets
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Update, delete, func, or_, text, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from functions.domain.states import FINAL, WAITING, Reason, State
from functions.store.session import database_now, read, write
from functions.store.tables import IS_OPEN, DeletedJob, IgnoredUpload, Job, RejectedEvent, SweepTurn
from functions.store.transitions import add_event, log_change, next_launch, no_activity_since, unchanged

#: parameters per statement; PostgreSQL allows 65,535, SQLite 32,766
_CHUNK_SIZE = 5_000
#: maximum characters of a message
_MESSAGE_LENGTH = 500


class HeldLease(NamedTuple):
    """A sweep lease that was taken."""

    #: a random id, which identifies the holder independently of any clock
    holder: str
    #: since when the control plane has been up; silence and stalls are not counted from before
    awake_at: datetime


def take_lease(*, now: datetime, lasting: timedelta, away_after: timedelta) -> HeldLease | None:
    """Take the sweep lease; return None while another sweep holds it.

    The lease runs by the database's clock, so that it does not depend on the replicas' clocks: at most one sweep holds
    it. A holder that does not extend it in time loses it; ``keep_lease`` then returns False. A gap of ``away_after``
    or more between two sweeps means that the control plane was down.
    """
    holder = secrets.token_hex(8)
    with write() as session:
        database_time = database_now(session)
        until = database_time + lasting
        turn: SweepTurn | None = session.scalar(
            update(SweepTurn)
            .where(
                col(SweepTurn.id) == 1,
                # A lease never ends later than ``lasting`` from now, unless the database's clock was set back. The
                # second ``lasting`` allows for small clock steps, as by NTP, which must not end a lease early.
                or_(col(SweepTurn.taken_until) <= database_time, col(SweepTurn.taken_until) > until + lasting),
            )
            .values(taken_until=until, holder=holder)
            .returning(SweepTurn)
        )
        if turn is not None:
            turn.awake_at = min(turn.awake_at, now) if abs(now - turn.swept_at) < away_after else now
            turn.swept_at = now
            return HeldLease(holder, turn.awake_at)
        if session.get(SweepTurn, 1) is not None:
            return None
    try:
        with write() as session:
            session.add(SweepTurn(id=1, taken_until=until, holder=holder, swept_at=now, awake_at=now))
    except IntegrityError:  # another first sweep has created the row
        return None
    return HeldLease(holder, now)


def keep_lease(holder: str, *, lasting: timedelta) -> bool:
    """Extend a holder's lease; return False if another sweep has taken it."""
    with write() as session:
        until = database_now(session) + lasting
        statement = update(SweepTurn).where(col(SweepTurn.id) == 1, col(SweepTurn.holder) == holder)
        return session.scalar(statement.values(taken_until=until).returning(SweepTurn)) is not None


def end_lease(holder: str) -> None:
    """Release the lease, unless another sweep has taken it."""
    with write() as session:
        statement = update(SweepTurn).where(col(SweepTurn.id) == 1, col(SweepTurn.holder) == holder)
        session.execute(statement.values(taken_until=database_now(session), holder=None))


def awake_at() -> datetime | None:
    """Return since when the control plane has been up; None before the first sweep."""
    with read() as session:
        return session.exec(select(SweepTurn.awake_at).where(SweepTurn.id == 1)).first()


def open_jobs() -> list[Job]:
    """Return the jobs that have not ended, oldest first."""
    with read() as session:
        return list(session.exec(select(Job).where(text(IS_OPEN)).order_by(col(Job.created_at), col(Job.id))))


def open_or_ended_since(time: datetime, job_ids: Collection[str]) -> set[str]:
    """Return those of the given ids whose job exists and is open, or has ended after ``time``."""
    return _ids(job_ids, or_(col(Job.state).not_in(FINAL), col(Job.finished_at) > time))


def existing(job_ids: Collection[str]) -> set[str]:
    """Return those of the given ids whose job exists."""
    return _ids(job_ids)


def _ids(job_ids: Collection[str], *conditions: ColumnElement[bool]) -> set[str]:
    with read() as session:
        return {
            job_id
            for chunk in _chunks(job_ids)
            for job_id in session.exec(select(Job.id).where(col(Job.id).in_(chunk), *conditions))
        }


def _chunks(values: Collection[str]) -> Iterator[list[str]]:
    ordered = list(values)
    for start in range(0, len(ordered), _CHUNK_SIZE):
        yield ordered[start : start + _CHUNK_SIZE]


def note_submitted(job: Job, message: str | None, *, now: datetime, image: str | None = None) -> bool:
    """Note that a job's current launch was submitted, what it waits for, and its trainer's image.

    The image of the first submission is preserved, because that created the trainer. Returns False, and changes
    nothing, if the job has ended or was launched again since it was read.
    """
    values = {"submitted_at": now, "image": func.coalesce(Job.image, image)}
    still = (col(Job.id) == job.id, col(Job.state).not_in(FINAL), unchanged(job, "launch"))
    with write() as session:
        noted = session.scalar(update(Job).where(*still).values(values).returning(Job))
        if noted is not None and job.submitted_at is None:
            log_change(session, noted, f"launch {job.launch} was submitted", image=noted.image)
        session.execute(_update_message(job, message))
        return noted is not None


def note_token(job: Job, key: str, expires_at: datetime) -> None:
    """Note the signing key and the expiry of the token that is stored for this launch's next trainer."""
    with write() as session:
        session.execute(
            update(Job)
            .where(col(Job.id) == job.id, col(Job.launch) == job.launch)
            .values(token_key=key, token_expires_at=expires_at)
        )


def note_image(job_id: str, launch: int, image: str) -> None:
    """Note the image that a launch's trainer runs, by digest, as the cluster reports it.

    This changes nothing if the launch was replaced; it also updates a job that has ended.
    """
    with write() as session:
        session.execute(
            update(Job)
            .where(col(Job.id) == job_id, col(Job.launch) == launch, col(Job.image).is_distinct_from(image))
            .values(image=image)
        )


def note_wait(job: Job, message: str | None, *, now: datetime) -> None:
    """Note what a job waits for, if that has changed; a RUNNING job stops counting its running time."""
    if job.state in WAITING and message != job.message:
        with write() as session:
            session.execute(_update_message(job, message))
    elif job.state == State.RUNNING and (job.waiting_since is None or message != job.message):
        still = (
            col(Job.id) == job.id,
            col(Job.state) == State.RUNNING,
            unchanged(job, "launch", "heartbeat_at", "waiting_since"),
        )
        with write() as session:
            updated = session.scalar(
                update(Job).where(*still).values(_waiting_values(job, message, now=now)).returning(Job)
            )
            if updated is not None and job.waiting_since is None:
                _add_event(session, updated, "waiting", message, now=now)


def note_running(job: Job, *, now: datetime) -> None:
    """Note that a waiting job has a trainer again: its running time continues, and its other clocks restart."""
    still = (
        col(Job.id) == job.id,
        col(Job.state) == State.RUNNING,
        no_activity_since(job),
        unchanged(job, "waiting_since"),
    )
    moments = dict.fromkeys(("running_since", "heartbeat_at", "progress_at"), now)
    with write() as session:
        session.execute(
            update(Job)
            .where(*still, col(Job.waiting_since).is_not(None))
            .values(waiting_since=None, message=None, liveness="live", **moments)
        )


def ran_seconds(job: Job, *, now: datetime) -> float:
    """Return how long a job has been running, without the time in which it waited for a next trainer."""
    before, since = job.ran_seconds or 0.0, job.running_since or job.started_at
    if since is None or job.waiting_since is not None:
        return before
    return before + max(0.0, (now - since).total_seconds())


def _waiting_values(job: Job, message: str | None, *, now: datetime) -> dict[str, Any]:
    """Return the columns that change in a RUNNING job that waits."""
    clock = {} if job.waiting_since is not None else {"waiting_since": now, "ran_seconds": ran_seconds(job, now=now)}
    return {"liveness": "waiting", "message": message, **clock}


def _update_message(job: Job, message: str | None) -> Update:
    still = (col(Job.id) == job.id, col(Job.state).in_(WAITING), unchanged(job, "launch"))
    return update(Job).where(*still).values(message=message)


def relaunch(job: Job, message: str, *, reason: Reason | None = None, now: datetime) -> Job | None:
    """Begin another launch of a job whose trainer has ended, and return the job; sweep submits it.

    Returns None if the job has reached its ``attempt_limit``, or if since it was read it has ended, was submitted, or
    its trainer called back.
    """
    with write() as session:
        relaunched = session.scalar(
            update(Job)
            .where(
                col(Job.id) == job.id,
                col(Job.state).not_in(FINAL),
                no_activity_since(job),
                unchanged(job, "state", "waiting_since"),
                col(Job.launch) - col(Job.check_launches) < Job.attempt_limit,
            )
            .values(
                **next_launch(now),
                **(
                    _waiting_values(job, f"starts again: {message}"[:_MESSAGE_LENGTH], now=now)
                    if job.state == State.RUNNING
                    else {}
                ),
            )
            .returning(Job)
        )
        if relaunched is not None:
            _add_event(session, relaunched, "retrying", message, reason=reason, now=now)
        return relaunched


def _add_event(  # noqa: PLR0913 -- the columns of a timeline row
    session: Session, job: Job, type_: str, message: str | None, *, reason: Reason | None = None, now: datetime
) -> None:
    """Add to the timeline what sweep observed, and log it."""
    add_event(session, job, type_, message, data={"reason": reason} if reason else None, now=now)
    log_change(session, job, f"the job is {type_}", reason=reason, detail=message)


def note_silence(job_id: str, *, since: datetime, now: datetime) -> bool:
    """Mark a RUNNING job whose last callback is before ``since`` as silent; return whether this is a change."""
    with write() as session:
        job = session.scalar(
            update(Job)
            .where(
                col(Job.id) == job_id,
                col(Job.state) == State.RUNNING,
                col(Job.heartbeat_at) < since,
                or_(col(Job.liveness).is_(None), col(Job.liveness) == "live"),
            )
            .values(liveness="silent")
            .returning(Job)
        )
        if job is not None:
            _add_event(session, job, "silent", None, now=now)
        return job is not None


def deleted_jobs(*, before: datetime, limit: int) -> list[str]:
    """Return the ids of jobs that were deleted before a time, whose objects may be there again; the oldest first."""
    query = select(DeletedJob.job_id).where(col(DeletedJob.at) < before).order_by(col(DeletedJob.at)).limit(limit)
    with read() as session:
        return list(session.exec(query))


def forget_deleted(job_id: str) -> None:
    """Forget a deleted job, whose objects are gone for good."""
    with write() as session:
        session.execute(delete(DeletedJob).where(col(DeletedJob.job_id) == job_id))


def known_identities(identities: Collection[str]) -> set[str]:
    """Return those of the given identities that a job, a rejected event or an ignored upload has."""
    with read() as session:
        return {
            identity
            for chunk in _chunks(identities)
            for column in (col(Job.identity), col(RejectedEvent.identity), col(IgnoredUpload.identity))
            for identity in session.exec(select(column).where(column.in_(chunk)))
            if identity is not None
        }


def reject(reason: str, body: str, *, now: datetime, identity: str | None = None) -> None:
    """Store a rejected event with its reason; a repetition changes nothing."""
    digest = hashlib.sha256(f"{reason}\0{body}".encode("utf-8", "replace")).hexdigest()
    try:
        with write() as session:
            session.add(
                RejectedEvent(
                    identity=identity or digest, reason=_storable(reason), body=_storable(body)[:4096], at=now
                )
            )
    except IntegrityError:
        return


def ignore(identity: str, *, now: datetime) -> None:
    """Note that an upload makes no job; a repetition changes nothing."""
    try:
        with write() as session:
            session.add(IgnoredUpload(identity=identity, at=now))
    except IntegrityError:
        return


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
