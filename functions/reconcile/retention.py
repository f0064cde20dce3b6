"""Retention: move old events to the bucket as JSON lines, and delete delivered outbox rows.

The object is uploaded before its rows are deleted, and its key is a digest of its content. After a crash in between,
the next sweep uploads the same object again, or a larger one under another key; a slow sweep never overwrites the
object of another sweep.
"""

import gzip
import hashlib
import json
import logging
import time
from collections.abc import Iterable
from datetime import datetime, timedelta

from functions.runtime import storage
from functions.runtime.logs import log
from functions.runtime.settings import settings
from functions.store import archive, views
from functions.store.tables import JobEvent, RejectedEvent

#: time limit within one sweep; the next sweep continues
BUDGET_SECONDS = 10.0
#: a row is written later than its object, and by another clock
_SPARE = timedelta(days=1)
#: rows per transaction
BATCH = 5_000


def run(*, now: datetime, batch: int = BATCH) -> None:
    """Move or delete rows older than ``RETENTION_DAYS``, batch by batch, within ``BUDGET_SECONDS``.

    Raises:
        Busy: the store or the storage is unavailable.
    """
    # Sweep recognises an ignored or rejected upload by its row, which stays while sweep lists uploads of that age.
    horizon = now - timedelta(seconds=settings().upload_horizon_seconds)
    archive.delete_ignored(before=horizon - _SPARE)
    days = settings().retention_days
    if not days:
        return
    before, end = now - timedelta(days=days), time.monotonic() + BUDGET_SECONDS
    rejected_before = min(before, horizon)
    for step, moment in ((_move_events, before), (_move_rejected, rejected_before), (_delete_sent, before)):
        while time.monotonic() < end and step(moment, batch):
            continue


def _move_events(before: datetime, batch: int) -> bool:
    """Move the events of the jobs that ended first; return False if there are none."""
    jobs = archive.oldest_ended(before=before, limit=batch)
    if jobs is None:
        return False
    key = _upload_rows("events", jobs.ended_at, jobs.events)
    archive.mark_archived(jobs.job_ids, key)
    log(logging.INFO, "moved events to the bucket", jobs=len(jobs.job_ids), key=key)
    return True


def _move_rejected(before: datetime, batch: int) -> bool:
    """Move the oldest rejected events; return False if no more are left."""
    rows = archive.oldest_rejected(before=before, limit=batch)
    if not rows:
        return False
    key = _upload_rows("rejected-events", rows[0].at, rows)
    archive.delete_rejected([row.id for row in rows])
    log(logging.INFO, "moved rejected events to the bucket", events=len(rows), key=key)
    return len(rows) == batch


def _delete_sent(before: datetime, batch: int) -> bool:
    return archive.delete_sent(before=before, limit=batch)


def _upload_rows(folder: str, day: datetime, rows: Iterable[JobEvent | RejectedEvent]) -> str:
    """Upload rows as compressed JSON lines, and return the object's key."""
    lines = "".join(json.dumps(views.archived_json(row)) + "\n" for row in rows).encode()
    key = f"archive/{folder}/{day:%Y-%m-%d}/{hashlib.sha256(lines).hexdigest()[:32]}.jsonl.gz"
    storage.write(key, gzip.compress(lines, compresslevel=6, mtime=0))
    return key
