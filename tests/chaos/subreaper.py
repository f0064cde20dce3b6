"""Reaps adopted child processes, so that none stays a zombie, and lists the trainers among them."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress

import psutil


def start(own: Callable[[], set[int]], until: threading.Event) -> None:
    """Start a thread that reaps ended children, except ``own()``, until the event is set."""

    def run() -> None:
        before: set[int] = set()
        while not until.wait(1):
            # In the second round: the code that started a process may be about to wait for it.
            with suppress(psutil.Error):  # a process may end meanwhile
                ended = {child.pid for child in psutil.Process().children() if is_zombie(child)} - own()
                for pid in ended & before:
                    with suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)
                before = ended

    threading.Thread(target=run, daemon=True).start()


def is_zombie(process: psutil.Process) -> bool:
    """Return whether the process has ended and has not been waited for."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def trainers() -> dict[int, str]:
    """Return the command lines of running supervisors and trainers below this process, by PID."""
    results = {}
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            command = child.cmdline()
            if "functions.launchers.supervisor" in command or any(w.endswith("chaos/trainer.py") for w in command):
                results[child.pid] = " ".join(command)
    return results
