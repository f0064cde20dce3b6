"""Processes that outlive the command: started once, found again by their pid files, stopped in the order given."""

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from infra.node.layout import LOGS, STATE

PIDS = STATE / "pids"


def start(name: str, *command: str | Path, healthy: Callable[[], bool], within_seconds: float = 90.0) -> None:
    """Start a process unless it runs, and wait until it is healthy.

    Raises:
        SystemExit: it ended, or did not become healthy; with the end of its log.
    """
    if not alive(name):
        PIDS.mkdir(parents=True, exist_ok=True)
        LOGS.mkdir(parents=True, exist_ok=True)
        with (LOGS / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                cwd=STATE,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (PIDS / name).write_text(f"{process.pid} {psutil.Process(process.pid).create_time()}")
    wait(f"{name} to be healthy (its log: {LOGS / name}.log)", healthy, within_seconds, during=lambda: alive(name))


def wait(what: str, met: Callable[[], bool], within_seconds: float, during: Callable[[], bool] = lambda: True) -> None:
    """Wait for a condition.

    Raises:
        SystemExit: it was not met within the time.
    """
    until = time.monotonic() + within_seconds
    while not met():
        if time.monotonic() > until or not during():
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(0.2)


def alive(name: str) -> bool:
    """Say whether the process that was started by this name runs; another that got its number does not count."""
    return _process(name) is not None


def stop(name: str, grace_seconds: float = 20.0) -> None:
    """Stop a process, by SIGKILL if it does not go by itself."""
    process = _process(name)
    if process:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
            try:
                process.wait(grace_seconds)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(grace_seconds)
    (PIDS / name).unlink(missing_ok=True)


def _process(name: str) -> psutil.Process | None:
    try:
        pid, created = (PIDS / name).read_text().split()
        process = psutil.Process(int(pid))
    except (OSError, ValueError, psutil.NoSuchProcess):
        return None
    if process.status() == psutil.STATUS_ZOMBIE:
        with suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)
        return None
    return process if abs(process.create_time() - float(created)) < 1 else None
