"""The outbox's rows, after ``store`` has written them: what is yet to be told, and what has been."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import delete, update
from sqlmodel import col, select

from functions.store.session import read, write
from functions.store.tables import Outbox


def unsent(*, but: Collection[str], limit: int) -> list[Outbox]:
    """Return the oldest rows that have not been delivered, but for some jobs'.

    Always the oldest, and not those after some id: an id is given before its row is committed, so a job's earlier
    event may yet appear below another's.
    """
    query = select(Outbox).where(col(Outbox.sent_at).is_(None), col(Outbox.job_id).not_in(but))
    with read() as session:
        return list(session.exec(query.order_by(col(Outbox.id)).limit(limit)))


def sent(ids: Collection[int], *, now: datetime) -> None:
    """Note that rows were delivered."""
    with write() as session:
        session.execute(update(Outbox).where(col(Outbox.id).in_(ids)).values(sent_at=now))


def forget_unsent(*, before: datetime, limit: int) -> bool:
    """Drop what nobody has been told of up to a moment, the first of it; False when none is left."""
    # By id, which is the order of time: it reads no more than it drops, however much is younger.
    oldest = select(Outbox.id, Outbox.created_at).where(col(Outbox.sent_at).is_(None)).order_by(col(Outbox.id))
    with write() as session:
        ids = [id_ for id_, created_at in session.exec(oldest.limit(limit)) if created_at < before]
        session.execute(delete(Outbox).where(col(Outbox.id).in_(ids)))
    return len(ids) == limit
