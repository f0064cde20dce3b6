"""Tar archives, also compressed ones: the files in them, and the content of one."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple, cast

from dataset import decoding, names
from dataset.download import Archive
from dataset.entries import Entry, Listing, checked_count, chunks, without_ignored
from dataset.limits import encoding, limit
from dataset.report import Report
from utils import DatasetInvalidError

HEADER_LIMIT_BYTES = 1 << 24  # tarfile reads it into memory
OPENERS: dict[bytes, Callable[[Archive], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x5d\0\0": lzma.open,  # the older .lzma
}


class _Member(NamedTuple):
    name: bytes
    size_bytes: int
    offset: int
    is_file: bool
    is_folder: bool


def listed(source: Archive, report: Report) -> Listing:
    """Return the files of a tar. Raises: DatasetInvalidError, tarfile.TarError, and what a compressed file raises."""
    stream = _unpacked(source)
    with _opened(stream, is_compressed=stream is not source) as tar:
        members = [member for member in _members(tar) if not member.is_folder]
    decoded = decoding.decoded([member.name for member in members], encoding(), report)
    total_bytes = sum(member.size_bytes for member in members)
    files, others = list[Entry](), set[str]()
    for member, path in zip(members, map(names.checked_path, decoded), strict=True):
        files.append(Entry(path, member.size_bytes, None, member.offset))
        if not member.is_file:
            others.add(path)
    entries = without_ignored(files)
    for path in (entry.path for entry in entries if entry.path in others):
        raise DatasetInvalidError(f"{path}: a symbolic link or device: pack the files themselves (tar --dereference)")
    return Listing(entries, total_bytes, stream)


def _opened(stream: IO[bytes], *, is_compressed: bool) -> tarfile.TarFile:
    """Open a tar. Raises: DatasetInvalidError, if the compressed content is not a tar."""
    try:
        return tarfile.open(fileobj=cast("Any", _Bounded(stream)), mode="r:")
    except tarfile.ReadError as error:
        if not is_compressed:
            raise
        stream.seek(0)
        inner = "another archive" if stream.read(4).startswith((b"PK", b"7z", b"Rar", *OPENERS)) else "no tar archive"
        raise DatasetInvalidError(
            f"what is compressed is {inner}: unpack it once, and upload that, or a .zip"
        ) from error


def _members(tar: tarfile.TarFile) -> Iterator[_Member]:
    """Yield the needed fields of each member, and free the rest. Raises: DatasetInvalidError, beyond the limits."""
    count, total_bytes, bytes_limit = 0, 0, limit("DATASET_BYTES_LIMIT")
    while (member := tar.next()) is not None:  # checked one by one: reading on costs as much as unpacking
        count, total_bytes = count + 1, total_bytes + member.size
        checked_count(count)
        if total_bytes > bytes_limit:
            raise DatasetInvalidError(
                f"more than {bytes_limit} bytes unpacked; ask the operator to raise DATASET_BYTES_LIMIT"
            )
        name, is_file = member.name.encode("utf-8", "surrogateescape"), member.isreg() and not member.issparse()
        yield _Member(name, member.size, member.offset_data, is_file, member.isdir())
        cast("Any", tar).members = []  # a kilobyte each


def content(stream: IO[bytes], entry: Entry) -> Iterator[bytes]:
    """Yield the content of one file. Raises: tarfile.ReadError, and what a compressed file raises."""
    stream.seek(entry.offset)
    for size in chunks(entry.size_bytes):
        part = stream.read(size)
        if len(part) != size:
            raise tarfile.ReadError("unexpected end of data")
        yield part


def _unpacked(source: Archive) -> IO[bytes]:
    start = source.read(6)
    source.seek(0)
    opener = next((opener for signature, opener in OPENERS.items() if start.startswith(signature)), None)
    return opener(source) if opener else cast("IO[bytes]", source)


class _Bounded:
    """A tar's bytes, of which tarfile may not read a header of any size into memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= HEADER_LIMIT_BYTES:
            raise tarfile.ReadError("a header that is too large")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._stream.seek(offset, whence)

    def close(self) -> None:
        self._stream.close()

    def tell(self) -> int:
        return self._stream.tell()
