"""A job's metrics over time: from the heartbeats in its timeline, or from the archive once retention has moved them."""

import gzip
import io
import json
from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import func
from sqlmodel import col, select

from functions.domain.curves import Row
from functions.runtime import storage
from functions.store import queries
from functions.store.session import read
from functions.store.tables import JobEvent

#: of an archived object, compressed
_LIMIT_BYTES = 64 * 1024 * 1024
_ROWS = 2_000


def version(job_id: str) -> str:
    """Return a version that changes whenever a job's metrics may have changed; it costs one index lookup.

    Raises:
        NotFound: the job does not exist.
    """
    with read() as session:
        last = session.exec(select(func.max(JobEvent.id)).where(JobEvent.job_id == job_id)).one()
    return str(last) if last is not None else f"archive/{queries.job(job_id).archive_key}"


def metrics(job_id: str) -> Iterator[Row]:
    """Yield the metrics of each heartbeat that has some, oldest first.

    Raises:
        Busy, ConfigurationError: the store or the storage is unavailable.
    """
    archive_key = queries.archive_key(job_id)
    yield from _archived(archive_key, job_id) if archive_key else _stored(job_id)


def _stored(job_id: str) -> Iterator[Row]:
    columns = (JobEvent.id, JobEvent.attempt, JobEvent.epoch, JobEvent.step, JobEvent.at, JobEvent.metrics)
    query = select(*columns).where(JobEvent.job_id == job_id, JobEvent.kind == "heartbeat")  # type: ignore[call-overload]
    after = 0
    while True:
        with read() as session:
            page = session.exec(query.where(col(JobEvent.id) > after).order_by(col(JobEvent.id)).limit(_ROWS)).all()
        yield from (Row(*row) for _, *row in page if row[-1])
        if len(page) < _ROWS:
            return
        after = page[-1][0]


def _archived(key: str, job_id: str) -> Iterator[Row]:
    content = storage.read(key, limit_bytes=_LIMIT_BYTES) or gzip.compress(b"")
    with gzip.open(io.BytesIO(content)) as lines:
        for line in lines:
            row = json.loads(line)
            if row["job_id"] == job_id and row["kind"] == "heartbeat" and row["metrics"]:
                yield Row(row["attempt"], row["epoch"], row["step"], datetime.fromisoformat(row["at"]), row["metrics"])
