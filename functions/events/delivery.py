"""Delivers the outbox to ``K_SINK``, at least once, and in order per job.

A sweep sends events only while it holds the lease, so two sweeps never send at the same time. After a crash, or after
a process was suspended for most of a lease, an event may be sent again, even after later events. Consumers detect this
by ``sequence``, which is unique per event of a job.
"""

import json
import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from functions.events import cloudevents, sink
from functions.runtime.logs import context, log
from functions.runtime.settings import settings
from functions.store import outbox
from functions.store.lease import Lease
from functions.store.tables import Outbox
from functions.store.views import rfc3339

#: rows that are read, and marked as delivered, per transaction; at most this many are sent again after a crash
BATCH = 100
#: jobs whose events are sent in parallel, so that a slow response delays one job and not all
SENDERS = sink.CONNECTIONS
#: time limit within one sweep
BUDGET_SECONDS = 20.0
#: without a sink, outbox rows are retained this long in case one is configured
RETENTION_WITHOUT_SINK = timedelta(days=1)
#: rows that are deleted per transaction in that case
DELETE_BATCH = 5_000


def deliver(lease: Lease, *, now: datetime) -> None:
    """Send the undelivered events. After a refused event, the job's later events wait for the next sweep.

    Raises:
        Busy: the sink or the store is unavailable.
    """
    end = time.monotonic() + BUDGET_SECONDS
    if not settings().k_sink:
        while outbox.delete_unsent(before=now - RETENTION_WITHOUT_SINK, limit=DELETE_BATCH) and time.monotonic() < end:
            continue
        return
    sender = _Sender(lease, end)
    blocked: set[str] = set()
    with ThreadPoolExecutor(SENDERS, initializer=context.set, initargs=(context.get(),)) as senders:
        while sender.may_continue() and (rows := outbox.unsent(excluded_jobs=blocked, limit=BATCH)):
            by_job: dict[str, list[Outbox]] = defaultdict(list)
            for row in rows:
                by_job[row.job_id].append(row)
            delivered = [*senders.map(sender.send, by_job.values())]
            if any(delivered):
                outbox.mark_sent([row for accepted in delivered for row in accepted], now=now)
            blocked |= {
                job_id for job_id, sent in zip(by_job, delivered, strict=True) if len(sent) < len(by_job[job_id])
            }
    if sender.failures:
        raise sender.failures[0]


class _Sender:
    """Sends events until an error occurs, the time limit is reached, or the lease is lost."""

    def __init__(self, lease: Lease, end: float) -> None:
        self.failures: list[Exception] = []
        self._lease, self._end = lease, end

    def may_continue(self) -> bool:
        return not self.failures and time.monotonic() < self._end and self._lease.keep()

    def send(self, rows: Sequence[Outbox]) -> list[Outbox]:
        """Send one job's events in order until one is not accepted; return the accepted ones.

        An error is added to ``failures`` instead of raised, because the caller must mark the accepted events first.
        """
        accepted: list[Outbox] = []
        try:
            for row in rows:
                if not self.may_continue():
                    break
                status = sink.post(_headers(row), json.dumps(row.data).encode())
                if not 200 <= status < 300:  # noqa: PLR2004 -- HTTP success
                    log(logging.WARNING, "the sink refused an event", status=status, **outbox.log_fields(row))
                    break
                accepted.append(row)
        except Exception as error:  # noqa: BLE001 -- raised by the caller
            self.failures.append(error)
        return accepted


def _headers(row: Outbox) -> dict[str, str]:
    return cloudevents.outgoing_headers(
        type_=row.type,
        id_=f"{row.job_id}.{row.sequence}",
        subject=row.job_id,
        now=rfc3339(row.created_at),
        trace_id=row.trace_id,
        # Zero-padded, because the CloudEvents extension ``sequence`` is compared as text.
        sequence=f"{row.sequence:010d}",
    )
