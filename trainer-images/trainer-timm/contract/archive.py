"""Unpack a stranger's zip archive: only what is wanted, only below one folder, only so much of it."""

import os
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from contract.settings import ConfigInvalidError, DatasetInvalidError

CHUNK_BYTES = 1 << 20
NAME_LIMIT_BYTES = 255
PATH_LIMIT_BYTES = 1_000
_IGNORED = re.compile(r"(^|/)(__MACOSX/|\.DS_Store$|Thumbs\.db$|desktop\.ini$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Limits:
    """What an archive may hold; each can be set by the variable of the same name in capitals."""

    dataset_file_limit: int = 1_000_000
    dataset_bytes_limit: int = 200_000_000_000
    dataset_ratio_limit: int = 200
    #: a file below this is no bomb, however well it was compressed
    dataset_ratio_floor_bytes: int = 10_000_000

    @classmethod
    def from_environ(cls, env: Mapping[str, str]) -> "Limits":
        """Raises: ConfigInvalidError."""
        return cls(**{name: limit(env, name.upper(), default) for name, default in vars(cls()).items()})


def limit(env: Mapping[str, str], name: str, default: int) -> int:
    """Return a limit that a variable may set. Raises: ConfigInvalidError."""
    text = env.get(name) or str(default)
    if not text.isdecimal():
        raise ConfigInvalidError(f"{name}={text!r} cannot be used: it must be a whole number")
    return int(text)


def unpack(archive: Path, folder: Path, wanted: Callable[[PurePosixPath], bool], check: Callable[[], None]) -> int:
    """Unpack the files that are wanted below ``folder``; return how many were left out.

    Nothing is written before all names have been found harmless. ``check`` is called between files.

    Raises:
        DatasetInvalidError: the message names the entry.
    """
    limits = Limits.from_environ(os.environ)
    try:
        with zipfile.ZipFile(archive) as zipped:
            files = _harmless(zipped.infolist(), archive.stat().st_size, limits)
            chosen = {path: entry for path, entry in files.items() if wanted(path)}
            for path, entry in chosen.items():
                check()
                _extract(zipped, entry, folder / path)
    except zipfile.BadZipFile as error:
        raise DatasetInvalidError(f"{archive.name} is no usable zip archive: {error}") from error
    except (UnicodeDecodeError, EOFError, ValueError) as error:
        raise DatasetInvalidError(f"{archive.name} is no usable zip archive: {type(error).__name__}") from error
    return len(files) - len(chosen)


def _harmless(
    entries: list[zipfile.ZipInfo], archive_bytes: int, limits: Limits
) -> dict[PurePosixPath, zipfile.ZipInfo]:
    if len(entries) > limits.dataset_file_limit:
        raise DatasetInvalidError(f"{len(entries)} entries are more than {limits.dataset_file_limit}")
    total_bytes = sum(entry.file_size for entry in entries)
    if total_bytes > limits.dataset_bytes_limit:
        raise DatasetInvalidError(f"{total_bytes} bytes unpacked are more than {limits.dataset_bytes_limit}")
    files: dict[PurePosixPath, zipfile.ZipInfo] = {}
    seen: set[str] = set()
    for entry in entries:
        path = _path(entry)
        if entry.is_dir() or _IGNORED.search(str(path)):
            continue
        _check_content(entry, limits)
        spelling = unicodedata.normalize("NFC", str(path))
        if spelling in seen:
            raise DatasetInvalidError(f"{path}: the archive holds this name twice")
        seen.add(spelling)
        files[path] = entry
    # Against the whole archive: many small bombs are a large one, and so are entries that share their bytes.
    if total_bytes > max(limits.dataset_ratio_floor_bytes, limits.dataset_ratio_limit * archive_bytes):
        raise DatasetInvalidError(f"{total_bytes} bytes unpacked, from {archive_bytes}; that is a bomb")
    for path in files:
        if not seen.isdisjoint(unicodedata.normalize("NFC", str(parent)) for parent in path.parents):
            raise DatasetInvalidError(f"{path}: the archive holds its folder as a file, too")
    return files


def _path(entry: zipfile.ZipInfo) -> PurePosixPath:
    # orig_filename: zipfile itself cuts a name at its first NUL.
    if _CONTROL.search(entry.orig_filename):
        raise DatasetInvalidError(f"{entry.orig_filename!r}: control characters in a name")
    name = entry.filename.replace("\\", "/")  # some Windows tools write these
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        raise DatasetInvalidError(f"{entry.filename!r}: an absolute path")
    path = PurePosixPath(name)
    if ".." in path.parts:
        raise DatasetInvalidError(f"{entry.filename!r}: a path that leads outside of the archive")
    longest_bytes = max((len(part.encode()) for part in path.parts), default=0)
    if longest_bytes > NAME_LIMIT_BYTES or len(name.encode()) > PATH_LIMIT_BYTES or not path.parts:
        raise DatasetInvalidError(f"{entry.filename[:80]!r}…: a name that no file system takes")
    return path


def _check_content(entry: zipfile.ZipInfo, limits: Limits) -> None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in {0, stat.S_IFREG}:
        raise DatasetInvalidError(f"{entry.filename}: a symbolic link or device, not a file")
    if entry.flag_bits & 0x1:
        raise DatasetInvalidError(f"{entry.filename}: encrypted")
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}:
        raise DatasetInvalidError(f"{entry.filename}: compressed in a way that is not known here")
    ratio = entry.file_size / max(entry.compress_size, 1)
    if entry.file_size > limits.dataset_ratio_floor_bytes and ratio > limits.dataset_ratio_limit:
        raise DatasetInvalidError(f"{entry.filename}: {ratio:.0f} times larger unpacked; that is a bomb")


def _extract(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    left_bytes = entry.file_size
    try:
        with zipped.open(entry) as source, path.open("xb") as target:
            while chunk := source.read(CHUNK_BYTES):
                left_bytes -= len(chunk)
                if left_bytes < 0:
                    raise DatasetInvalidError(f"{entry.filename}: larger than the archive says")
                target.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DatasetInvalidError(f"{entry.filename}: cannot be unpacked: {error}") from error
