"""How each fault is brought about."""

import time
from collections.abc import Callable

from tests.chaos.plan import OUTAGE_SECONDS, REPLICAS, Fault
from tests.chaos.sink import Sink
from tests.chaos.stack import Stack


class Faults:
    """Brings faults, one at a time; some last until another of their kind comes."""

    def __init__(self, stack: Stack, sink: Sink) -> None:
        self.stack, self.sink = stack, sink

    def bring(self, fault: Fault) -> None:
        """Bring a fault, and return when it is over or has set in."""
        kinds: dict[str, Callable[[Fault], None]] = {
            "function killed": lambda it: self.stack.kill(it.target),
            "function frozen": lambda it: self.stack.freeze(it.target, it.seconds),
            "clock of a function jumps": self._jump,
            "PostgreSQL frozen": lambda it: self.stack.freeze("postgresql", it.seconds),
            "PostgreSQL restarted": lambda _: self.stack.restart_postgresql(),
            "S3 server frozen": lambda it: self.stack.freeze("storage", it.seconds),
            "S3 server killed": lambda _: self._kill_storage(),
            "sink away": self._away,
            "sink refuses some jobs": self._refuse,
            "control plane away for ten minutes": self._outage,
        }
        kinds[fault.kind](fault)

    def take_back(self) -> None:
        """End what lasts."""
        self.stack.jumps = dict.fromkeys(REPLICAS, 0.0)
        self.stack.write_clocks()
        self.sink.refused = ""

    def _jump(self, fault: Fault) -> None:
        """Set one function's clock wrong, and let that stay until its next jump; each second one is back to right."""
        now = self.stack.jumps[fault.target]
        self.stack.jumps[fault.target] = 0.0 if now else fault.amount_seconds
        self.stack.write_clocks()

    def _kill_storage(self) -> None:
        self.stack.kill("storage")
        self.stack.start_storage()

    def _away(self, fault: Fault) -> None:
        self.sink.is_away = True
        time.sleep(fault.seconds)
        self.sink.is_away = False

    def _refuse(self, fault: Fault) -> None:
        self.sink.refused = "" if self.sink.refused else f"{int(fault.seconds * 1000) % 16:x}"

    def _outage(self, fault: Fault) -> None:
        """Stop all functions; when they are back, ten minutes have gone by on all clocks."""
        self.stack.stop_functions()
        time.sleep(fault.seconds)
        self.stack.clock_seconds += OUTAGE_SECONDS
        self.stack.write_clocks()
        self.stack.is_away.clear()
        self.stack.mend()
