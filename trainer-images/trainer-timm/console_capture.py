"""Redirect the output of a framework, its C code and its child processes to the contract's console, line by line."""

import codecs
import fcntl
import io
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from utils import Console, Contract

STDOUT, STDERR = 1, 2
PIPE_BYTES = 1 << 20  # C code may print this much while it holds the GIL, which blocks the reading thread
LINE_LIMIT = 10_000
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@contextmanager
def captured(console: Console) -> Iterator[None]:
    """Replace stdout and stderr, including the file descriptors, by a pipe that a thread reads."""
    source, sink = os.pipe()
    with suppress(AttributeError, OSError):  # only on Linux, up to a limit
        fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    saved, streams = [os.dup(number) for number in (STDOUT, STDERR)], (sys.stdout, sys.stderr)
    for number in (STDOUT, STDERR):
        os.dup2(sink, number)
    os.close(sink)
    copier = threading.Thread(target=copy, args=[source, console], name="console", daemon=True)
    copier.start()
    sys.stdout = sys.stderr = io.TextIOWrapper(
        os.fdopen(STDOUT, "wb", 0, closefd=False), "utf-8", "replace", line_buffering=True
    )
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout, sys.stderr = streams
        for number, old in zip((STDOUT, STDERR), saved, strict=True):
            os.dup2(old, number)
            os.close(old)
        copier.join(timeout=1)  # a child that is still running would hold the pipe open


def copy(pipe: int, console: Console) -> None:
    """Print what is written to a pipe, until its other end is closed."""
    decoder, rest = codecs.getincrementaldecoder("utf-8")("replace"), ""
    while chunk := os.read(pipe, 1 << 16):
        rest = print_lines(rest + decoder.decode(chunk), console)
    print_lines(rest + "\n", console)
    os.close(pipe)


def print_lines(text: str, console: Console) -> str:
    """Print the complete lines without colours, of a progress bar the last state; return the rest."""
    *lines, rest = text.split("\n")
    rest = rest if rest.endswith("\r") else rest.rpartition("\r")[2]
    if len(rest) > LINE_LIMIT:
        lines, rest = [*lines, rest], ""
    console.print_lines(_COLOURS.sub("", line.rstrip("\r").rpartition("\r")[2]) for line in lines)
    return rest


def capturing(train: Callable[[Contract], Mapping[str, float]]) -> Callable[[Contract], Mapping[str, float]]:
    """Return ``train`` with its output captured."""

    def wrapped(contract: Contract) -> Mapping[str, float]:
        with captured(contract.console):
            return train(contract)

    return wrapped
