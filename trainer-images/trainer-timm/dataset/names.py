"""The names of an archive's files: their normal form, names to ignore, and names that lead outside the archive."""

import hashlib
import re
import unicodedata
from pathlib import PurePosixPath

from dataset.report import plain
from utils import DatasetInvalidError

NAME_LIMIT_BYTES, PATH_LIMIT_BYTES = 255, 1_000
_IGNORED = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_DRIVE = re.compile("[A-Za-z]:")
_SIMPLE = re.compile(r"\w[\w. -]*(?:/\w[\w. -]*)*", re.ASCII)


def is_ignored(path: str) -> bool:
    """Return whether an operating system or a tool wrote this file for itself."""
    return any(part.startswith(".") or part.lower() in _IGNORED for part in path.split("/"))


def checked_path(name: str) -> str:
    """Return the path of a file below the archive's root, in NFC; parts that are too long are shortened.

    Raises:
        DatasetInvalidError: the message names the file.
    """
    if _SIMPLE.fullmatch(name) and len(name) < NAME_LIMIT_BYTES:  # as almost all are
        return name
    name = name if name.isascii() else unicodedata.normalize("NFC", name)
    path = PurePosixPath(name.replace("\\", "/"))
    problem = _problem(name, path)
    if problem:
        raise DatasetInvalidError(f"{plain(name[:80])}: {problem}")
    if any(len(part.encode()) > NAME_LIMIT_BYTES for part in path.parts):
        path = PurePosixPath(*map(_shortened, path.parts))
    if len(str(path).encode()) > PATH_LIMIT_BYTES:
        raise DatasetInvalidError(f"{plain(name[:80])}…: a path too long for a file system")
    return str(path)


def _problem(name: str, path: PurePosixPath) -> str:
    if _CONTROL.search(name):
        return "control characters in a name"
    if path.is_absolute() or _DRIVE.match(name):
        return "an absolute path"
    if ".." in path.parts:
        return "a path that leads outside the archive"
    return "" if path.parts else "a file without a name"


def _shortened(part: str) -> str:
    """Return a name that a file system takes: an image and its label file, which share their stem, still do."""
    if len(part.encode()) <= NAME_LIMIT_BYTES:
        return part
    stem, suffix = PurePosixPath(part).stem, PurePosixPath(part).suffix
    digest = hashlib.sha256(stem.encode()).hexdigest()[:12]
    kept = stem.encode()[: NAME_LIMIT_BYTES - 40].decode(errors="ignore")
    return f"{kept}~{digest}{suffix[:20]}"
