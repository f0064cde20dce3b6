"""Statements of delivery: read undelivered outbox rows, mark them as sent, delete them."""

import logging
from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import delete, update
from sqlmodel import col, select

from functions.store.session import log_after_commit, read, write
from functions.store.tables import Outbox


def unsent(*, excluded_jobs: Collection[str], limit: int) -> list[Outbox]:
    """Return the oldest undelivered rows, except those of some jobs.

    This does not page by id. Ids are assigned before their rows are committed, so that a row with a lower id may
    appear after one with a higher id.
    """
    query = select(Outbox).where(col(Outbox.sent_at).is_(None), col(Outbox.job_id).not_in(excluded_jobs))
    with read() as session:
        return list(session.exec(query.order_by(col(Outbox.id)).limit(limit)))


def mark_sent(rows: Collection[Outbox], *, now: datetime) -> None:
    """Mark rows as delivered."""
    with write() as session:
        session.execute(update(Outbox).where(col(Outbox.id).in_([row.id for row in rows])).values(sent_at=now))
        for row in rows:
            log_after_commit(session, logging.INFO, "an event was delivered", **log_fields(row))


def log_fields(row: Outbox) -> dict[str, Any]:
    """Return the fields of a row that identify it in the log."""
    return {"job_id": row.job_id, "trace_id": row.trace_id, "type": row.type, "sequence": row.sequence}


def delete_unsent(*, before: datetime, limit: int) -> bool:
    """Delete the oldest undelivered rows that were created before a time; return False if no more are left."""
    # Ordered by id, which is the order of creation, so that no newer row is read.
    oldest = select(Outbox.id, Outbox.created_at).where(col(Outbox.sent_at).is_(None)).order_by(col(Outbox.id))
    with write() as session:
        ids = [id_ for id_, created_at in session.exec(oldest.limit(limit)) if created_at < before]
        session.execute(delete(Outbox).where(col(Outbox.id).in_(ids)))
    return len(ids) == limit
