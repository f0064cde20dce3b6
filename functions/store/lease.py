"""The lease to sweep: one sweep at a time works, and whoever loses the lease stops before its next step."""

import time
from datetime import datetime, timedelta
from threading import Lock
from typing import Self

from functions.store import upkeep

#: shorter than the time between two sweeps: a sweep that was killed does not keep the next one, a minute later, waiting
DURATION = timedelta(seconds=50)
#: sweeps are a minute apart at most; no sweep for this long means that the control plane was away
AWAY_AFTER = timedelta(minutes=3)


class Lease:
    """One sweep's lease, and what it guarantees.

    At most one sweep holds the lease, by the database's clock. ``keep`` extends it once a third has passed, so a step
    that begins after ``keep`` has returned True has two thirds of ``DURATION`` to itself. Only a step that takes
    longer, or a process that is suspended for longer, can overlap with the next sweep. Therefore every write of sweep
    is conditional on what it has read, and the outbox calls ``keep`` before each event.
    """

    def __init__(self, held: upkeep.Held, since: float) -> None:
        self.awake_at = held.awake_at
        self._holder, self._is_mine = held.holder, True
        self._kept, self._lock = since, Lock()

    @classmethod
    def take(cls, *, now: datetime) -> Self | None:
        """Return a new lease; None while another sweep holds it.

        Raises:
            Busy: the store is away.
        """
        since = time.monotonic()  # before the lease begins, so that it never seems longer than it is
        held = upkeep.take_lease(now=now, lasting=DURATION, away_after=AWAY_AFTER)
        return None if held is None else cls(held, since)

    def keep(self) -> bool:
        """Return whether this sweep may go on; extend the lease where it is due.

        Raises:
            Busy: the store is away.
        """
        with self._lock:
            now = time.monotonic()
            if self._is_mine and now - self._kept > DURATION.total_seconds() / 3:
                self._is_mine = upkeep.keep_lease(self._holder, lasting=DURATION)
                self._kept = now
            return self._is_mine

    def end(self) -> None:
        """Give the lease back, unless another sweep has taken it."""
        upkeep.end_lease(self._holder)
