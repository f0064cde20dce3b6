"""What a trainer prints, its framework's lines too: trace and job before each, no secrets, and a file for storage."""

import codecs
import faulthandler
import fcntl
import logging
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TextIO, cast

STDOUT, STDERR = 1, 2
FILE_LIMIT_BYTES = 100_000_000
#: C code may print this much while it holds Python's lock, and so the thread that reads
PIPE_BYTES = 1 << 20
_LINE_LIMIT = 10_000
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
#: signatures in links, and anything that looks like a JWT
_SECRETS = re.compile(r"(?<=[?&])(X-Amz-[\w-]+|AWSAccessKeyId|Signature)=[^&\s'\"]+|eyJ[\w-]{10,}\.[\w-]+\.[\w-]*")


class Console:
    """Stands for ``sys.stdout`` and ``sys.stderr``: whole lines, each with its prefix, to the terminal and a file."""

    def __init__(self, terminal: TextIO, prefix: str, secrets: Iterable[str]) -> None:
        self._terminal, self._prefix = terminal, prefix
        self._secrets = {secret for secret in secrets if secret}
        self._lock = threading.RLock()
        self._rest = ""
        self._file: IO[str] | None = None
        # A data loader's worker is a fork: it must not inherit a lock that another thread held.
        os.register_at_fork(after_in_child=self._unlock)

    def _unlock(self) -> None:
        self._lock = threading.RLock()
        self._rest = ""

    def hide(self, secret: str) -> None:
        """Print ``***`` instead of this from now on."""
        with self._lock:  # or a line that is printed meanwhile would meet a set that changes
            self._secrets.add(secret)

    def open(self, path: Path) -> None:
        """Copy all lines to a file, too."""
        self._file = path.open("a", encoding="utf-8", errors="replace")

    def write(self, text: str) -> int:
        """Take a piece of text; of a progress bar's many states, parted by carriage returns, only the last is kept."""
        with self._lock:
            self._rest = self._take(self._rest + text)
        return len(text)

    def copy(self, pipe: int) -> None:
        """Take all that comes out of a pipe, until nobody holds its other end."""
        decoder, rest = codecs.getincrementaldecoder("utf-8")("replace"), ""
        while piece := os.read(pipe, 1 << 16):
            with self._lock:
                rest = self._take(rest + decoder.decode(piece))
        with self._lock:
            self._take(rest + "\n")
        os.close(pipe)

    def _take(self, text: str) -> str:
        """Print the whole lines; return the rest."""
        *lines, rest = text.split("\n")
        for line in lines:
            self._emit(line)
        rest = rest if rest.endswith("\r") else rest.rpartition("\r")[2]
        if len(rest) <= _LINE_LIMIT:
            return rest
        self._emit(rest)
        return ""

    def _emit(self, line: str) -> None:
        line = _COLOURS.sub("", line.rstrip("\r").rpartition("\r")[2]).rstrip()
        if not line:
            return
        for secret in self._secrets:
            line = line.replace(secret, "***")
        line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ} {self._prefix} {_SECRETS.sub('***', line)}\n"
        for file in (self._terminal, self._file):
            try:
                if file is not None and (file is self._terminal or file.tell() < FILE_LIMIT_BYTES):
                    file.write(line)
                    file.flush()
            except (OSError, ValueError):  # a full disk or a closed pipe is no reason to end a training
                continue

    def flush(self) -> None:
        """Do nothing: every line is flushed as it comes."""

    def isatty(self) -> bool:
        """Say no: progress bars then move less."""
        return False

    def fileno(self) -> int:
        """Return that of stderr, for what child processes print."""
        return STDERR

    @property
    def encoding(self) -> str:
        """Return what text files are asked for."""
        return "utf-8"

    @property
    def errors(self) -> str:
        """As ``encoding``."""
        return "replace"

    def close(self) -> None:
        """Print what has no end of line yet."""
        self.write("\n")


@contextmanager
def console(prefix: str, secrets: Iterable[str]) -> Iterator[Console]:
    """Put a console in the place of stdout and stderr, and make ``logging`` write to it."""
    before = sys.stdout, sys.stderr
    terminal = os.fdopen(os.dup(STDERR), "w", encoding="utf-8", errors="replace")
    faulthandler.enable(terminal)  # a crash leaves no time for a detour
    both = Console(terminal, prefix, secrets)
    sys.stdout = sys.stderr = cast("TextIO", both)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", force=True)
    # Their lines would hold the query of a presigned link.
    for chatty in ("urllib3", "botocore", "boto3"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    try:
        yield both
    finally:
        both.close()
        sys.stdout, sys.stderr = before
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, force=True)
        faulthandler.disable()
        terminal.close()


@contextmanager
def capture(screen: Console) -> Iterator[None]:
    """Send what C code and child processes print the same way: they know file descriptors only."""
    source, sink = os.pipe()
    with suppress(AttributeError, OSError):  # Linux has it, and has a limit for it
        fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    kept = [os.dup(number) for number in (STDOUT, STDERR)]
    for number in (STDOUT, STDERR):
        os.dup2(sink, number)
    os.close(sink)
    copier = threading.Thread(target=screen.copy, args=[source], name="console", daemon=True)
    copier.start()
    try:
        yield
    finally:
        for number, old in zip((STDOUT, STDERR), kept, strict=True):
            os.dup2(old, number)
            os.close(old)
        copier.join(timeout=1)  # a child that lives on would hold the pipe open
