"""Look at a dataset on this machine: what can be seen cheaply, before gigabytes are uploaded.

The trainer checks a dataset completely (``stoker check``); this only finds what can never become a training.
"""

import os
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from client.errors import DATASET, CallError, invalid

IMAGES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".pfm", ".mpo"}
)
#: files that describe objects in images, of some format, and files that say what a dataset is
_DESCRIBING = frozenset({".txt", ".yaml", ".yml", ".json", ".jsonl", ".xml", ".csv", ".data", ".names"})
_ABOUT = ("readme", "licen", "changelog")
_OTHER_ARCHIVES = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst")
#: what operating systems and tools leave in folders
_IGNORED_NAMES = frozenset(
    {".ds_store", "thumbs.db", "desktop.ini", "__macosx", ".git", "__pycache__", ".ipynb_checkpoints"}
)
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


class Member(NamedTuple):
    """A file of a dataset, by its path in the archive."""

    name: str
    path: Path
    bytes: int
    modified_ns: int


def dataset_name(path: Path) -> str:
    """Return the name of a folder's or zip file's dataset: its own name, without ``.zip``."""
    name = path.resolve().name
    plain = name[:-4] if name.lower().endswith(".zip") and path.is_file() else name
    return unicodedata.normalize("NFC", plain)


def summary(path: Path) -> str:
    """Return what the dataset seems to be, in one line.

    Raises:
        CallError: it does not exist, is no zip file, or has no images; the message says what to do.
    """
    return f"{path}: {_described(list(names(path)), path)}"


def names(path: Path) -> Iterable[str]:
    """Return the paths of a dataset's files. Raises: as ``summary``."""
    if not path.exists():
        raise invalid(
            f"{path}: there is no such folder or file; for a dataset that is uploaded already: "
            f"stoker submit {path.name} …"
        )
    return (member.name for member in members(path)) if path.is_dir() else _names_in_zip(path)


def members(folder: Path) -> Iterator[Member]:
    """Yield the files of a folder in a fixed order. Links are followed, and never twice into one folder."""
    yield from sorted(_walk(folder, "", set()))


def _walk(folder: Path, prefix: str, entered: set[tuple[int, int]]) -> Iterator[Member]:
    status = folder.stat()
    if (status.st_dev, status.st_ino) in entered and status.st_ino:
        return
    entered = entered | {(status.st_dev, status.st_ino)}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower() in _IGNORED_NAMES:
                continue
            name = f"{prefix}{entry.name}"
            if entry.is_dir():
                yield from _walk(Path(entry.path), f"{name}/", entered)
            elif entry.is_file():
                details = entry.stat()
                yield Member(name, Path(entry.path), details.st_size, details.st_mtime_ns)


def _names_in_zip(path: Path) -> list[str]:
    if path.name.lower().endswith(_OTHER_ARCHIVES):
        raise _refused(path, "this is no zip file: unpack it, and name the folder")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    except zipfile.BadZipFile as error:
        raise _refused(path, f"this is no complete zip file ({error}): zip it again, or name its folder") from error
    except OSError as error:
        raise invalid(f"{path} cannot be read: {error.strerror}") from error
    if any(entry.flag_bits & 1 for entry in entries):
        raise _refused(path, "this zip file has a password: zip it again without one")
    return [entry.filename for entry in entries]


def _described(files: list[str], path: Path) -> str:
    paths = [PurePosixPath(name) for name in files]
    images = [name for name in paths if name.suffix.lower() in IMAGES and "__MACOSX" not in name.parts]
    if not images:
        inner = [name for name in files if name.lower().endswith((".zip", *_OTHER_ARCHIVES))]
        if inner:
            raise _refused(path, f"it contains only archives ({inner[0]}): unpack them first")
        kinds = ", ".join(suffix or "no suffix" for suffix, _ in Counter(p.suffix for p in paths).most_common(3))
        raise _refused(path, f"there are no images in it{f' (but files with {kinds})' if kinds else ''}")
    labels = sum(name.suffix.lower() == ".txt" and "labels" in name.parts for name in paths)
    if labels or any(name.name.lower() in {"data.yaml", "data.yml"} for name in paths):
        return f"{len(images):,} images and {labels:,} label files, it seems for detection"
    classes = {name.parts[-2] for name in images if len(name.parts) > 1} - _SPLITS
    some = f" in {len(classes):,} folders: {_some(sorted(classes))}" if classes else ""
    return f"{len(images):,} images{some}"


def framework_of(path: Path) -> str:
    """Return the trainer that a dataset seems to be for: images in folders, and nothing else, are classes.

    Raises:
        CallError: as ``summary``.
    """
    summary(path)
    files = [PurePosixPath(name) for name in names(path)]
    described = [file for file in files if file.suffix.lower() in _DESCRIBING and "__MACOSX" not in file.parts]
    return "ultralytics" if any(not file.name.lower().startswith(_ABOUT) for file in described) else "timm"


def _some(words: list[str], limit: int = 4) -> str:
    return ", ".join(words[:limit]) + (f" and {len(words) - limit} more" if len(words) > limit else "")


def _refused(path: Path, why: str) -> CallError:
    return CallError(f"{path}: {why}", {"title": "dataset invalid"}, exit_code=DATASET)
