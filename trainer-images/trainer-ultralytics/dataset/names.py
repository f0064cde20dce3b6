"""The names of an archive's entries: which are ignored, and which lead outside."""

import re
from pathlib import PurePosixPath

from utils import DatasetInvalidError

NAME_LIMIT_BYTES, PATH_LIMIT_BYTES = 255, 1_000
_IGNORED = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def is_ignored(path: PurePosixPath) -> bool:
    """Return whether an operating system or a tool wrote this file for itself."""
    return any(part.startswith(".") or part.casefold() in _IGNORED for part in path.parts)


def checked_path(raw: str, name: str) -> PurePosixPath:
    """Return the path of an entry below the archive's root; ``raw`` is its name as stored.

    Raises:
        DatasetInvalidError: the message names the entry.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    longest_bytes = max((len(part.encode()) for part in path.parts), default=NAME_LIMIT_BYTES + 1)
    _refuse(bool(_CONTROL.search(raw)), f"{raw!r}: control characters in a name")
    _refuse(path.is_absolute() or bool(re.match("[A-Za-z]:", name)), f"{raw!r}: an absolute path")
    _refuse(".." in path.parts, f"{raw!r}: a path that leads outside the archive")
    is_long = longest_bytes > NAME_LIMIT_BYTES or len(str(path).encode()) > PATH_LIMIT_BYTES
    _refuse(is_long, f"{raw[:80]!r}…: a name too long for a file system")
    return path


def _refuse(is_refused: bool, message: str) -> None:  # noqa: FBT001 -- read as a sentence
    if is_refused:
        raise DatasetInvalidError(message)
