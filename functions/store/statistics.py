"""Read-only queries for the metrics: few rows, and none that is read without an index.

Counters begin at the start of the month, so that a query reads that month's rows only.
"""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Float, case, cast, extract, func, select, text
from sqlmodel import col

from functions.store.session import is_sqlite, read
from functions.store.tables import HAS_ENDED, IS_OPEN, Job, Outbox, RejectedEvent, SweepTurn

#: upper bounds of the histograms' buckets, in seconds; the last bucket has none
BOUNDS = (1, 5, 15, 60, 300, 900, 3_600, 4 * 3_600, 12 * 3_600, 24 * 3_600, 3 * 24 * 3_600)
#: the histograms, each the time between two columns
DURATIONS = {
    "queue": ("queued_at", "started_at"),
    "start": ("created_at", "started_at"),
    "run": ("started_at", "finished_at"),
}


class OpenJobs(NamedTuple):
    """The open jobs of a framework, in a state."""

    framework: str
    state: str
    liveness: str | None
    jobs: int
    oldest_at: datetime


class EndedJobs(NamedTuple):
    """The jobs of a framework that ended in the same way."""

    framework: str
    state: str
    reason: str | None
    jobs: int


class Durations(NamedTuple):
    """How long something took in the ended jobs of a framework: how many by bucket (not cumulative), and their sum."""

    framework: str
    counts: list[int]
    sum_seconds: float


class Backlog(NamedTuple):
    """What waits for sweep: undelivered events, and since when; rejected events; and when sweep last ran."""

    outbox: int
    oldest_at: datetime | None
    rejected: int
    swept_at: datetime | None


def open_jobs() -> list[OpenJobs]:
    """Count the jobs that have not ended."""
    groups = (col(Job.framework), col(Job.state), col(Job.liveness))
    query = select(*groups, func.count(), func.min(Job.created_at)).where(text(IS_OPEN)).group_by(*groups)
    with read() as session:
        return [OpenJobs(*row) for row in session.execute(query)]


def ended_jobs(*, since: datetime) -> list[EndedJobs]:
    """Count the jobs that have ended since a time."""
    groups = (col(Job.framework), col(Job.state), col(Job.reason))
    query = select(*groups, func.count()).where(*_ended_since(since)).group_by(*groups)
    with read() as session:
        return [EndedJobs(*row) for row in session.execute(query)]


def durations(name: str, *, since: datetime) -> list[Durations]:
    """Return a histogram of the jobs that have ended since a time, and for which both of its columns are set."""
    start, end = (getattr(Job, column) for column in DURATIONS[name])
    seconds = _seconds_between(start, end)
    bucket = case(*[(seconds <= bound, number) for number, bound in enumerate(BOUNDS)], else_=len(BOUNDS))
    framework = col(Job.framework)
    query = (
        select(framework, bucket, func.count(), func.sum(seconds))
        .where(*_ended_since(since), start.is_not(None))
        .group_by(framework, bucket)
    )
    histograms: dict[str, Durations] = {}
    with read() as session:
        for framework_, number, count, sum_seconds in session.execute(query.where(end.is_not(None))):
            known = histograms.get(framework_, Durations(framework_, [0] * (len(BOUNDS) + 1), 0.0))
            known.counts[number] = count
            histograms[framework_] = known._replace(sum_seconds=known.sum_seconds + float(sum_seconds))
    return list(histograms.values())


def backlog(*, since: datetime) -> Backlog:
    """Return what waits for sweep, and how many events were rejected since a time."""
    unsent = col(Outbox.sent_at).is_(None)
    with read() as session:
        return Backlog(
            session.scalar(select(func.count()).select_from(Outbox).where(unsent)) or 0,
            session.scalar(select(col(Outbox.created_at)).where(unsent).order_by(col(Outbox.id)).limit(1)),
            session.scalar(select(func.count()).select_from(RejectedEvent).where(col(RejectedEvent.at) >= since)) or 0,
            session.scalar(select(col(SweepTurn.swept_at)).where(col(SweepTurn.id) == 1)),
        )


def _ended_since(since: datetime) -> tuple[ColumnElement[bool], ...]:
    return text(HAS_ENDED), col(Job.finished_at) >= since  # type: ignore[return-value]  # text is a condition too


def _seconds_between(start: Any, end: Any) -> ColumnElement[float]:
    if is_sqlite():
        return (func.julianday(end) - func.julianday(start)) * 86_400.0
    return cast(extract("epoch", end - start), Float)
