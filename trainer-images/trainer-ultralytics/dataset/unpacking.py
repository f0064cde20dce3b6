"""Unpack an untrusted archive: only the wanted files, only below one folder, and within limits."""

import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from dataset import names
from dataset.limits import limit
from dataset.report import Report
from utils import DatasetInvalidError

CHUNK_BYTES = 1 << 20


def unpack(
    archive: Path, folder: Path, wanted: Callable[[PurePosixPath], bool], report: Report, check: Callable[[], None]
) -> None:
    """Unpack the wanted files below ``folder``; the report counts the others.

    All names are checked before anything is written. ``check`` is called before each file.

    Raises:
        DatasetInvalidError: the message names the entry.
        ConfigInvalidError: a DATASET_…_LIMIT is not a number.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            files = _checked_files(zipped.infolist(), archive.stat().st_size)
            for path, entry in files.items():
                check()
                if not wanted(path):
                    report.skip_other(path)
                    continue
                report.files, report.bytes = report.files + 1, report.bytes + entry.file_size
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                with zipped.open(entry) as source, (folder / path).open("xb") as target:
                    shutil.copyfileobj(source, target, CHUNK_BYTES)  # zipfile reads no more than the declared size
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DatasetInvalidError(f"{archive.name} is not a usable zip archive: {error}") from error


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
