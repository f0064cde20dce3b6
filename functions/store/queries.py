"""Read-only queries: one job, pages of jobs, a job's events, rejected events."""

from collections.abc import Collection
from datetime import datetime
from typing import TypeVar

import msgspec
from sqlalchemy import tuple_
from sqlmodel import col, select

from functions.domain.errors import NotFound, unusable_field
from functions.store.session import read
from functions.store.tables import Job, JobEvent, RejectedEvent
from functions.store.views import rfc3339

Row = TypeVar("Row", JobEvent, RejectedEvent)


def job(job_id: str) -> Job:
    """Return one job.

    Raises:
        NotFound: the job does not exist.
    """
    with read() as session:
        row = session.get(Job, job_id)
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    return row


def job_of(identity: str) -> Job | None:
    """Return the job with an identity; None if there is none."""
    with read() as session:
        return session.exec(select(Job).where(Job.identity == identity)).first()


def has_job(identities: Collection[str]) -> bool:
    """Return whether a job has one of these identities."""
    with read() as session:
        return session.exec(select(Job.id).where(col(Job.identity).in_(identities)).limit(1)).first() is not None


def jobs(filters: dict[str, str], *, cursor: str | None, limit: int) -> tuple[list[Job], str | None]:
    """Return a page of jobs, newest first, and the cursor of the next page (None if this is the last).

    ``filters`` maps columns to the values they must have. Jobs created in the meantime do not shift a page.

    Raises:
        Unusable: the cursor is invalid.
    """
    query = select(Job).order_by(col(Job.created_at).desc(), col(Job.id).desc()).limit(limit + 1)
    query = query.where(*[getattr(Job, name) == value for name, value in filters.items()])
    if cursor is not None:
        query = query.where(tuple_(col(Job.created_at), col(Job.id)) < tuple_(*_position(cursor)))
    with read() as session:
        rows = list(session.exec(query).all())
    page = rows[:limit]
    return page, f"{rfc3339(page[-1].created_at)}_{page[-1].id}" if len(rows) > limit else None


def _position(cursor: str) -> tuple[datetime, str]:
    created_at, _, job_id = cursor.partition("_")
    try:
        return msgspec.convert(created_at, datetime), job_id
    except msgspec.ValidationError as error:
        raise unusable_field("cursor", "use the next_cursor of the page before") from error


def archive_key(job_id: str) -> str | None:
    """Return the key of the object that a job's events were moved to; None while they are in the store."""
    with read() as session:
        return session.exec(select(Job.archive_key).where(Job.id == job_id)).first()


def events(job_id: str, *, kind: str | None, after: int, limit: int) -> tuple[list[JobEvent], int | None]:
    """Return a job's events after an event's id, oldest first, and the id to continue from (None if no more follow).

    Raises:
        NotFound: the job does not exist.
    """
    query = select(JobEvent).where(JobEvent.job_id == job_id, col(JobEvent.id) > after)
    if kind is not None:
        query = query.where(JobEvent.kind == kind)
    with read() as session:
        rows = list(session.exec(query.order_by(col(JobEvent.id)).limit(limit + 1)).all())
        if not rows and session.get(Job, job_id) is None:
            raise NotFound(f"there is no job {job_id}")
    return _page(rows, limit)


def rejected_events(*, after: int, limit: int) -> tuple[list[RejectedEvent], int | None]:
    """Return the rejected events after an id, oldest first, and the id to continue from (None if no more follow)."""
    query = select(RejectedEvent).where(col(RejectedEvent.id) > after).order_by(col(RejectedEvent.id))
    with read() as session:
        rows = list(session.exec(query.limit(limit + 1)).all())
    return _page(rows, limit)


def _page(rows: list[Row], limit: int) -> tuple[list[Row], int | None]:
    """Return a page and the id to continue from; ``rows`` has one row more than ``limit`` if another page follows."""
    page = rows[:limit]
    return page, page[-1].id if len(rows) > limit else None
