"""Parts of a trainer's log, by byte offset, as text that ends at whole characters."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from functions.runtime import storage

#: of one response
LIMIT_BYTES = 1024 * 1024
_CONTINUATION, _LEAD = 0x80, 0xC0


class Part(NamedTuple):
    """A part of a log."""

    start: int
    content: bytes
    #: of the whole log
    size_bytes: int


def stored(job_id: str, attempt: int, offset: int) -> Part | None:
    """Return a part of the log that an attempt's trainer has stored; None if it has stored none.

    A negative offset counts from the end.

    Raises:
        Busy, ConfigurationError: as ``storage.head``.
    """
    key = f"logs/job-{job_id}/attempt-{attempt}.log"
    size = storage.size_of(key)
    return None if size is None else _part(offset, size, lambda start, end: storage.read_range(key, start, end))


def local(path: Path, offset: int) -> Part:
    """Return a part of a log in a file."""
    with path.open("rb") as file:
        size = file.seek(0, 2)

        def read(start: int, end: int) -> bytes:
            file.seek(start)
            return file.read(end - start)

        return _part(offset, size, read)


def _part(offset: int, size: int, read: Callable[[int, int], bytes]) -> Part:
    start = max(size + offset, 0) if offset < 0 else min(offset, size)
    end = min(start + LIMIT_BYTES, size)
    content = read(start, end) if end > start else b""
    begin = 0
    while start and begin < len(content) and begin < 3 and _CONTINUATION <= content[begin] < _LEAD:  # noqa: PLR2004 -- UTF-8
        begin += 1
    return Part(start + begin, _whole(content[begin:]), size)


def _whole(content: bytes) -> bytes:
    """Return text in UTF-8 without an unfinished last character."""
    for length in range(1, min(4, len(content)) + 1):
        byte = content[-length]
        if byte < _CONTINUATION:
            return content
        if byte >= _LEAD:
            needed = 2 + (byte >= 0xE0) + (byte >= 0xF0)  # noqa: PLR2004 -- UTF-8's lead bytes
            return content[:-length] if length < needed else content
    return content
