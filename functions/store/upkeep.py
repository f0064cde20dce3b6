"""What only sweep needs: its lease, the open jobs, silence; and what create-job rejects."""

import hashlib
import secrets
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Update, func, or_, text, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from functions.domain.states import FINAL, State
from functions.store.jobs import as_read, unheard_since
from functions.store.session import database_now, read, write
from functions.store.tables import IS_OPEN, Job, JobEvent, RejectedEvent, SweepTurn

#: PostgreSQL takes 65,535 parameters in a statement, SQLite 32,766
_AT_A_TIME = 5_000
#: characters of a message
_MESSAGE_LENGTH = 500
#: whose message says what they wait for
_WAITING = frozenset({State.PENDING, State.QUEUED})


class Held(NamedTuple):
    """A lease to sweep that was taken."""

    #: what tells its holder from the next one's, whatever their clocks show
    holder: str
    #: since when the control plane has been awake: every clock of silence starts no earlier
    awake_at: datetime


def take_lease(*, now: datetime, lasting: timedelta, away_after: timedelta) -> Held | None:
    """Take the lease to sweep; None while another sweep holds it.

    The lease runs by the database's clock, so that replicas' clocks do not matter: at most one sweep holds it. Its
    holder loses it by not extending it in time; then it learns so from ``keep_lease``. A gap of ``away_after``
    between two sweeps means that the control plane was away.
    """
    holder = secrets.token_hex(8)
    with write() as session:
        database_time = database_now(session)
        until = database_time + lasting
        turn: SweepTurn | None = session.scalar(
            update(SweepTurn)
            .where(
                col(SweepTurn.id) == 1,
                # No lease ends later than one duration from now, unless the database's clock was set back; a step of
                # less than a duration, such as NTP makes, ends no lease early.
                or_(col(SweepTurn.taken_until) <= database_time, col(SweepTurn.taken_until) > until + lasting),
            )
            .values(taken_until=until, holder=holder)
            .returning(SweepTurn)
        )
        if turn is not None:
            turn.awake_at = min(turn.awake_at, now) if abs(now - turn.swept_at) < away_after else now
            turn.swept_at = now
            return Held(holder, turn.awake_at)
        if session.get(SweepTurn, 1) is not None:
            return None
    try:
        with write() as session:
            session.add(SweepTurn(id=1, taken_until=until, holder=holder, swept_at=now, awake_at=now))
    except IntegrityError:  # another sweep was first to be the first
        return None
    return Held(holder, now)


def keep_lease(holder: str, *, lasting: timedelta) -> bool:
    """Extend the lease of a holder; False when another sweep has taken it."""
    with write() as session:
        until = database_now(session) + lasting
        mine = update(SweepTurn).where(col(SweepTurn.id) == 1, col(SweepTurn.holder) == holder)
        return session.scalar(mine.values(taken_until=until).returning(SweepTurn)) is not None


def end_lease(holder: str) -> None:
    """Give the lease back, unless another sweep has taken it."""
    with write() as session:
        mine = update(SweepTurn).where(col(SweepTurn.id) == 1, col(SweepTurn.holder) == holder)
        session.execute(mine.values(taken_until=database_now(session), holder=None))


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


def submitted(job: Job, message: str | None, *, now: datetime, image: str | None = None) -> bool:
    """Note that this launch of a job was handed to the launcher, what it waits for, and its trainer's image.

    The image of a launch that was submitted before stays: its trainer was made then, and has it. False, and nothing
    is noted, when the job has ended or was launched again since it was read.
    """
    values = {"submitted_at": now, "image": func.coalesce(Job.image, image)}
    still = (col(Job.id) == job.id, col(Job.state).not_in(FINAL), as_read(job, "launch"))
    with write() as session:
        noted = session.scalar(update(Job).where(*still).values(values).returning(Job)) is not None
        session.execute(_saying(job, message))
        return noted


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


def note_wait(job: Job, message: str | None, *, now: datetime) -> None:
    """Note what a job waits for, where that is something else than before; the clock of a RUNNING job stops."""
    if job.state in _WAITING and message != job.message:
        with write() as session:
            session.execute(_saying(job, message))
    elif job.state == State.RUNNING and (job.waiting_since is None or message != job.message):
        still = (
            col(Job.id) == job.id,
            col(Job.state) == State.RUNNING,
            as_read(job, "launch", "heartbeat_at", "waiting_since"),
        )
        with write() as session:
            waits = session.scalar(update(Job).where(*still).values(_waits(job, message, now=now)).returning(Job))
            if waits is not None and job.waiting_since is None:
                session.add(
                    JobEvent(job_id=job.id, kind="event", type="waiting", attempt=job.attempt, message=message, at=now)
                )


def note_running(job: Job, *, now: datetime) -> None:
    """Note that a job which waited has a trainer again: its clocks go on, and start with it."""
    still = (col(Job.id) == job.id, col(Job.state) == State.RUNNING, unheard_since(job), as_read(job, "waiting_since"))
    moments = dict.fromkeys(("running_since", "heartbeat_at", "progress_at"), now)
    with write() as session:
        session.execute(
            update(Job)
            .where(*still, col(Job.waiting_since).is_not(None))
            .values(waiting_since=None, message=None, liveness="live", **moments)
        )


def ran_seconds(job: Job, *, now: datetime) -> float:
    """Return how long a job has been running; the time that it waited again is not counted."""
    before, since = job.ran_seconds or 0.0, job.running_since or job.started_at
    if since is None or job.waiting_since is not None:
        return before
    return before + max(0.0, (now - since).total_seconds())


def _waits(job: Job, message: str | None, *, now: datetime) -> dict[str, Any]:
    """Return what changes in a RUNNING job that waits."""
    clock = {} if job.waiting_since is not None else {"waiting_since": now, "ran_seconds": ran_seconds(job, now=now)}
    return {"liveness": "waiting", "message": message, **clock}


def _saying(job: Job, message: str | None) -> Update:
    still = (col(Job.id) == job.id, col(Job.state).in_(_WAITING), as_read(job, "launch"))
    return update(Job).where(*still).values(message=message)


def relaunch(job: Job, message: str, *, now: datetime) -> Job | None:
    """Count another launch of a job whose trainer has ended, and return the job; each sweep submits it until it is.

    None when it may not have another, or is not as it was read: it ended, was submitted, or its trainer called back.
    """
    with write() as session:
        again = session.scalar(
            update(Job)
            .where(
                col(Job.id) == job.id,
                col(Job.state).not_in(FINAL),
                unheard_since(job),
                as_read(job, "state", "waiting_since"),
                col(Job.launch) < Job.attempt_limit,
            )
            .values(
                launch=Job.launch + 1,
                submitted_at=None,
                token_key=None,
                token_expires_at=None,
                image=None,
                heartbeat_at=now,
                progress_at=now,
                **(
                    _waits(job, f"starts again: {message}"[:_MESSAGE_LENGTH], now=now)
                    if job.state == State.RUNNING
                    else {}
                ),
            )
            .returning(Job)
        )
        if again is not None:
            session.add(
                JobEvent(job_id=job.id, kind="event", type="retrying", attempt=job.attempt, message=message, at=now)
            )
        return again


def note_silence(job_id: str, *, since: datetime, now: datetime) -> bool:
    """Mark a RUNNING job that has not called back since then as silent; True when it was not marked before."""
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
            session.add(JobEvent(job_id=job_id, kind="event", type="silent", attempt=job.attempt, at=now))
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


def reject(reason: str, body: str, *, now: datetime, identity: str | None = None) -> None:
    """Keep a delivery that can never become a job; the same one again changes nothing."""
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


def _storable(said: str) -> str:
    return said.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
