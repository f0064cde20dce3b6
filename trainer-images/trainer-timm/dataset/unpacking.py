"""Unpack an untrusted archive: only the wanted files, only below one folder, and within limits."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dataset.archives import CHUNK_BYTES, Entry, Listing, opened
from dataset.download import Archive
from dataset.images import BITMAP_SUFFIXES, is_image
from dataset.limits import limit
from dataset.processes import spread
from dataset.report import Report, listed
from utils import DatasetInvalidError

BATCH_FILES, BATCH_BYTES = 256, 4 << 20  # of the archive, for a process at a time
HEADER_LIMIT_BYTES = 30 + 2 * 65_535  # before a file in a zip: what is fixed, its name and its extra field
_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"}


def unpack(  # noqa: PLR0913, PLR0917 -- from where, to where, what, and who wants to know
    archive: Path | Archive,
    folder: Path,
    wanted: Callable[[PurePosixPath], bool],
    report: Report,
    check: Callable[[], None],
    inspect: Callable[[Path], Any] = lambda _path: None,
) -> dict[Path, Any]:
    """Unpack the wanted files below ``folder``; the report counts the others.

    All names are checked before anything is written. ``check`` is called often. ``inspect`` gets each file when it is
    unpacked, in one of several processes; what it returns is returned by path, unless it is None.

    Raises:
        DatasetInvalidError: the message names the archive's kind and the fix, or the entry.
        ConfigInvalidError: a setting of DATASET_… cannot be used.
    """
    source = archive if isinstance(archive, Archive) else Archive(archive)
    with source, opened(source, report) as listing:
        entries = _distinct(listing.entries, report)
        _check_sizes(listing, source.size)
        selected = _selected(entries, wanted, report)
        for parent in sorted({entry.path.parent for entry in selected}):
            (folder / parent).mkdir(parents=True, exist_ok=True)
        unpacking = _Unpacking(source, listing, selected, folder, inspect)
        if listing.zipped is None:
            unpacking.write_all(check)
        return dict(chain.from_iterable(spread(unpacking.unpack, unpacking.batches(), check)))


class _Unpacking(NamedTuple):
    archive: Archive
    listing: Listing
    entries: list[Entry]  # in the order of the archive
    folder: Path
    inspect: Callable[[Path], Any]

    def batches(self) -> Iterator[range]:
        """Yield numbers of files that lie one after another, as soon as their bytes are there."""
        first = size_bytes = 0
        for stop, entry in enumerate(self.entries, start=1):
            packed_bytes = entry.packed_bytes or 0
            size_bytes += packed_bytes
            if size_bytes >= BATCH_BYTES or stop - first >= BATCH_FILES or stop == len(self.entries):
                if self.listing.zipped is not None:
                    end = entry.offset + HEADER_LIMIT_BYTES + packed_bytes
                    self.archive.wait_for(self.entries[first].offset, end)
                yield range(first, stop)
                first, size_bytes = stop, 0

    def unpack(self, numbers: range) -> list[tuple[Path, Any]]:
        """Unpack and inspect files of a zip, or inspect files of a tar, in a process that has what its parent read."""
        entries = [self.entries[number] for number in numbers]
        if self.listing.zipped is not None:
            with self.archive.path.open(
                "rb"
            ) as self.listing.zipped.fp:  # of its own: processes share a position in the file
                for entry in entries:
                    self.write(entry)
        results = [(path, self.inspect(path)) for path in (self.folder / entry.path for entry in entries)]
        return [(path, result) for path, result in results if result is not None]

    def write_all(self, check: Callable[[], None]) -> None:
        """Unpack a tar, from its beginning to its end."""
        for entry in self.entries:
            check()
            self.write(entry)

    def write(self, entry: Entry) -> None:
        """Unpack one file; an archive's reader returns no more than the declared size."""
        with self.listing.reader(entry.member) as source, (self.folder / entry.path).open("xb") as target:
            shutil.copyfileobj(source, target, CHUNK_BYTES)


def _selected(entries: Iterable[Entry], wanted: Callable[[PurePosixPath], bool], report: Report) -> list[Entry]:
    """Return the wanted files in the order of the archive; refuse an archive of archives without images."""
    selected, inner = list[Entry](), list[str]()
    for entry in entries:
        if wanted(entry.path):
            selected.append(entry)
            report.files, report.bytes = report.files + 1, report.bytes + entry.size_bytes
        else:
            report.skip_other(entry.path)
            inner += [entry.path.name] if entry.path.suffix.lower() in _ARCHIVES else []
    if inner and not any(is_image(entry.path) for entry in selected):
        raise DatasetInvalidError(f"the archive holds another one, {listed(inner, 3)}, and no images: upload that one")
    return sorted(selected, key=lambda entry: entry.offset)


def _distinct(entries: Iterable[Entry], report: Report) -> list[Entry]:
    """Return the files by name; of a name that occurs twice the last one, as every tool unpacks it."""
    files, twice = dict[PurePosixPath, Entry](), list[str]()
    for entry in entries:
        if files.pop(entry.path, None):
            twice.append(str(entry.path))
        files[entry.path] = entry
    if twice:
        report.guess("names", f"of files with the same name the last is used: {listed(twice, 3)}")
    for folder in {path.parent for path in files}:
        for parent in (folder, *folder.parents):
            _refuse(parent in files, f"{parent}/: the archive holds this folder as a file, too")
    return list(files.values())


def _check_sizes(listing: Listing, archive_bytes: int) -> None:
    """Refuse a bomb, also one of many small files, or of entries that share their bytes.

    Bitmaps of one colour are no bomb: an image that is not compressed may get a thousand times smaller.
    """
    bytes_limit = limit("DATASET_BYTES_LIMIT")
    ratio, floor_bytes = limit("DATASET_RATIO_LIMIT"), limit("DATASET_RATIO_FLOOR_BYTES")
    raise_it = "raise DATASET_RATIO_LIMIT or DATASET_RATIO_FLOOR_BYTES if it is none"
    total_bytes = listing.total_bytes
    _refuse(
        total_bytes > bytes_limit, f"{total_bytes} bytes unpacked are more than {bytes_limit} (DATASET_BYTES_LIMIT)"
    )
    for entry in listing.entries:
        times = entry.size_bytes // max(entry.packed_bytes, 1) if entry.packed_bytes is not None else 0
        is_bitmap = entry.path.suffix.lower() in BITMAP_SUFFIXES
        is_bomb = entry.size_bytes > floor_bytes and times > ratio and not is_bitmap
        _refuse(is_bomb, f"{entry.path}: {times} times larger unpacked: a zip bomb; {raise_it}")
    image_bytes = sum(entry.size_bytes for entry in listing.entries if is_image(entry.path))
    most = max(floor_bytes, ratio * archive_bytes)
    is_bomb = total_bytes - image_bytes > most or total_bytes > max(100 * floor_bytes, most)
    _refuse(is_bomb, f"{total_bytes} bytes unpacked, from {archive_bytes}: a zip bomb; {raise_it}")


def _refuse(is_refused: bool, message: str) -> None:  # noqa: FBT001 -- read as a sentence
    if is_refused:
        raise DatasetInvalidError(message)
