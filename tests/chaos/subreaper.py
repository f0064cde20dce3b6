"""Reaps the processes that this one has adopted, so that none stays a zombie, and lists the trainers among them."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress

import psutil


def reaping(own: Callable[[], set[int]], until: threading.Event) -> None:
    """Start to bury the adopted that have ended; ``own`` are others' to wait for."""

    def run() -> None:
        before: set[int] = set()
        while not until.wait(1):
            # Not at once: who has started a process may be about to wait for it.
            with suppress(psutil.Error):  # whom it looks at may end meanwhile
                ended = {child.pid for child in psutil.Process().children() if is_zombie(child)} - own()
                for pid in ended & before:
                    with suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)
                before = ended

    threading.Thread(target=run, daemon=True).start()


def is_zombie(process: psutil.Process) -> bool:
    """Say whether it has ended, and nobody has taken note."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def trainers() -> dict[int, str]:
    """Return the supervisors and trainers that are alive below this process: their command lines by pid."""
    results = {}
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            command = child.cmdline()
            if "functions.launchers.supervisor" in command or any(w.endswith("chaos/trainer.py") for w in command):
                results[child.pid] = " ".join(command)
    return results
