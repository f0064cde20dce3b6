"""Turn signals that stop a program into an exception, and clean up the processes and folders that it has created."""

import atexit
import ctypes
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_CHILD_SUBREAPER = 36
_KILLED_BY_SIGNAL = 128
_WAIT_SECONDS = 10.0
_ROUNDS = 3


class Stopped(KeyboardInterrupt):
    """The program received a signal that stops it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = _KILLED_BY_SIGNAL + number


def raise_on_signals() -> None:
    """Let the first SIGINT, SIGTERM or SIGHUP raise Stopped, and ignore further ones while the program cleans up."""

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    tempfile.gettempdir()  # its first call writes a file and removes it; a signal in between would leave the file
    for number in SIGNALS:
        signal.signal(number, stop)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends; see PR_SET_CHILD_SUBREAPER in prctl(2)."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


@contextmanager
def no_process_left() -> Iterator[None]:
    """At the end of the block, kill every process that this program has started, even detached ones."""
    adopt_orphans()
    try:
        yield
    finally:
        for _ in range(_ROUNDS):  # a killed process may have started another one meanwhile
            children = psutil.Process().children(recursive=True)
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            psutil.wait_procs(children, timeout=_WAIT_SECONDS)
            _reap()


def _reap() -> None:
    """Reap adopted processes that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """Create a folder for temporary files, and remove it at the end of the block."""
    # The name is chosen before the folder exists: a signal during mkdtemp could leave an unknown folder.
    folder = Path(tempfile.gettempdir()) / f"{prefix}{secrets.token_hex(8)}"
    # Remove it again at exit: libraries that the block imports may write there at exit.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
