"""Programs that are stopped by a signal end as by an exception, and take with them what they have started."""

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

    for number in SIGNALS:
        signal.signal(number, stop)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends; see PR_SET_CHILD_SUBREAPER in prctl(2)."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


@contextmanager
def no_process_left() -> Iterator[None]:
    """Kill, at the end of the block, every process that this program has started, however deep and detached."""
    adopt_orphans()
    try:
        yield
    finally:
        for _ in range(_ROUNDS):  # again: one may have started another meanwhile
            children = psutil.Process().children(recursive=True)
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            psutil.wait_procs(children, timeout=_WAIT_SECONDS)
            _reap()


def _reap() -> None:
    """Take note of adopted processes that have ended: nobody else waits for them."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """Make a folder for temporary files, and remove it at the end of the block."""
    # Its name is known before it exists: a signal during mkdtemp would leave a folder that nobody knows of.
    folder = Path(tempfile.gettempdir()) / f"{prefix}{secrets.token_hex(8)}"
    # Again at exit, after the libraries that are imported in the block and write there at exit.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
