"""Detached processes: each has its own session and log, and is identified by its pid and creation time.

``home`` is the folder of their pid files and logs; by default, the local stack's.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

import client.home

_POLL_SECONDS = 0.05
_CLOCK_ERROR_SECONDS = 1.0


def log_file(name: str, *, home: Path | None = None) -> Path:
    """Return the log file of the process of this name."""
    return (home or client.home.home()) / "logs" / f"{name}.log"


def start(
    name: str, command: Sequence[str], environment: Mapping[str, str], *, folder: Path, home: Path | None = None
) -> None:
    """Start a process that outlives this one; its log is appended to."""
    folder.mkdir(parents=True, exist_ok=True)
    log = log_file(name, home=home)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 -- the stack's own commands
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _write(_pid_file(name, home), {"pid": process.pid, "created_at": psutil.Process(process.pid).create_time()})
    except BaseException:  # including a signal: without a pid file, the process could not be stopped
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise


def running(name: str, *, home: Path | None = None) -> psutil.Process | None:
    """Return the process of this name, or None if it has ended, even if another process has its pid now."""
    try:
        known = json.loads(_pid_file(name, home).read_text())
        process = psutil.Process(known["pid"])
        is_same = abs(process.create_time() - known["created_at"]) < _CLOCK_ERROR_SECONDS
        is_alive = is_same and process.status() != psutil.STATUS_ZOMBIE
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None
    return process if is_alive else None


def stop(name: str, *, grace_seconds: float, home: Path | None = None) -> bool:
    """Stop a process and its group, by SIGTERM and then SIGKILL; return whether it was running."""
    process = running(name, home=home)
    if process is not None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        _wait_for_group(process.pid, grace_seconds)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _wait_for_group(process.pid, grace_seconds)
    _pid_file(name, home).unlink(missing_ok=True)
    return process is not None


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a log; an empty list when it does not exist."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return []


def _wait_for_group(group: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and _has_members(group):
        time.sleep(_POLL_SECONDS)


def _has_members(group: int) -> bool:
    # Not killpg(group, 0): it counts zombies, which may not be reaped for a long time in a container.
    return any(_is_member(process, group) for process in psutil.process_iter(["status"]))


def _is_member(process: psutil.Process, group: int) -> bool:
    try:
        return process.info["status"] != psutil.STATUS_ZOMBIE and os.getpgid(process.pid) == group
    except ProcessLookupError:
        return False


def _pid_file(name: str, home: Path | None) -> Path:
    return (home or client.home.home()) / "run" / f"{name}.json"


def _write(path: Path, content: Mapping[str, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content))
    part.replace(path)
