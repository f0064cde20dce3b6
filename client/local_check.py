"""Inspect a dataset on this machine cheaply, before gigabytes are uploaded.

The trainer checks a dataset completely (``stoker check``); this only finds what can never become a training.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from client import fields
from client.archives import ANY_SUFFIXES, Listing, listed, refused, stem
from client.errors import CallError, invalid

IMAGES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".pfm", ".mpo"}
)
#: files that describe objects in images, of some format, and files that say what a dataset is
_DESCRIBING = frozenset({".txt", ".yaml", ".yml", ".json", ".jsonl", ".xml", ".csv", ".data", ".names"})
_ABOUT = ("readme", "licen", "changelog")
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


class Content(NamedTuple):
    """The content of a dataset, judged by the names of its files."""

    images: list[PurePosixPath]
    #: files that may describe objects in images
    describing: list[PurePosixPath]
    #: the folders that hold images, but for those of splits
    folders: list[str]
    is_complete: bool


def dataset_name(path: Path) -> str:
    """Return the name of a folder's or an archive's dataset: its own name, without ``.zip`` or ``.tar.gz``."""
    name = path.resolve().name
    return unicodedata.normalize("NFC", stem(name) if path.is_file() else name)


def is_image(name: str) -> bool:
    """Return whether a file is an image, by its name."""
    return PurePosixPath(name).suffix.lower() in IMAGES


def looks_like_path(word: str) -> bool:
    """Return whether a word that names no existing file looks like a path rather than a dataset's name."""
    return "/" in word or "\\" in word or word.startswith(("~", ".")) or word.lower().endswith((*ANY_SUFFIXES, *IMAGES))


def missing(path: Path, hint: str = "") -> CallError:
    """Return the error for a path that does not exist, with the nearest name in its folder.

    ``hint``: what else the user may have meant, if no name is near.
    """
    try:
        names = {name.casefold(): name for name in os.listdir(path.parent)}  # noqa: PTH208 -- names are enough
    except OSError:
        return invalid(f"{path}: there is no folder {path.parent}")
    near = fields.nearest(path.name.casefold(), names)
    fix = f"; did you mean {path.parent / names[near]}?" if near else hint
    return invalid(f"{path}: there is no such folder or file{fix}")


def summary(path: Path) -> str:
    """Describe the detected kind of a dataset in one line.

    Raises:
        CallError: it does not exist, is no archive, or has no images; the message says what to do.
    """
    dataset = content(path)
    count = f"{'' if dataset.is_complete else 'at least '}{len(dataset.images):,} images"
    labels = sum(name.suffix.lower() == ".txt" and "labels" in name.parts for name in dataset.describing)
    if labels or any(name.name.lower() in {"data.yaml", "data.yml"} for name in dataset.describing):
        return f"{path}: {count} and {labels:,} label files, it seems for detection"
    some = f" in {len(dataset.folders):,} folders: {_some(dataset.folders)}" if dataset.folders else ""
    return f"{path}: {count}{some}"


def content(path: Path) -> Content:
    """Return the content, judged by file names. Raises: as ``summary``."""
    if not path.exists():
        name = "" if looks_like_path(path.name) else f"; for a dataset that is uploaded: stoker submit {path.name} …"
        raise missing(path, name)
    if path.is_file() and is_image(path.name):
        raise refused(path, "this is one image: name the folder of all images")
    listing = Listing([member.name for member in members(path)]) if path.is_dir() else listed(path)
    paths = [PurePosixPath(name.replace("\\", "/")) for name in listing.names]
    paths = [each for each in paths if "__MACOSX" not in each.parts]
    images = [each for each in paths if is_image(each.name)]
    if not images and listing.is_complete:
        raise _without_images(path, paths)
    describing = [each for each in paths if each.suffix.lower() in _DESCRIBING]
    describing = [each for each in describing if not each.name.lower().startswith(_ABOUT)]
    folders = {each.parts[-2] for each in images if len(each.parts) > 1}
    return Content(
        images, describing, sorted(each for each in folders if each.lower() not in _SPLITS), listing.is_complete
    )


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


def _without_images(path: Path, paths: list[PurePosixPath]) -> CallError:
    inner = [str(each) for each in paths if each.name.lower().endswith(ANY_SUFFIXES)]
    if inner:
        return refused(path, f"it contains only archives ({inner[0]}): unpack them first")
    kinds = ", ".join(suffix or "no suffix" for suffix, _ in Counter(each.suffix for each in paths).most_common(3))
    return refused(path, f"there are no images in it{f' (but files with {kinds})' if kinds else ''}")


def framework_of(path: Path) -> str:
    """Return the trainer that a dataset seems to be for: images in folders, and nothing else, are classes.

    Raises:
        CallError: as ``summary``.
    """
    return "ultralytics" if content(path).describing else "timm"


def _some(words: list[str], limit: int = 4) -> str:
    return ", ".join(words[:limit]) + (f" and {len(words) - limit} more" if len(words) > limit else "")
