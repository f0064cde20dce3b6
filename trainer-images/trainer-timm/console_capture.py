"""Sends what a framework, its C code and its child processes print through the contract's console, line by line."""

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
PIPE_BYTES = 1 << 20  # C code may print this much while it holds Python's lock, and so the thread that reads
LINE_LIMIT = 10_000
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@contextmanager
def captured(console: Console) -> Iterator[None]:
    """Replace stdout and stderr, the file descriptors too, by a pipe that a thread reads."""
    source, sink = os.pipe()
    with suppress(AttributeError, OSError):  # Linux has it, and has a limit for it
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
        copier.join(timeout=1)  # a child that lives on would hold the pipe open


def copy(pipe: int, console: Console) -> None:
    """Print all that comes out of a pipe, until nobody holds its other end."""
    decoder, rest = codecs.getincrementaldecoder("utf-8")("replace"), ""
    while piece := os.read(pipe, 1 << 16):
        rest = print_lines(rest + decoder.decode(piece), console)
    print_lines(rest + "\n", console)
    os.close(pipe)


def print_lines(text: str, console: Console) -> str:
    """Print the whole lines, of a progress bar only its last state, without colours; return the rest."""
    *lines, rest = text.split("\n")
    rest = rest if rest.endswith("\r") else rest.rpartition("\r")[2]
    if len(rest) > LINE_LIMIT:
        lines, rest = [*lines, rest], ""
    console.print_lines(_COLOURS.sub("", line.rstrip("\r").rpartition("\r")[2]) for line in lines)
    return rest


def capturing(train: Callable[[Contract], Mapping[str, float]]) -> Callable[[Contract], Mapping[str, float]]:
    """Return ``train`` with all that is printed within it captured."""

    def wrapped(contract: Contract) -> Mapping[str, float]:
        with captured(contract.console):
            return train(contract)

    return wrapped
