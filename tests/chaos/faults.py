"""Injects each kind of fault."""

import time
from collections.abc import Callable

from tests.chaos.plan import OUTAGE_SECONDS, REPLICAS, Fault
from tests.chaos.sink import Sink
from tests.chaos.stack import Stack


class Faults:
    """Injects faults, one at a time; some last until the next of their kind."""

    def __init__(self, stack: Stack, sink: Sink) -> None:
        self.stack, self.sink = stack, sink

    def inject(self, fault: Fault) -> None:
        """Inject a fault; return when it is over or, if it lasts, has begun."""
        kinds: dict[str, Callable[[Fault], None]] = {
            "function killed": lambda fault: self.stack.kill(fault.target),
            "function frozen": lambda fault: self.stack.freeze(fault.target, fault.seconds),
            "clock of a function jumps": self._jump,
            "PostgreSQL frozen": lambda fault: self.stack.freeze("postgresql", fault.seconds),
            "PostgreSQL restarted": lambda _: self.stack.restart_postgresql(),
            "S3 server frozen": lambda fault: self.stack.freeze("storage", fault.seconds),
            "S3 server killed": lambda _: self._kill_storage(),
            "sink unavailable": self._sink_outage,
            "sink rejects some jobs": self._reject,
            "control plane down for ten minutes": self._outage,
        }
        kinds[fault.kind](fault)

    def end_all(self) -> None:
        """End the faults that last."""
        self.stack.jumps = dict.fromkeys(REPLICAS, 0.0)
        self.stack.write_clocks()
        self.sink.rejected = ""

    def _jump(self, fault: Fault) -> None:
        """Move one function's clock until its next jump; every second jump sets it right again."""
        now = self.stack.jumps[fault.target]
        self.stack.jumps[fault.target] = 0.0 if now else fault.amount_seconds
        self.stack.write_clocks()

    def _kill_storage(self) -> None:
        self.stack.kill("storage")
        self.stack.start_storage()

    def _sink_outage(self, fault: Fault) -> None:
        self.sink.is_down = True
        time.sleep(fault.seconds)
        self.sink.is_down = False

    def _reject(self, fault: Fault) -> None:
        self.sink.rejected = "" if self.sink.rejected else f"{int(fault.seconds * 1000) % 16:x}"

    def _outage(self, fault: Fault) -> None:
        """Stop all functions, and start them with all clocks ten minutes later."""
        self.stack.stop_functions()
        time.sleep(fault.seconds)
        self.stack.clock_seconds += OUTAGE_SECONDS
        self.stack.write_clocks()
        self.stack.is_down.clear()
        self.stack.restart_functions()
