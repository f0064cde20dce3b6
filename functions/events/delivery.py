"""The outbox, delivered to ``K_SINK`` at least once, and in order per job.

Two sweeps never send at the same time: each event leaves only while its sweep holds the lease. After a crash, or
after a process was suspended for most of a lease, an event may come again, and so after later ones: consumers tell
by ``sequence``, which never repeats for another event of the job.
"""

import json
import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from functions.events import cloudevents, sink
from functions.runtime.logs import bind, log
from functions.runtime.settings import settings
from functions.store import outbox
from functions.store.lease import Lease
from functions.store.tables import Outbox
from functions.store.views import rfc3339

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


def deliver(lease: Lease, *, now: datetime) -> None:
    """Send what has not been sent; after a refusal the same job's later events wait for the next sweep.

    Raises:
        Busy: the sink or the store is away.
    """
    end = time.monotonic() + BUDGET_SECONDS
    if not settings().k_sink:
        while outbox.delete_unsent(before=now - KEPT_WITHOUT_SINK, limit=FORGOTTEN) and time.monotonic() < end:
            continue
        return
    sender = _Sender(lease, end)
    held: set[str] = set()
    with ThreadPoolExecutor(SENDERS) as senders:
        while sender.may_go_on() and (rows := outbox.unsent(excluded_jobs=held, limit=BATCH)):
            by_job: dict[str, list[Outbox]] = defaultdict(list)
            for row in rows:
                by_job[row.job_id].append(row)
            taken = [*senders.map(sender.send, by_job.values())]
            if any(taken):
                outbox.mark_sent([id_ for ids in taken for id_ in ids], now=now)
            held |= {job_id for job_id, ids in zip(by_job, taken, strict=True) if len(ids) < len(by_job[job_id])}
    if sender.failures:
        raise sender.failures[0]


class _Sender:
    """Sends jobs' events until something fails, the time is over, or the lease is another sweep's."""

    def __init__(self, lease: Lease, end: float) -> None:
        self.failures: list[Exception] = []
        self._lease, self._end = lease, end

    def may_go_on(self) -> bool:
        return not self.failures and time.monotonic() < self._end and self._lease.keep()

    def send(self, rows: Sequence[Outbox]) -> list[int]:
        """Send one job's events in order, and return the ids of those that were taken, up to the first that was not.

        An error goes into ``failures``, and not to the caller, who has to note first what was taken.
        """
        taken: list[int] = []
        try:
            for row in rows:
                if not self.may_go_on():
                    break
                status = sink.post(_headers(row), json.dumps(row.data).encode())
                if not 200 <= status < 300:  # noqa: PLR2004 -- HTTP's success
                    bind(job_id=row.job_id, trace_id=row.trace_id)
                    log(logging.WARNING, "the sink refused an event", status=status)
                    break
                taken.append(row.id or 0)
        except Exception as error:  # noqa: BLE001 -- raised by the caller
            self.failures.append(error)
        return taken


def _headers(row: Outbox) -> dict[str, str]:
    return cloudevents.outgoing_headers(
        type_=row.type,
        id_=f"{row.job_id}.{row.sequence}",
        subject=row.job_id,
        now=rfc3339(row.created_at),
        trace_id=row.trace_id,
        # Padded, because the extension of that name is compared as text.
        sequence=f"{row.sequence:010d}",
    )
