"""What the world is told: the outbox, delivered to ``K_SINK`` at least once, and in order per job."""

import json
import logging
from datetime import datetime

from functions import cloudevent, sink, store_sweep
from functions.logs import log
from functions.settings import settings
from functions.tables import Outbox
from functions.views import rfc3339

BATCH = 500


def deliver(*, at: datetime) -> None:
    """Send what has not been sent; after a failure the same job's later events wait for the next sweep.

    Raises:
        Busy: the sink is away.
    """
    if not settings().k_sink:
        return
    held: set[str] = set()
    for row in store_sweep.unsent(BATCH):
        if row.job_id in held:
            continue
        status = sink.post(_headers(row), json.dumps(row.data).encode())
        if 200 <= status < 300:  # noqa: PLR2004 -- HTTP's success
            store_sweep.sent(row.id or 0, at=at)
        else:
            held.add(row.job_id)
            log(logging.WARNING, "the sink refused an event", status=status, job_id=row.job_id)


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
