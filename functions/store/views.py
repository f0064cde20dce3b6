"""JSON representations of rows, for the API, CloudEvents and the archive."""

from datetime import datetime
from typing import Any

from functions.domain import curves
from functions.store.tables import Job, JobEvent, RejectedEvent

#: internal columns, which the API and CloudEvents do not show
JOB_HIDDEN = {
    *("identity", "name_key", "dataset_key", "sequence", "submitted_at", "launch", "archive_key", "link_revocations"),
    *("token_key", "token_expires_at", "ran_seconds", "running_since", "check_launches"),
}
#: what is not a column: of one job that waits
JOB_PLACE = ("queue_position", "queue_length")
EVENT_HIDDEN = {"job_id", "ce_source", "ce_id", "identity"}


class JobView(dict[str, Any]):
    """A job as the API shows it."""


class JobEventView(dict[str, Any]):
    """An entry of a job's timeline as the API shows it."""


class RejectedEventView(dict[str, Any]):
    """A rejected event as the API shows it."""


def job_json(job: Job) -> JobView:
    """Return a job's public representation: the metrics of its machine are apart from those of its model."""
    metrics, system = curves.split(job.metrics or {})
    return JobView(_shown(job, JOB_HIDDEN) | {"tags": job.tags or [], "metrics": metrics, "system_metrics": system})


def placed_json(job: Job, place: tuple[int, int] | None) -> JobView:
    """Return a job's public representation, with its place in the queue if it waits."""
    return JobView(job_json(job) | dict(zip(JOB_PLACE, place or (), strict=False)))


def event_json(row: JobEvent) -> JobEventView:
    """Return an event's public representation."""
    return JobEventView(_shown(row, EVENT_HIDDEN))


def rejected_json(row: RejectedEvent) -> RejectedEventView:
    """Return a rejected event's public representation."""
    return RejectedEventView(_shown(row, EVENT_HIDDEN))


def archived_json(row: JobEvent | RejectedEvent) -> dict[str, Any]:
    """Return an event with all columns, for the archive."""
    return _shown(row, set())


def rfc3339(time: datetime) -> str:
    """Return an aware UTC datetime in RFC 3339 notation."""
    return time.isoformat().replace("+00:00", "Z")


def _shown(row: Job | JobEvent | RejectedEvent, hidden: set[str]) -> dict[str, Any]:
    """Return the columns in the table's order, so that the same row is always the same JSON."""
    columns = {name: getattr(row, name) for name in type(row).model_fields if name not in hidden}
    return {name: rfc3339(value) if isinstance(value, datetime) else value for name, value in columns.items()}
