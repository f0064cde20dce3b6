"""Shared by tests that stop a program by a signal."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from infra.local.stopping import scratch_folder
from tests.conftest import ROOT


class Program(NamedTuple):
    """A program and its folder for temporary files."""

    process: "subprocess.Popen[str]"
    folder: Path


@contextmanager
def started(*words: str) -> Iterator[Program]:
    """Start one of the project's programs; kill the processes that it left at the end."""
    # Not pytest's folder: a socket's path must be short.
    with scratch_folder("stopped-") as folder:
        folder.chmod(0o755)
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=ROOT, env={**os.environ, "TMPDIR": str(folder)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            yield Program(process, folder)
        finally:
            process.kill()
            process.communicate()
            for pid in processes_of(folder):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def processes_of(folder: Path) -> dict[int, list[str]]:
    """Return the processes with this folder in their environment or command line."""
    results = {}
    for process in psutil.process_iter(["status"]):
        with suppress(psutil.AccessDenied, psutil.NoSuchProcess):
            words = [*process.environ().values(), *process.cmdline()]
            if process.info["status"] != psutil.STATUS_ZOMBIE and any(str(folder) in word for word in words):
                results[process.pid] = process.cmdline()
    return results


def read_until(program: Program, text: str) -> None:
    """Read a program's output up to the line with this text."""
    output = program.process.stdout
    assert output is not None
    printed = ""
    while text not in printed:
        line = output.readline()
        assert line, f"it ended before it printed {text!r}; it printed: {printed}"
        printed += line


def stopped(program: Program, number: signal.Signals) -> str:
    """Send a program a signal twice, like an impatient user; return the rest of its output."""
    program.process.send_signal(number)
    program.process.send_signal(number)
    printed, _ = program.process.communicate(timeout=300)

    left = [processes_of(program.folder), sorted(program.folder.rglob("*"))]
    assert (program.process.returncode, left) == (128 + number, [{}, []]), f"{left}; it printed: {printed}"
    return printed
