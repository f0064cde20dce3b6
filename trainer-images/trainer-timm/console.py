"""A job's output, line by line: with its trace, without secrets, on the terminal and in a file."""

import codecs
import faulthandler
import fcntl
import io
import logging
import os
import re
import select
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO, cast

STDOUT, STDERR = 1, 2
FILE_LIMIT_BYTES = 100_000_000
PIPE_BYTES = 1 << 20  # C code may print this much while it holds the GIL, which blocks the reading thread
READ_BYTES = 1 << 16
LINE_LIMIT = 10_000
LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"
CHATTY = ("urllib3", "botocore", "boto3")  # their lines would hold links
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SECRET = re.compile(r"(?<=[?&])(X-Amz-[\w-]+|AWSAccessKeyId|Signature)=[^&\s'\"]+|eyJ[\w-]{10,}\.[\w-]+\.[\w-]*")
_SECRET_NAME = re.compile(r".*(SECRET|PASSWORD|TOKEN)(_KEY|_ACCESS_KEY)?")  # of an environment variable


class Console(io.TextIOBase):
    """Prefixes lines, hides secrets, and writes to the terminal and to a file."""

    def __init__(self, path: Path, prefix: str, secrets: Iterable[str]) -> None:
        self.terminal = os.fdopen(os.dup(STDERR), "w", encoding="utf-8", errors="replace")
        self._file = path.open("a", encoding="utf-8", errors="replace")
        self._prefix = prefix
        self._secrets = tuple(filter(None, secrets))
        self._unlock()
        os.register_at_fork(after_in_child=self._unlock)  # a data loader's worker must not inherit a lock in use

    def _unlock(self) -> None:
        self._lock, self._rest = threading.RLock(), ""

    def hide(self, secret: str) -> None:
        """Print ``***`` in place of this from now on."""
        self._secrets = (*self._secrets, secret)  # a new tuple: another thread may be printing

    def write(self, text: str) -> int:
        """Print the complete lines; keep an incomplete last line until its end is written."""
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            self.print_lines(lines)
        return len(text)

    def print_lines(self, lines: Iterable[str]) -> None:
        """Print each line that is not blank."""
        for line in filter(None, map(str.rstrip, lines)):
            text = f"{timestamp()} {self._prefix} {self._without_secrets(line)}\n"
            for file in (self.terminal, self._file):
                with self._lock, suppress(OSError, ValueError):  # a full disk or a closed pipe ends no training
                    if file is self.terminal or file.tell() < FILE_LIMIT_BYTES:
                        file.write(text)
                        file.flush()

    def _without_secrets(self, line: str) -> str:
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return _SECRET.sub("***", line)

    @contextmanager
    def in_place_of_streams(self) -> Iterator[None]:
        """Replace stdout, stderr and the stream of log handlers; the traceback of a crash goes to the terminal."""
        faulthandler.enable(self.terminal)  # a crash leaves no time for more
        sys.stdout = sys.stderr = cast("TextIO", self)
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=LOG_FORMAT, force=True)
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        yield
        self.write("\n")
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Also print what C code and child processes write to the descriptors of stdout and stderr."""
        saved, streams = [os.dup(number) for number in (STDOUT, STDERR)], (sys.stdout, sys.stderr)
        output = _Captured(self)
        reader = threading.Thread(target=output.read_all, name="console", daemon=True)
        reader.start()
        sys.stdout = sys.stderr = output
        try:
            yield
        finally:
            output.flush()
            sys.stdout, sys.stderr = streams
            for number, old in zip((STDOUT, STDERR), saved, strict=True):
                os.dup2(old, number)
                os.close(old)
            reader.join(timeout=1)  # a child that is still running would hold the pipe open


class _Captured(io.TextIOWrapper):
    """stdout and stderr while a pipe takes the place of their descriptors.

    A thread reads the pipe. Python's output also goes through it, to keep the order, and the printing thread
    reads it at once, because a crash may follow. A forked process only writes: this process reads.
    """

    def __init__(self, console: Console) -> None:
        self._source, sink = os.pipe()
        os.set_blocking(self._source, False)
        with suppress(AttributeError, OSError):  # only on Linux, up to a limit
            fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        for number in (STDOUT, STDERR):
            os.dup2(sink, number)
        os.close(sink)
        super().__init__(os.fdopen(STDOUT, "wb", 0, closefd=False), "utf-8", "replace", line_buffering=True)
        self._console, self._pid = console, os.getpid()
        self._reading, self._is_open = threading.RLock(), True
        self._decoder, self._rest = codecs.getincrementaldecoder("utf-8")("replace"), ""

    def write(self, text: str) -> int:
        """Print the whole lines at once."""
        size = super().write(text)
        # Without waiting: this thread may hold the console's lock, for which another that reads is waiting.
        if os.getpid() == self._pid and self._reading.acquire(blocking=False):
            try:
                self._read()
            finally:
                self._reading.release()
        return size

    def read_all(self) -> None:
        """Print what is written to the pipe, until its other end is closed."""
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        while self._is_open:
            poll.poll()
            with self._reading:
                self._read()

    def _read(self) -> None:
        """Print what is in the pipe."""
        with suppress(BlockingIOError):  # it is empty
            while self._is_open:
                chunk = os.read(self._source, READ_BYTES)
                if not chunk:
                    self._is_open = False
                    os.close(self._source)
                text = self._rest + (self._decoder.decode(chunk) if chunk else "\n")
                lines, self._rest = whole_lines(text)
                self._console.print_lines(lines)


def whole_lines(text: str) -> tuple[list[str], str]:
    """Return the complete lines without colours, progress bars in their last state only; and the remaining text."""
    *lines, rest = text.split("\n")
    rest = rest if rest.endswith("\r") else rest.rpartition("\r")[2]
    if len(rest) > LINE_LIMIT:
        lines, rest = [*lines, rest], ""
    return [_COLOURS.sub("", line.rstrip("\r").rpartition("\r")[2]) for line in lines], rest


def secrets_of(env: Mapping[str, str]) -> list[str]:
    """Return the values of the variables that are secret by their names."""
    return [value for name, value in env.items() if _SECRET_NAME.fullmatch(name)]


def timestamp() -> str:
    """Return the current time in UTC."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
