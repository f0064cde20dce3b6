"""What only sweep needs: whose turn it is, the open jobs, silence; and what create-job rejects."""

import hashlib
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from sqlalchemy import Update, func, or_, text, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from functions.session import read, write
from functions.states import FINAL, State
from functions.tables import IS_OPEN, Job, JobEvent, RejectedEvent, SweepTurn

#: PostgreSQL takes 65,535 parameters in a statement, SQLite 32,766
_AT_A_TIME = 5_000
#: whose message says what they wait for
_WAITING = frozenset({State.PENDING, State.QUEUED})


def take_turn(*, at: datetime, lasting: timedelta, away_after: timedelta) -> datetime | None:
    """Take the turn to sweep, so that two sweeps never work side by side.

    Returns since when the control plane has been awake (every clock of silence starts no earlier), or None
    when another sweep has the turn. A gap of ``away_after`` between two sweeps counts as having been away.
    """
    until = at + lasting
    first = SweepTurn(id=1, taken_until=until, swept_at=at, awake_at=at)
    with write() as session:
        turn: SweepTurn | None = session.scalar(
            update(SweepTurn)
            .where(
                col(SweepTurn.id) == 1,
                # No turn lasts beyond that: what claims to was taken by a clock that was ahead.
                or_(col(SweepTurn.taken_until) <= at, col(SweepTurn.taken_until) > until),
            )
            .values(taken_until=until)
            .returning(SweepTurn)
        )
        if turn is not None:
            turn.awake_at = min(turn.awake_at, at) if abs(at - turn.swept_at) < away_after else at
            turn.swept_at = at
            return turn.awake_at
        if session.get(SweepTurn, 1) is not None:
            return None
    try:
        with write() as session:
            session.add(first)
    except IntegrityError:  # another sweep was first to be the first
        return None
    return at


def keep_turn(*, at: datetime, until: datetime, lasting: timedelta) -> bool:
    """Prolong the turn that was taken, or last kept, at a moment; False when it ran out and is another's by now."""
    mine = col(SweepTurn.taken_until) == at + lasting
    with write() as session:
        turn = update(SweepTurn).where(col(SweepTurn.id) == 1, mine).values(taken_until=until).returning(SweepTurn)
        return session.scalar(turn) is not None


def end_turn(*, at: datetime, lasting: timedelta) -> None:
    """Give back the turn that was taken then, unless it ran out and is another sweep's by now."""
    mine = col(SweepTurn.taken_until) == at + lasting
    with write() as session:
        session.execute(update(SweepTurn).where(col(SweepTurn.id) == 1, mine).values(taken_until=at))


def awake_at() -> datetime | None:
    """Return since when the control plane has been awake; None before the first sweep."""
    with read() as session:
        return session.exec(select(SweepTurn.awake_at).where(SweepTurn.id == 1)).first()


def open_jobs() -> list[Job]:
    """Return the jobs that have not ended, oldest first."""
    with read() as session:
        return list(session.exec(select(Job).where(text(IS_OPEN)).order_by(col(Job.created_at), col(Job.id))))


def open_or_ended_since(moment: datetime, job_ids: Collection[str]) -> set[str]:
    """Return those of these jobs that exist, and have not ended or only after a moment."""
    is_so = or_(col(Job.state).not_in(FINAL), col(Job.finished_at) > moment)
    with read() as session:
        return {
            job_id
            for some in _chunks(job_ids)
            for job_id in session.exec(select(Job.id).where(col(Job.id).in_(some), is_so))
        }


def _chunks(values: Collection[str]) -> Iterator[list[str]]:
    every = list(values)
    for start in range(0, len(every), _AT_A_TIME):
        yield every[start : start + _AT_A_TIME]


def submitted(job_id: str, message: str | None, *, at: datetime, image: str | None = None) -> None:
    """Note that a job was handed to the launcher, what it waits for, and the image that its trainer is configured with.

    The image of a launch that was submitted before stays: its trainer was made then, and has it.
    """
    with write() as session:
        values = {"submitted_at": at, "image": func.coalesce(Job.image, image)}
        session.execute(update(Job).where(col(Job.id) == job_id).values(values))
        session.execute(_saying(job_id, message))


def note_token(job: Job, key: str, expires_at: datetime) -> None:
    """Note which key signed the token that this launch's trainer finds when it starts, and when that token expires."""
    with write() as session:
        session.execute(
            update(Job)
            .where(col(Job.id) == job.id, col(Job.launch) == job.launch)
            .values(token_key=key, token_expires_at=expires_at)
        )


def note_image(job_id: str, launch: int, image: str) -> None:
    """Note which image the trainer of a launch runs, as the cluster names it: by digest.

    A launch that was replaced changes nothing; a job that has ended is described all the same.
    """
    with write() as session:
        session.execute(
            update(Job)
            .where(col(Job.id) == job_id, col(Job.launch) == launch, col(Job.image).is_distinct_from(image))
            .values(image=image)
        )


def note_wait(job: Job, message: str | None) -> None:
    """Note what a job waits for, where that is something else than at the last look."""
    if job.state in _WAITING and message != job.message:
        with write() as session:
            session.execute(_saying(job.id, message))


def _saying(job_id: str, message: str | None) -> Update:
    return update(Job).where(col(Job.id) == job_id, col(Job.state).in_(_WAITING)).values(message=message)


def relaunch(job: Job, message: str, *, at: datetime) -> Job | None:
    """Count another start of a job whose trainer has ended; None when it moved on, or was counted by another.

    It is to be submitted then: until that is noted, sweep does it again.
    """
    with write() as session:
        again = session.scalar(
            update(Job)
            .where(
                col(Job.id) == job.id,
                col(Job.state).not_in(FINAL),
                col(Job.launch) == job.launch,
                col(Job.launch) < Job.attempt_limit,
            )
            .values(
                launch=Job.launch + 1,
                submitted_at=None,
                token_key=None,
                token_expires_at=None,
                image=None,
                heartbeat_at=at,
                progress_at=at,
            )
            .returning(Job)
        )
        if again is not None:
            session.add(
                JobEvent(job_id=job.id, kind="event", type="retrying", attempt=job.attempt, message=message, at=at)
            )
        return again


def note_silence(job_id: str, *, since: datetime, at: datetime) -> bool:
    """Mark a RUNNING job that has not called back since then as silent; True when it was not marked before."""
    with write() as session:
        job = session.scalar(
            update(Job)
            .where(
                col(Job.id) == job_id,
                col(Job.state) == State.RUNNING,
                col(Job.heartbeat_at) < since,
                or_(col(Job.liveness).is_(None), col(Job.liveness) != "silent"),
            )
            .values(liveness="silent")
            .returning(Job)
        )
        if job is not None:
            session.add(JobEvent(job_id=job_id, kind="event", type="silent", attempt=job.attempt, at=at))
        return job is not None


def known(identities: Collection[str]) -> set[str]:
    """Return those of these identities that a job, or a rejected event, has already."""
    with read() as session:
        return {
            identity
            for some in _chunks(identities)
            for column in (col(Job.identity), col(RejectedEvent.identity))
            for identity in session.exec(select(column).where(column.in_(some)))
            if identity is not None
        }


def reject(reason: str, body: str, *, at: datetime, identity: str | None = None) -> None:
    """Keep a delivery that can never become a job; the same one again changes nothing."""
    digest = hashlib.sha256(f"{reason}\0{body}".encode("utf-8", "replace")).hexdigest()
    try:
        with write() as session:
            session.add(
                RejectedEvent(identity=identity or digest, reason=_storable(reason), body=_storable(body)[:4096], at=at)
            )
    except IntegrityError:
        return


def _storable(said: str) -> str:
    return said.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
