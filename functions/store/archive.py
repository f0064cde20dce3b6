"""Statements of retention: find rows that are old enough, and delete them."""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import NamedTuple, cast

from sqlalchemy import delete, text, update
from sqlmodel import Session, col, select

from functions.store import queries
from functions.store.session import read, write
from functions.store.tables import IS_ARCHIVABLE, IgnoredUpload, Job, JobEvent, Outbox, RejectedEvent


class Batch(NamedTuple):
    """The jobs that ended first, with all of their events."""

    ended_at: datetime
    job_ids: list[str]
    events: Iterator[JobEvent]


def oldest_ended(*, before: datetime, limit: int) -> Batch | None:
    """Return the jobs that ended first, before a time, and still have events in the store; None if there are none.

    Together they have at most ``limit`` events, unless the first job alone has more.
    """
    query = (
        select(JobEvent, Job.finished_at)
        .join(Job, col(JobEvent.job_id) == col(Job.id))
        .where(text(IS_ARCHIVABLE), col(Job.finished_at) < before)
        .order_by(col(Job.finished_at), col(Job.id), col(JobEvent.id))
        .limit(limit + 1)
    )
    with read() as session:
        results = list(session.exec(query))
    if not results:
        return None
    rows, ended_at = [row for row, _ in results], cast("datetime", results[0][1])
    # The last job may have more events beyond the limit: leave it for the next batch, or read all if it is alone.
    complete = rows if len(rows) <= limit else [row for row in rows if row.job_id != rows[-1].job_id]
    events = iter(complete) if complete else _all_events(rows[0].job_id, limit)
    return Batch(ended_at, list(dict.fromkeys(row.job_id for row in complete or rows)), events)


def _all_events(job_id: str, limit: int) -> Iterator[JobEvent]:
    after: int | None = 0
    while after is not None:
        page, after = queries.events(job_id, kind=None, after=after, limit=limit)
        yield from page


def mark_archived(job_ids: Collection[str], key: str) -> None:
    """Delete the events of ended jobs, and note the object that they were moved to.

    This blocks no callback, because no callback writes to an ended job. If two sweeps overlap, the first object counts.
    """
    with write() as session:
        delete_events(session, job_ids, key)


def delete_events(session: Session, job_ids: Collection[str], key: str) -> None:
    """Do the work of ``mark_archived`` in the caller's transaction."""
    is_unarchived = (col(Job.id).in_(job_ids), col(Job.archive_key).is_(None))
    session.execute(update(Job).where(*is_unarchived).values(archive_key=key))
    session.execute(delete(JobEvent).where(col(JobEvent.job_id).in_(job_ids)))


def oldest_rejected(*, before: datetime, limit: int) -> list[RejectedEvent]:
    """Return the oldest rejected events that were rejected before a time."""
    with read() as session:
        rows = session.exec(select(RejectedEvent).order_by(col(RejectedEvent.id)).limit(limit))
        return [row for row in rows if row.at < before]


def delete_rejected(ids: Collection[int | None]) -> None:
    """Delete rejected events."""
    with write() as session:
        session.execute(delete(RejectedEvent).where(col(RejectedEvent.id).in_(ids)))


def delete_ignored(*, before: datetime) -> None:
    """Delete the records of ignored uploads from before a time."""
    with write() as session:
        session.execute(delete(IgnoredUpload).where(col(IgnoredUpload.at) < before))


def delete_sent(*, before: datetime, limit: int) -> bool:
    """Delete the oldest outbox rows that were delivered before a time; return False if no more are left."""
    oldest = select(Outbox.id).where(col(Outbox.sent_at) < before).order_by(col(Outbox.sent_at)).limit(limit)
    with write() as session:
        ids = list(session.exec(oldest))
        session.execute(delete(Outbox).where(col(Outbox.id).in_(ids)))
    return len(ids) == limit
