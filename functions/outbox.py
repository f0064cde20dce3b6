"""What the world is told: the outbox, delivered to ``K_SINK`` at least once, and in order per job."""

import json
import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from functions import cloudevent, sink, store_outbox
from functions.logs import log
from functions.settings import settings
from functions.tables import Outbox
from functions.views import rfc3339

#: rows that are read, and marked as delivered, in one transaction; after a crash, so many are told again at most
BATCH = 100
#: jobs whose events are on their way at the same time: a sink that takes its time holds up one job, not all
SENDERS = sink.CONNECTIONS
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
    failures: list[Exception] = []
    with ThreadPoolExecutor(SENDERS) as senders:
        while not failures and (rows := store_outbox.unsent(but=held, limit=BATCH)) and time.monotonic() < end:
            by_job: dict[str, list[Outbox]] = defaultdict(list)
            for row in rows:
                by_job[row.job_id].append(row)
            taken = [*senders.map(lambda of_job: _tell(of_job, failures, until=end), by_job.values())]
            if any(taken):
                store_outbox.sent([id_ for ids in taken for id_ in ids], at=at)
            held |= {job_id for job_id, ids in zip(by_job, taken, strict=True) if len(ids) < len(by_job[job_id])}
    if failures:
        raise failures[0]


def _tell(rows: Sequence[Outbox], failures: list[Exception], *, until: float) -> list[int]:
    """Send one job's events in order, and return the ids of those that were taken, up to the first that was not.

    What goes wrong is put into ``failures``, for all: what was taken until then is to be noted first.
    """
    taken: list[int] = []
    for row in rows:
        if failures or time.monotonic() > until:
            break
        try:
            status = sink.post(_headers(row), json.dumps(row.data).encode())
        except Exception as error:  # noqa: BLE001 -- raised by the caller
            failures.append(error)
            break
        if not 200 <= status < 300:  # noqa: PLR2004 -- HTTP's success
            log(logging.WARNING, "the sink refused an event", status=status, job_id=row.job_id, trace_id=row.trace_id)
            break
        taken.append(row.id or 0)
    return taken


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
