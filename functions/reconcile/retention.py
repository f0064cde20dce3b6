"""Retention: what is over for long leaves the store: events for the bucket, as JSON lines, and what was sent for good.

The object is there before a row goes, and its key is of what it holds: after a crash in between the same is uploaded
again, or more under another key, and a sweep that was slow overwrites nothing of another's.
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

#: so much of a sweep's turn; what is left waits for the next
BUDGET_SECONDS = 10.0
#: rows that leave in one transaction
BATCH = 5_000


def run(*, now: datetime, batch: int = BATCH) -> None:
    """Move what is older than ``RETENTION_DAYS``, batch by batch, as far as the time allows.

    Raises:
        Busy: the store or the storage is away.
    """
    days = settings().retention_days
    if not days:
        return
    before, end = now - timedelta(days=days), time.monotonic() + BUDGET_SECONDS
    # Sweep knows a rejected upload by its row as long as it looks back for uploads.
    rejected_before = min(before, now - timedelta(seconds=settings().upload_horizon_seconds))
    for step, moment in ((_move_events, before), (_move_rejected, rejected_before), (_forget_sent, before)):
        while time.monotonic() < end and step(moment, batch):
            continue


def _move_events(before: datetime, batch: int) -> bool:
    """Move the events of the jobs that ended first; False when none is left."""
    found = archive.oldest_ended(before=before, limit=batch)
    if found is None:
        return False
    key = _kept("events", found.ended_at, found.events)
    archive.archived(found.job_ids, key)
    log(logging.INFO, "moved events to the bucket", jobs=len(found.job_ids), key=key)
    return True


def _move_rejected(before: datetime, batch: int) -> bool:
    """Move the first of the rejected events; False when none is left."""
    found = archive.oldest_rejected(before=before, limit=batch)
    if not found:
        return False
    key = _kept("rejected-events", found[0].at, found)
    archive.forget_rejected([row.id for row in found])
    log(logging.INFO, "moved rejected events to the bucket", events=len(found), key=key)
    return len(found) == batch


def _forget_sent(before: datetime, batch: int) -> bool:
    return archive.forget_sent(before=before, limit=batch)


def _kept(what: str, day: datetime, rows: Iterable[JobEvent | RejectedEvent]) -> str:
    """Upload rows as JSON lines, compressed, and return the object's key."""
    lines = "".join(json.dumps(views.archived_json(row)) + "\n" for row in rows).encode()
    key = f"archive/{what}/{day:%Y-%m-%d}/{hashlib.sha256(lines).hexdigest()[:32]}.jsonl.gz"
    storage.write(key, gzip.compress(lines, compresslevel=6, mtime=0))
    return key
