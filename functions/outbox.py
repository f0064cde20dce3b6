"""What the world is told: the outbox, delivered to ``K_SINK`` at least once, and in order per job."""

import logging
from datetime import datetime

from functions import cloudevent, store_sweep
from functions.errors import Busy
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
    import urllib3  # noqa: PLC0415 -- only where there is a sink

    http = urllib3.PoolManager(timeout=5, retries=False)
    held: set[str] = set()
    for row in store_sweep.unsent(BATCH):
        if row.job_id in held:
            continue
        headers, body = _event(row)
        try:
            status = http.request("POST", settings().k_sink, body=body, headers=headers).status
        except urllib3.exceptions.HTTPError as error:
            raise Busy(f"the sink is away: {type(error).__name__}") from error
        if 200 <= status < 300:  # noqa: PLR2004 -- HTTP's success
            store_sweep.sent(row.id or 0, at=at)
        else:
            held.add(row.job_id)
            log(logging.WARNING, "the sink refused an event", status=status, job_id=row.job_id)


def _event(row: Outbox) -> tuple[dict[str, str], bytes]:
    return cloudevent.outgoing(
        type_=row.type,
        id_=f"{row.job_id}.{row.sequence}",
        job_id=row.job_id,
        sequence=row.sequence,
        at=rfc3339(row.created_at),
        trace_id=row.trace_id,
        data=row.data,
    )
