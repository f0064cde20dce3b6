"""The node's processes: started by ``infra.local.processes`` in the node's folder, and awaited until they are healthy."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from infra.local import processes
from infra.node.layout import STATE

_LOG_LINES = 20
#: so that pods which use all cores do not make the node miss its lease, and lose its endpoints
_URGENT = ("nice", "-n", "-10")


def start(
    name: str,
    *command: str | Path,
    healthy: Callable[[], bool],
    within_seconds: float = 90.0,
    starts_pods: bool = False,
) -> None:
    """Start a process unless it runs, and wait until it is healthy; with priority, which those that start pods would pass on.

    Raises:
        SystemExit: it ended, or did not become healthy; the message contains the end of its log.
    """
    if not alive(name):
        prefix = () if starts_pods else _URGENT
        processes.start(name, [*prefix, *map(str, command)], os.environ, folder=STATE, home=STATE)
    end = time.monotonic() + within_seconds
    while not healthy():
        if time.monotonic() > end or not alive(name):
            log = processes.log_file(name, home=STATE)
            lines = "\n".join(f"  {line}" for line in processes.last_lines(log, _LOG_LINES))
            raise SystemExit(f"{name} did not start; the end of {log}:\n{lines}")
        time.sleep(0.2)


def alive(name: str) -> bool:
    """Return whether the process of this name runs; another process with its pid does not count."""
    return processes.running(name, home=STATE) is not None


def stop(name: str) -> None:
    """Stop a process, by SIGKILL if SIGTERM is not enough."""
    processes.stop(name, grace_seconds=20.0, home=STATE)
