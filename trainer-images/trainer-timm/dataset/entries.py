"""What an archive holds: its files, whose names are checked, and where their bytes are."""

from collections.abc import Iterator
from typing import IO, NamedTuple

from dataset import names
from dataset.limits import limit
from utils import DatasetInvalidError

CHUNK_BYTES = 1 << 20


class Entry(NamedTuple):
    """A file in an archive; ``path`` is checked, with slashes. There may be a million of them: numbers and one text."""

    path: str
    size_bytes: int
    packed_bytes: int | None  # None: the archive is compressed as a whole
    offset: int  # of its header in a zip; of its content in a tar, unpacked
    method: int = 0  # of a zip's compression
    checksum: int = 0  # CRC-32, of a zip


class Listing(NamedTuple):
    """The files of an archive, without those that an operating system wrote for itself."""

    entries: list[Entry]
    total_bytes: int  # with ignored files
    tar: IO[bytes] | None = None  # the unpacked tar, which is read from the beginning to the end; None: a zip


def without_ignored(files: list[Entry]) -> list[Entry]:
    """Return the files without those of operating systems and tools; a hidden folder around all files is kept."""
    kept = [entry for entry in files if not names.is_ignored(entry.path)]
    return kept or [entry for entry in files if not names.is_ignored(entry.path.partition("/")[2])]


def checked_count(count: int) -> None:
    """Check the number of entries. Raises: DatasetInvalidError."""
    most = limit("DATASET_FILE_LIMIT")
    if count > most:
        raise DatasetInvalidError(f"{count} entries are more than {most}; ask the operator to raise DATASET_FILE_LIMIT")


def chunks(size_bytes: int) -> Iterator[int]:
    """Yield the sizes of the parts in which so many bytes are read."""
    for start in range(0, size_bytes, CHUNK_BYTES):
        yield min(CHUNK_BYTES, size_bytes - start)
