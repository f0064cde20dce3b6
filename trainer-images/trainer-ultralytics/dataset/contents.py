"""The unpacked files of a dataset, looked up by the names that the dataset's own files use.

A dataset often names its files as on its author's machine: by absolute paths, with backslashes, in another case, or in
another normal form of Unicode. Such a name is matched by its longest tail that is in the archive.
"""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from dataset.report import Report
from utils import DatasetInvalidError

#: the names of folders of each split
SPLIT_WORDS = {
    "train": {"train", "training", "trn"},
    "val": {"val", "valid", "validation", "validate", "dev", "eval"},
    "test": {"test", "testing"},
}
Parts = tuple[str, ...]


def split_of(word: str) -> str:
    """Return the split that a folder's name stands for; empty if none."""
    folded = word.casefold()
    return next((split for split, words in SPLIT_WORDS.items() if folded in words), "")


def normal(text: str) -> str:
    """Return the form in which names are compared."""
    if text.isascii() and "%" not in text:  # as almost all are
        return text.lower()
    return unicodedata.normalize("NFC", unquote(text)).casefold()


def parts_of(name: str) -> Parts:
    """Return the parts of a name in any notation, without drive, ``.`` and ``..``."""
    parts: list[str] = []
    for part in name.strip().strip("\"'").replace("\\", "/").split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."} and not (len(part) == 2 and part[1] == ":"):  # noqa: PLR2004 -- a drive
            parts.append(part)
    return tuple(parts)


def are_alone(names: Iterable[str]) -> bool:
    """Return whether no two of these names of images end in the same file name."""
    last = [parts[-1] for parts in {parts_of(normal(name)) for name in names} if parts]
    return len(set(last)) == len(last)


class Contents:
    """The files below a folder: its images, and everything else."""

    def __init__(self, root: Path, image_suffixes: Iterable[str], report: Report) -> None:
        self.root, self.report = root, report
        self._start = len(str(root)) + 1  # of names within paths
        suffixes = tuple(image_suffixes)
        self.images: list[Path] = []
        self._others: list[str] = []  # by name: a dataset has a file of labels for each image
        self._by_tail = defaultdict[str, list[tuple[str, Path]]](list)
        for folder, name in _files(root):
            if name.lower().endswith(suffixes):
                self.images.append(Path(folder, name))
            else:
                self._others.append(f"{folder}/{name}"[self._start :])

    def name(self, path: Path) -> str:
        """Return a file's name as its owner knows it."""
        return str(path)[self._start :]

    def names(self, *suffixes: str) -> list[str]:
        """Return the names of the files, except images, with these endings, in any case."""
        return [name for name in self._others if name.lower().endswith(suffixes)]

    def named(self, *suffixes: str) -> list[Path]:
        """Return the files, except images, with these endings, in any case."""
        return [self.root / name for name in self.names(*suffixes)]

    def in_folder(self, folder: Path) -> list[Path]:
        """Return the images below a folder."""
        start = f"{folder}/"
        return [image for image in self.images if str(image).startswith(start)]

    @cached_property
    def image_folders(self) -> list[Path]:
        """All folders with images in or below them; the root is the first."""
        names = {self.name(image).rpartition("/")[0] for image in self.images}
        folders = {parent for name in names for parent in (PurePosixPath(name), *PurePosixPath(name).parents)}
        return sorted(self.root / folder for folder in folders)

    @cached_property
    def _images_by_name(self) -> dict[str, list[Path]]:
        return _by_last_part(self.images)

    @cached_property
    def _images_by_stem(self) -> dict[str, list[Path]]:
        by_stem = defaultdict[str, list[Path]](list)
        for image in self.images:
            by_stem[normal(image.stem)].append(image)
        return by_stem

    @cached_property
    def _folders_by_name(self) -> dict[str, list[Path]]:
        return _by_last_part(self.image_folders[1:])

    @cached_property
    def _others_by_name(self) -> dict[str, list[Path]]:
        return _by_last_part(self.named(""))

    def image(self, name: str, *bases: Path, what: str, is_alone: bool = False) -> Path | None:
        """Return the image that a dataset names. Raises: DatasetInvalidError, if two images may be meant.

        ``is_alone``: the dataset names no other image in another folder, but with the same file name. Then its folders
        may all be those of the author's machine, but for the words for splits.
        """
        image = self._match(name, bases, self._images_by_name, what)
        parts = parts_of(name)
        if image is not None or not is_alone or not parts:
            return image
        image = self._match(parts[-1], bases, self._images_by_name, what)
        words = [split for split in map(split_of, parts[:-1]) if split]
        is_other = image is not None and words and self.split_words(image)[-1:] not in ([], words[-1:])
        return None if is_other else image

    def with_stem(self, path: Path) -> Path | None:
        """Return the image that has a file's name but for the suffix: beside it, or the only one in the archive."""
        stem = normal(path.stem)
        images = self._images_by_stem.get(stem, [])
        beside = [image for image in images if image.parent == path.parent]
        same_split = [image for image in images if self.split_words(image) == self.split_words(path)]
        return next((found[0] for found in (beside, images, same_split) if len(found) == 1), None)

    def split_words(self, path: Path) -> list[str]:
        """Return the splits that a file's folders are named after, the innermost last."""
        return [split for split in map(split_of, self.name(path).split("/")[:-1]) if split]

    def other(self, name: str, *bases: Path, what: str) -> Path | None:
        """Return the file, but no image, that a dataset names. Raises: DatasetInvalidError, if two may be meant."""
        return self._match(name, bases, self._others_by_name, what)

    def folder(self, name: str, *bases: Path, what: str) -> Path | None:
        """Return the folder of images that a dataset names. Raises: DatasetInvalidError, if two may be meant."""
        if not parts_of(name):
            return next(iter(bases), self.root)
        return self._match(name, bases, self._folders_by_name, what) or self._synonym(name, what)

    def _match(self, name: str, bases: Iterable[Path], by_name: Mapping[str, list[Path]], what: str) -> Path | None:
        parts = parts_of(name)
        if not parts:
            return None
        places = (*bases, self.root)
        candidates = by_name.get(normal(parts[-1]), [])
        for place in places if candidates else ():
            for path in (Path(os.path.normpath(place / name.replace("\\", "/"))), place.joinpath(*parts)):
                if path in candidates:
                    return path
        best = _longest_tail(candidates, places, parts, is_split_kept=by_name is self._folders_by_name)
        if len(best) > 1:
            names = " or ".join([self.name(path) for path in best[:3]])
            raise DatasetInvalidError(f"{what}: {name} may be {names}: write the path from the archive's root")
        if best and parts != ("data", *best[0].relative_to(self.root).parts):  # Darknet's folder, which CVAT leaves out
            self._by_tail[what].append((name, best[0]))
        return best[0] if best else None

    def report_tails(self) -> None:
        """Report the names that were matched by their tails only."""
        for what, pairs in self._by_tail.items():
            name, path = pairs[0]
            more = f", and {len(pairs) - 1} more alike" if len(pairs) > 1 else ""
            self.report.guess("paths", f"{what}: {name} was read as {self.name(path)}{more}")

    def _synonym(self, name: str, what: str) -> Path | None:
        """Return the one folder that differs by its word for the split only, such as valid/ for val/."""
        parts = tuple(split_of(part) or normal(part) for part in parts_of(name))
        matching = [
            folder
            for folder in self.image_folders[1:]
            if tuple(split_of(part) or normal(part) for part in folder.relative_to(self.root).parts) == parts
        ]
        if len(matching) != 1:
            return None
        self.report.guess("split names", f"{what}: {name} is not in the archive; {self.name(matching[0])} was used")
        return matching[0]


def _files(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the folder and the name of each file, sorted."""
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            yield folder, name


def _by_last_part(paths: Iterable[Path]) -> dict[str, list[Path]]:
    by_name = defaultdict[str, list[Path]](list)
    for path in paths:
        by_name[normal(path.name)].append(path)
    return by_name


def _longest_tail(
    candidates: Iterable[Path], places: Iterable[Path], parts: Parts, *, is_split_kept: bool
) -> list[Path]:
    """Return the paths that end as the name does, or as whose whole path the name ends: the longest such tails.

    Of these only those in the name's own spelling, if there are any. A folder of another split is never meant: what is
    cut off may not name one then.
    """
    wanted = [normal(part) for part in parts]
    tails: dict[Path, int] = {}
    for path in candidates:
        for place in places:
            if path.is_relative_to(place):
                own = [normal(part) for part in path.relative_to(place).parts]
                count = min(len(own), len(wanted))
                is_cut = is_split_kept and any(map(split_of, own[:-count] + wanted[:-count]))
                if own[-count:] == wanted[-count:] and not is_cut:
                    tails[path] = max(count, tails.get(path, 0))
    best = [path for path, count in tails.items() if count == max(tails.values())]
    spelled = [path for path in best if path.parts[-tails[path] :] == parts[-tails[path] :]]
    return spelled or best
