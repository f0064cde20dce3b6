"""What the world is told: the outbox, delivered to ``K_SINK`` at least once, and in order per job."""

import json
import logging
import time
from datetime import datetime, timedelta

from functions import cloudevent, sink, store_outbox
from functions.logs import log
from functions.settings import settings
from functions.tables import Outbox
from functions.views import rfc3339

#: rows that are read, and marked as delivered, in one transaction; after a crash, so many are told again at most
BATCH = 100
#: what one sweep spends on it, whatever is in the outbox
BUDGET_SECONDS = 20.0
#: where there is no sink, the outbox waits so long for one to be configured
KEPT_WITHOUT_SINK = timedelta(days=1)
#: rows that are dropped in one transaction then
FORGOTTEN = 5_000


def deliver(*, at: datetime) -> None:
    """Send what has not been sent; after a refusal the same job's later events wait for the next sweep.

    Raises:
        Busy: the sink is away.
    """
    end = time.monotonic() + BUDGET_SECONDS
    if not settings().k_sink:
        while store_outbox.forget_unsent(before=at - KEPT_WITHOUT_SINK, limit=FORGOTTEN) and time.monotonic() < end:
            continue
        return
    held: set[str] = set()
    while (rows := store_outbox.unsent(but=held, limit=BATCH)) and time.monotonic() < end:
        _deliver(rows, held, at=at)


def _deliver(rows: list[Outbox], held: set[str], *, at: datetime) -> None:
    """Send one batch in order, but for the jobs in ``held``, of which an earlier event was refused."""
    delivered: list[int] = []
    try:
        for row in rows:
            if row.job_id in held:
                continue
            status = sink.post(_headers(row), json.dumps(row.data).encode())
            if 200 <= status < 300:  # noqa: PLR2004 -- HTTP's success
                delivered.append(row.id or 0)
            else:
                held.add(row.job_id)
                log(logging.WARNING, "the sink refused an event", status=status, job_id=row.job_id)
    finally:
        if delivered:
            store_outbox.sent(delivered, at=at)


def _headers(row: Outbox) -> dict[str, str]:
    return cloudevent.outgoing_headers(
        type_=row.type,
        id_=f"{row.job_id}.{row.sequence}",
        subject=row.job_id,
        at=rfc3339(row.created_at),
        trace_id=row.trace_id,
        # Padded, because the extension of that name is compared as text.
        sequence=f"{row.sequence:010d}",
    )
