"""How rows are shown, to callers of the API and in CloudEvents."""

from datetime import datetime
from typing import Any

from functions.tables import Job, JobEvent, RejectedEvent

#: columns that are nobody else's business
JOB_HIDDEN = {"identity", "sequence", "submitted_at", "launch", "archive_key", "token_key", "token_expires_at"}
EVENT_HIDDEN = {"job_id", "ce_source", "ce_id", "identity"}


def job_json(job: Job) -> dict[str, Any]:
    """Return a job as the world sees it."""
    return _shown(job.model_dump(exclude=JOB_HIDDEN))


def event_json(row: JobEvent | RejectedEvent) -> dict[str, Any]:
    """Return an event as the world sees it."""
    return _shown(row.model_dump(exclude=EVENT_HIDDEN))


def archived_json(row: JobEvent | RejectedEvent) -> dict[str, Any]:
    """Return an event whole, as the archive keeps it."""
    return _shown(row.model_dump())


def rfc3339(moment: datetime) -> str:
    """Return an aware UTC moment in the API's notation."""
    return moment.isoformat().replace("+00:00", "Z")


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: rfc3339(value) if isinstance(value, datetime) else value for name, value in row.items()}
