"""What only retention needs: what is old enough to leave the store, and its leaving."""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import NamedTuple, cast

from sqlalchemy import delete, text, update
from sqlmodel import Session, col, select

from functions.store import queries
from functions.store.session import read, write
from functions.store.tables import IS_ARCHIVABLE, Job, JobEvent, Outbox, RejectedEvent


class Batch(NamedTuple):
    """Some of the jobs that ended first, whole, with their events."""

    ended_at: datetime
    job_ids: list[str]
    events: Iterator[JobEvent]


def oldest_ended(*, before: datetime, limit: int) -> Batch | None:
    """Return the jobs that ended first, and before a moment, whose events are still here; None when there are none.

    They have ``limit`` events at most together, unless the first alone has more.
    """
    query = (
        select(JobEvent, Job.finished_at)
        .join(Job, col(JobEvent.job_id) == col(Job.id))
        .where(text(IS_ARCHIVABLE), col(Job.finished_at) < before)
        .order_by(col(Job.finished_at), col(Job.id), col(JobEvent.id))
        .limit(limit + 1)
    )
    with read() as session:
        found = list(session.exec(query))
    if not found:
        return None
    rows, ended_at = [row for row, _ in found], cast("datetime", found[0][1])
    # The last job's events may go on behind the limit: it is left to the next batch, or read to its end.
    whole = rows if len(rows) <= limit else [row for row in rows if row.job_id != rows[-1].job_id]
    events = iter(whole) if whole else _all_events(rows[0].job_id, limit)
    return Batch(ended_at, list(dict.fromkeys(row.job_id for row in whole or rows)), events)


def _all_events(job_id: str, limit: int) -> Iterator[JobEvent]:
    after: int | None = 0
    while after is not None:
        page, after = queries.events(job_id, kind=None, after=after, limit=limit)
        yield from page


def archived(job_ids: Collection[str], key: str) -> None:
    """Forget the events of jobs that have ended, and note the object that has them.

    Nobody waits for this: no callback writes to a job that has ended. Of two sweeps, the first one's object counts.
    """
    with write() as session:
        forget_events(session, job_ids, key)


def forget_events(session: Session, job_ids: Collection[str], key: str) -> None:
    """Do so in a transaction of the caller's."""
    these = col(Job.id).in_(job_ids)
    session.execute(update(Job).where(these, col(Job.archive_key).is_(None)).values(archive_key=key))
    session.execute(delete(JobEvent).where(col(JobEvent.job_id).in_(job_ids)))


def oldest_rejected(*, before: datetime, limit: int) -> list[RejectedEvent]:
    """Return the first deliveries that were rejected, as far as that was before a moment."""
    with read() as session:
        found = session.exec(select(RejectedEvent).order_by(col(RejectedEvent.id)).limit(limit))
        return [row for row in found if row.at < before]


def forget_rejected(ids: Collection[int | None]) -> None:
    """Forget rejected deliveries."""
    with write() as session:
        session.execute(delete(RejectedEvent).where(col(RejectedEvent.id).in_(ids)))


def forget_sent(*, before: datetime, limit: int) -> bool:
    """Forget outbox rows that were delivered before a moment, the first of them; False when none is left."""
    oldest = select(Outbox.id).where(col(Outbox.sent_at) < before).order_by(col(Outbox.sent_at)).limit(limit)
    with write() as session:
        ids = list(session.exec(oldest))
        session.execute(delete(Outbox).where(col(Outbox.id).in_(ids)))
    return len(ids) == limit
