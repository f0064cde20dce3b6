"""The sweep lease: one sweep runs at a time, and a sweep that loses the lease stops before its next step."""

import time
from datetime import datetime, timedelta
from threading import Lock
from typing import Self

from functions.store import upkeep

#: shorter than the sweep interval of one minute, so that a crashed sweep never blocks the next one
DURATION = timedelta(seconds=50)
#: sweeps run every minute; a longer gap than this means that the control plane was down
AWAY_AFTER = timedelta(minutes=3)


class Lease:
    """The lease of one sweep.

    By the database's clock, at most one sweep holds the lease. ``keep`` extends it once a third of ``DURATION`` has
    passed, so that a step which begins after ``keep`` returned True has at least two thirds of ``DURATION``. Only a
    step that takes longer, or a process that is suspended for longer, can overlap with the next sweep. Therefore every
    write of sweep is conditional on what it has read, and the outbox calls ``keep`` before each event.
    """

    def __init__(self, held: upkeep.HeldLease, since: float) -> None:
        self.awake_at = held.awake_at
        self._holder, self._is_held = held.holder, True
        self._extended_at, self._lock = since, Lock()

    @classmethod
    def take(cls, *, now: datetime) -> Self | None:
        """Return a new lease; None while another sweep holds it.

        Raises:
            Busy: the store is unavailable.
        """
        since = time.monotonic()  # read before the lease begins, so that it is never believed to last longer
        held = upkeep.take_lease(now=now, lasting=DURATION, away_after=AWAY_AFTER)
        return None if held is None else cls(held, since)

    def keep(self) -> bool:
        """Return whether this sweep still holds the lease; extend the lease if that is due.

        Raises:
            Busy: the store is unavailable.
        """
        with self._lock:
            now = time.monotonic()
            if self._is_held and now - self._extended_at > DURATION.total_seconds() / 3:
                self._is_held = upkeep.keep_lease(self._holder, lasting=DURATION)
                self._extended_at = now
            return self._is_held

    def end(self) -> None:
        """Release the lease, unless another sweep has taken it."""
        upkeep.end_lease(self._holder)
