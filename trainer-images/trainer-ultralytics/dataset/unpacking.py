"""Unpack an untrusted archive: only the wanted files, only below one folder, and within limits."""

import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dataset import names
from dataset.download import Archive
from dataset.limits import limit
from dataset.processes import spread
from dataset.report import Report
from utils import DatasetInvalidError

CHUNK_BYTES = 1 << 20
BATCH_FILES, BATCH_BYTES = 256, 4 << 20  # of the archive, for a process at a time
HEADER_LIMIT_BYTES = 30 + 2 * 65_535  # before a file in a zip: what is fixed, its name and its extra field


class File(NamedTuple):
    """A file to unpack."""

    path: PurePosixPath
    entry: zipfile.ZipInfo


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
        DatasetInvalidError: the message names the entry.
        ConfigInvalidError: a DATASET_…_LIMIT is not a number.
    """
    source = archive if isinstance(archive, Archive) else Archive(archive)
    selected = list[File]()
    try:
        with source, zipfile.ZipFile(source) as zipped:
            for path, entry in _checked_files(zipped.infolist(), source.size).items():
                if not wanted(path):
                    report.skip_other(path)
                    continue
                report.files, report.bytes = report.files + 1, report.bytes + entry.file_size
                selected.append(File(path, entry))
            selected.sort(key=lambda file: file.entry.header_offset)
            for parent in sorted({file.path.parent for file in selected}):
                (folder / parent).mkdir(parents=True, exist_ok=True)
            unpacking = _Unpacking(source, zipped, selected, folder, inspect)
            return dict(chain.from_iterable(spread(unpacking.unpack, unpacking.batches(), check)))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DatasetInvalidError(f"{source.path.name} is not a usable zip archive: {error}") from error


class _Unpacking(NamedTuple):
    archive: Archive
    zipped: zipfile.ZipFile
    files: list[File]  # in the order of the archive
    folder: Path
    inspect: Callable[[Path], Any]

    def batches(self) -> Iterator[range]:
        """Yield numbers of files that lie one after another, as soon as their bytes are there."""
        first = size_bytes = 0
        for stop, (_, entry) in enumerate(self.files, start=1):
            size_bytes += entry.compress_size
            if size_bytes >= BATCH_BYTES or stop - first >= BATCH_FILES or stop == len(self.files):
                end = entry.header_offset + HEADER_LIMIT_BYTES + entry.compress_size
                self.archive.wait_for(self.files[first].entry.header_offset, end)
                yield range(first, stop)
                first, size_bytes = stop, 0

    def unpack(self, numbers: range) -> list[tuple[Path, Any]]:
        """Unpack files, in a process that has what its parent has read, but must open the archive itself."""
        inspected = []
        with self.archive.path.open("rb") as self.zipped.fp:
            for file in (self.files[number] for number in numbers):
                path = self.folder / file.path
                with self.zipped.open(file.entry) as source, path.open("xb") as target:
                    shutil.copyfileobj(source, target, CHUNK_BYTES)  # zipfile reads no more than the declared size
                inspected.append((path, self.inspect(path)))
        return [(path, result) for path, result in inspected if result is not None]


def _checked_files(entries: list[zipfile.ZipInfo], archive_bytes: int) -> dict[PurePosixPath, zipfile.ZipInfo]:
    file_limit, bytes_limit = limit("DATASET_FILE_LIMIT"), limit("DATASET_BYTES_LIMIT")
    ratio, floor_bytes = limit("DATASET_RATIO_LIMIT"), limit("DATASET_RATIO_FLOOR_BYTES")
    total_bytes = sum(entry.file_size for entry in entries)
    _refuse(len(entries) > file_limit, f"{len(entries)} entries are more than {file_limit}")
    _refuse(total_bytes > bytes_limit, f"{total_bytes} bytes unpacked are more than {bytes_limit}")
    files: dict[PurePosixPath, zipfile.ZipInfo] = {}
    spellings: set[str] = set()
    for entry in entries:
        path = names.checked_path(entry.orig_filename, entry.filename)  # zipfile cuts a name at its first NUL
        if entry.is_dir() or names.is_ignored(path):
            continue
        times = entry.file_size // max(entry.compress_size, 1)
        _refuse(stat.S_IFMT(entry.external_attr >> 16) not in {0, stat.S_IFREG}, f"{path}: a symbolic link or device")
        _refuse(bool(entry.flag_bits & 1), f"{path}: encrypted")
        _refuse(entry.file_size > floor_bytes and times > ratio, f"{path}: {times} times larger unpacked: a zip bomb")
        spelling = unicodedata.normalize("NFC", str(path))
        _refuse(spelling in spellings, f"{path}: the archive holds this name twice")
        spellings.add(spelling)
        files[path] = entry
    # Of the whole archive, too: many small bombs, or entries that share their bytes, add up.
    is_bomb = total_bytes > max(floor_bytes, ratio * archive_bytes)
    _refuse(is_bomb, f"{total_bytes} bytes unpacked, from {archive_bytes}: a zip bomb")
    for path in files:
        folders = {unicodedata.normalize("NFC", str(parent)) for parent in path.parents}
        _refuse(not spellings.isdisjoint(folders), f"{path}: the archive holds its folder as a file, too")
    return files


def _refuse(is_refused: bool, message: str) -> None:  # noqa: FBT001 -- read as a sentence
    if is_refused:
        raise DatasetInvalidError(message)
