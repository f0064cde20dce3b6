"""Unpack an untrusted archive: only the wanted files, only below one folder, and within limits."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dataset import tars, zips
from dataset.archives import opened
from dataset.download import Archive
from dataset.entries import Entry, Listing
from dataset.images import BITMAP_SUFFIXES, is_image
from dataset.limits import limit
from dataset.processes import spread
from dataset.report import Report, listed
from utils import DatasetInvalidError

BATCH_FILES, BATCH_BYTES = 256, 4 << 20  # of the archive, for a process at a time
HEADER_LIMIT_BYTES = 30 + 2 * 65_535  # before a file in a zip: what is fixed, its name and its extra field
_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"}
#: gets a file's path and its content; no content: the file is large, read it from the path
Inspect = Callable[[str, bytes | None], Any]


def unpack(  # noqa: PLR0913, PLR0917 -- from where, to where, what, and who wants to know
    archive: Path | Archive,
    folder: Path,
    wanted: Callable[[PurePosixPath], bool],
    report: Report,
    check: Callable[[], None],
    inspect: Inspect = lambda _path, _content: None,
) -> dict[str, Any]:
    """Unpack the wanted files below ``folder``; the report counts the others.

    All names are checked before anything is written. ``check`` is called often. ``inspect`` gets each file when it is
    unpacked, in one of several processes; what it returns is returned by the file's name, unless it is None.

    Raises:
        DatasetInvalidError: the message names the archive's kind and the fix, or the entry.
        ConfigInvalidError: a setting of DATASET_… cannot be used.
    """
    source = archive if isinstance(archive, Archive) else Archive(archive)
    with source, opened(source, report) as listing:
        entries = _distinct(listing.entries, report)
        _check_sizes(listing, source.size)
        selected = _selected(entries, wanted, report)
        for parent in sorted({entry.path.rpartition("/")[0] for entry in selected}):
            (folder / parent).mkdir(parents=True, exist_ok=True)
        unpacking = _Unpacking(source, listing.tar, selected, str(folder), inspect)
        listing.entries.clear()
        if listing.tar is not None:
            unpacking.write_tar(check)
        results, alike = dict[str, Any](), dict[Any, Any]()  # many images have the same size
        for batch in spread(unpacking.unpack, unpacking.batches(), check):
            results |= {selected[number].path: alike.setdefault(result, result) for number, result in batch}
        return results


class _Unpacking(NamedTuple):
    archive: Archive
    tar: Any  # None: a zip
    entries: list[Entry]  # in the order of the archive
    folder: str
    inspect: Inspect

    def batches(self) -> Iterator[range]:
        """Yield the numbers of consecutive files as soon as their bytes have arrived."""
        first = size_bytes = 0
        for stop, entry in enumerate(self.entries, start=1):
            packed_bytes = entry.packed_bytes or 0
            size_bytes += packed_bytes
            if size_bytes >= BATCH_BYTES or stop - first >= BATCH_FILES or stop == len(self.entries):
                if self.tar is None:
                    end = entry.offset + HEADER_LIMIT_BYTES + packed_bytes
                    self.archive.wait_for(self.entries[first].offset, end)
                yield range(first, stop)
                first, size_bytes = stop, 0

    def unpack(self, numbers: range) -> list[tuple[int, Any]]:
        """Unpack and inspect files of a zip, or inspect files of a tar, in a process that has what its parent read."""
        results = list[tuple[int, Any]]()
        with self.archive.path.open("rb") as file:  # of its own: the parent's is a download
            for number in numbers:
                entry = self.entries[number]
                path = f"{self.folder}/{entry.path}"
                if self.tar is None:
                    content = write(path, zips.content(file.fileno(), entry))
                else:
                    content = Path(path).read_bytes() if entry.size_bytes <= zips.WHOLE_BYTES else None
                result = self.inspect(path, content)
                if result is not None:
                    results.append((number, result))
        return results

    def write_tar(self, check: Callable[[], None]) -> None:
        """Unpack a tar, from its beginning to its end."""
        for entry in self.entries:
            check()
            write(f"{self.folder}/{entry.path}", tars.content(self.tar, entry))


def write(path: str, parts: Iterable[bytes]) -> bytes | None:
    """Write a new file; return its content if it came in one part."""
    content: bytes | None = b""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        for number, part in enumerate(parts):
            written = os.write(file, part)
            while written < len(part):  # a full disk raises
                written += os.write(file, memoryview(part)[written:])
            content = part if number == 0 else None
    finally:
        os.close(file)
    return content


def _selected(entries: Iterable[Entry], wanted: Callable[[PurePosixPath], bool], report: Report) -> list[Entry]:
    """Return the wanted files in the order of the archive; refuse an archive of archives without images."""
    selected, inner = list[Entry](), list[str]()
    for entry in entries:
        path = PurePosixPath(entry.path)
        if wanted(path):
            selected.append(entry)
            report.files, report.bytes = report.files + 1, report.bytes + entry.size_bytes
        else:
            report.skip_other(path)
            inner += [path.name] if path.suffix.lower() in _ARCHIVES else []
    if inner and not any(is_image(entry.path) for entry in selected):
        raise DatasetInvalidError(f"the archive holds another one, {listed(inner, 3)}, and no images: upload that one")
    return sorted(selected, key=lambda entry: entry.offset)


def _distinct(entries: Iterable[Entry], report: Report) -> list[Entry]:
    """Return the files by name; of a name that occurs twice the last one, as every tool unpacks it."""
    files, twice = dict[str, Entry](), list[str]()
    for entry in entries:
        if files.pop(entry.path, None):
            twice.append(entry.path)
        files[entry.path] = entry
    if twice:
        report.guess("names", f"of files with the same name the last is used: {listed(twice, 3)}")
    for folder in {path.rpartition("/")[0] for path in files} - {""}:
        for parent in (folder, *map(str, PurePosixPath(folder).parents)):
            _refuse(parent in files, f"{parent}/: the archive holds this folder as a file, too")
    return list(files.values())


def _check_sizes(listing: Listing, archive_bytes: int) -> None:
    """Refuse a bomb, also one of many small files, or of entries that share their bytes.

    Bitmaps of one colour are no bomb: an image that is not compressed may get a thousand times smaller.
    """
    bytes_limit = limit("DATASET_BYTES_LIMIT")
    ratio, floor_bytes = limit("DATASET_RATIO_LIMIT"), limit("DATASET_RATIO_FLOOR_BYTES")
    raise_it = "ask the operator to raise DATASET_RATIO_LIMIT or DATASET_RATIO_FLOOR_BYTES if it is none"
    total_bytes = listing.total_bytes
    _refuse(
        total_bytes > bytes_limit,
        f"{total_bytes} bytes unpacked are more than {bytes_limit}; ask the operator to raise DATASET_BYTES_LIMIT",
    )
    for entry in (entry for entry in listing.entries if entry.size_bytes > floor_bytes):
        times = entry.size_bytes // max(entry.packed_bytes, 1) if entry.packed_bytes is not None else 0
        is_bomb = times > ratio and PurePosixPath(entry.path).suffix.lower() not in BITMAP_SUFFIXES
        _refuse(is_bomb, f"{entry.path}: {times} times larger unpacked: a zip bomb; {raise_it}")
    image_bytes = sum(entry.size_bytes for entry in listing.entries if is_image(entry.path))
    most = max(floor_bytes, ratio * archive_bytes)
    is_bomb = total_bytes - image_bytes > most or total_bytes > max(100 * floor_bytes, most)
    _refuse(is_bomb, f"{total_bytes} bytes unpacked, from {archive_bytes}: a zip bomb; {raise_it}")


def _refuse(is_refused: bool, message: str) -> None:  # noqa: FBT001 -- read as a sentence
    if is_refused:
        raise DatasetInvalidError(message)
