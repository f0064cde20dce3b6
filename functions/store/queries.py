"""Read-only queries: one job, pages of jobs, a job's events, rejected events."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

import msgspec
from sqlalchemy import ColumnElement, func, text, tuple_
from sqlmodel import col, select
from sqlmodel.sql.expression import SelectOfScalar

from functions.domain import descriptions
from functions.domain.errors import NotFound, unusable_field
from functions.domain.states import WAITING
from functions.store.session import read
from functions.store.tables import IS_OPEN, IgnoredUpload, Job, JobEvent, JobTag, RejectedEvent
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


def link_revocations(job_id: str) -> int | None:
    """Return how often the links to a job were revoked; None if the job does not exist."""
    with read() as session:
        return session.exec(select(Job.link_revocations).where(Job.id == job_id)).first()


class Place(NamedTuple):
    """A waiting job's place among all waiting jobs, by creation time, from 1.

    A job whose dataset is being checked keeps its place: its training starts before those of younger jobs.
    """

    number: int
    of: int


def job_with_place(job_id: str) -> tuple[Job, Place | None]:
    """Return one job, and its place in the queue while it waits; the count reads an index of waiting jobs alone.

    Raises:
        NotFound: as ``job``.
    """
    with read() as session:
        row = session.get(Job, job_id)
        if row is None:
            raise NotFound(f"there is no job {job_id}")
        if row.state not in WAITING:
            return row, None
        older = tuple_(col(Job.created_at), col(Job.id)) <= tuple_(row.created_at, row.id)
        waiting = col(Job.state).in_(sorted(WAITING))
        counts = select(func.count(), func.count().filter(older)).select_from(Job).where(waiting)
        length, number = session.exec(counts).one()
    return row, Place(number, length)


def job_of(identity: str) -> Job | None:
    """Return the job with an identity; None if there is none."""
    with read() as session:
        return session.exec(select(Job).where(Job.identity == identity)).first()


def names_like(base: str) -> set[str]:
    """Return the search keys of the jobs' names that begin with a base; it reads the index of all names."""
    beginning = col(Job.name_key).startswith(descriptions.search_key(base), autoescape=True)
    with read() as session:
        return set(filter(None, session.exec(select(Job.name_key).where(beginning))))


def is_processed(identities: Collection[str]) -> bool:
    """Return whether an upload with one of these identities has created a job, or has metadata for creating none."""
    with read() as session:
        return any(
            session.exec(select(column).where(column.in_(identities)).limit(1)).first() is not None
            for column in (col(Job.identity), col(IgnoredUpload.identity))
        )


def is_ignored(identity: str) -> bool:
    """Return whether an upload creates no job, because of its metadata or because its job was deleted."""
    with read() as session:
        return session.get(IgnoredUpload, identity) is not None


def next_creation_at(owner: str, *, limit: int, window: timedelta, now: datetime) -> datetime | None:
    """Return when an owner may create the next job, at ``limit`` jobs in a window; None if at once."""
    newest = select(Job.created_at).where(Job.owner == owner, col(Job.created_at) > now - window)
    with read() as session:
        nth = session.exec(newest.order_by(col(Job.created_at).desc()).offset(limit - 1).limit(1)).first()
    return None if nth is None else nth + window


def count_jobs_of_datasets(dataset_ids: Collection[str], *, limit: int = 1_000) -> dict[str, int]:
    """Return how many jobs each dataset has, counted up to a limit, so that a count reads few rows of an index."""
    with read() as session:
        return {
            dataset_id: session.exec(
                select(func.count()).select_from(
                    select(Job.id).where(Job.dataset_id == dataset_id).limit(limit).subquery()
                )
            ).one()
            for dataset_id in dataset_ids
        }


class UsedVersion(NamedTuple):
    """A version of a dataset that jobs use; ``etag`` is None for jobs whose version is unknown."""

    etag: str | None
    jobs: int
    last_job_id: str
    last_job_at: datetime


def versions_of_dataset(dataset_id: str, *, limit: int = 1_000) -> list[UsedVersion]:
    """Return the versions of a dataset that its newest jobs use, the last used first."""
    with read() as session:
        rows = session.exec(
            select(Job.dataset_etag, Job.id, Job.created_at)
            .where(Job.dataset_id == dataset_id)
            .order_by(col(Job.created_at).desc(), col(Job.id).desc())
            .limit(limit)
        ).all()
    versions: dict[str | None, UsedVersion] = {}
    for etag, job_id, created_at in rows:
        last = versions.get(etag, UsedVersion(etag, 0, job_id, created_at))
        versions[etag] = last._replace(jobs=last.jobs + 1)
    return list(versions.values())


def open_jobs_of_dataset(dataset_id: str, *, limit: int) -> list[str]:
    """Return the ids of the open jobs of a dataset, the oldest first."""
    of_dataset = select(Job.id).where(text(IS_OPEN), Job.dataset_id == dataset_id)
    with read() as session:
        return list(session.exec(of_dataset.order_by(col(Job.created_at), col(Job.id)).limit(limit)))


class Search(NamedTuple):
    """Conditions on a page of jobs, beside equalities of columns. Created: from, and before, a time."""

    #: any of these; none means all
    states: Collection[str] = ()
    #: a part of the name, regardless of case
    name: str | None = None
    tag: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    oldest_first: bool = False


ALL = Search()


def jobs(
    filters: Mapping[str, str], *, cursor: str | None, limit: int, search: Search = ALL
) -> tuple[list[Job], str | None]:
    """Return a page of jobs, newest first by default, and the cursor of the next page (None if this is the last).

    ``filters`` maps columns to the values they must have. Jobs created in the meantime do not shift a page.

    Raises:
        Unusable: the cursor is invalid.
    """
    after = None if cursor is None else _position(cursor)
    # One query for each state: an index has the jobs of one state in order, but not those of several.
    each = [{**filters, "state": state} for state in search.states] or [dict(filters)]
    with read() as session:
        rows = [row for equal in each for row in session.exec(_page_of_jobs(equal, search, after, limit + 1))]
    rows.sort(key=lambda row: (row.created_at, row.id), reverse=not search.oldest_first)
    page = rows[:limit]
    return page, f"{rfc3339(page[-1].created_at)}_{page[-1].id}" if len(rows) > limit else None


def _page_of_jobs(
    equal: Mapping[str, str], search: Search, after: tuple[datetime, str] | None, limit: int
) -> SelectOfScalar[Job]:
    """Return the query for jobs with these values of columns, in order; it reads only the needed part of one index."""
    created_at, job_id = (
        (col(JobTag.created_at), col(JobTag.job_id)) if search.tag else (col(Job.created_at), col(Job.id))
    )
    conditions: list[ColumnElement[bool]] = [col(getattr(Job, name)) == value for name, value in equal.items()]
    if search.tag:
        conditions += [col(JobTag.tag) == search.tag, col(JobTag.job_id) == col(Job.id)]
    if search.name:
        conditions.append(col(Job.name_key).contains(descriptions.search_key(search.name), autoescape=True))
    if search.created_after is not None:
        conditions.append(created_at >= search.created_after)
    if search.created_before is not None:
        conditions.append(created_at < search.created_before)
    position = tuple_(created_at, job_id)
    if after is not None:
        conditions.append(position > tuple_(*after) if search.oldest_first else position < tuple_(*after))
    order = (created_at, job_id) if search.oldest_first else (created_at.desc(), job_id.desc())
    if search.name is None:
        return select(Job).where(*conditions).order_by(*order).limit(limit)
    # Of a search for a part of a name the ids alone, which an index has together with the names.
    return select(Job).where(col(Job.id).in_(select(job_id).where(*conditions).order_by(*order).limit(limit)))


def _position(cursor: str) -> tuple[datetime, str]:
    created_at, _, job_id = cursor.partition("_")
    try:
        return msgspec.convert(created_at, datetime), job_id
    except msgspec.ValidationError as error:
        raise unusable_field("after", "use the next_after of the page before") from error


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
