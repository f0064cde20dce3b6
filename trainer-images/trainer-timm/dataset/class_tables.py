"""Tables of classes, as competitions and Hugging Face have them: a .csv with a column of images and one of classes.

Folders of classes come first. If a table and folders name different classes, the dataset is refused, and the
message names both.
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from dataset import class_folders, decoding, delimited
from dataset.class_folders import Data, Files, Splits, split_of
from dataset.delimited import is_number
from dataset.images import is_image
from dataset.limits import encoding
from dataset.report import Report, Split, listed
from utils import DatasetInvalidError

SUFFIXES = {".csv", ".tsv"}
LIMIT_BYTES = 500_000_000
NAME_LIMIT_BYTES = 200
SHARE = 0.5  # of its rows, or of the images: a table that names fewer images has another subject
FEWEST = 2
USUAL = {
    *("breed", "category", "class", "class_id", "class_name", "classes", "classid", "classname", "diagnosis", "label"),
    *("label_id", "label_name", "labels", "species", "target"),
}
SPLITS = {"partition", "set", "split", "subset", "usage"}
FLAGS = {"0", "1", "0.0", "1.0"}
Table = list[list[str]]


class Labelled(NamedTuple):
    """The images that a table names, with their class and split."""

    source: str  # the column and the table, for messages
    classes: dict[Path, str]
    splits: dict[Path, str]


class UnclearError(Exception):
    """A table names images, but not clearly their classes."""


def is_wanted(path: PurePath) -> bool:
    """Return whether a file may be an image or a table."""
    return is_image(path) or path.suffix.lower() in SUFFIXES


def arranged(paths: Iterable[Path], root: Path, report: Report, *, val_share: float, seed: int) -> Data:
    """Return the samples below a folder, by its folders of classes or by a table. Raises: DatasetInvalidError."""
    paths = list(paths)
    images = [path for path in paths if is_image(path)]
    tables = [path for path in paths if path.suffix.lower() in SUFFIXES and "submission" not in path.name.lower()]
    labelled, unclear = _labelled(tables, images, root, report) if images else ([], "")
    if not labelled and not unclear:
        return class_folders.arranged(images, root, report, val_share=val_share, seed=seed)
    try:
        folders = class_folders.arranged(images, root, Report(report.dataset), val_share=val_share, seed=seed)
    except DatasetInvalidError:
        folders = None
    if folders and not labelled:
        return class_folders.arranged(images, root, report, val_share=val_share, seed=seed)
    if not labelled:
        report.refuse("classes", unclear)
        report.check()
    classes = _merged(labelled, report)
    if folders and _are_alike(folders, classes):
        return class_folders.arranged(images, root, report, val_share=val_share, seed=seed)
    source = labelled[0].source
    if folders:
        either = f"the classes may be the folders {listed([f'{name}/' for name in folders.classes])}, or {source}"
        report.refuse("classes", f"{either}: leave that table out, or put the images into one folder")
        report.check()
    report.guess("classes", f"there are no folders of classes; the classes are {source}")
    splits = _splits(classes, {path: split for one in labelled for path, split in one.splits.items()}, root, report)
    for path in sorted(set(images) - classes.keys()):
        report.skip("images without a class in the table", str(path.relative_to(root)), "not used")
    return class_folders.of_splits(splits, root, report, val_share=val_share, seed=seed)


def _labelled(tables: Sequence[Path], images: Sequence[Path], root: Path, report: Report) -> tuple[list[Labelled], str]:
    """Return the images that the tables name, and the error of an ambiguous table."""
    labelled, unclear, index = list[Labelled](), "", _Index(images, root)
    for path in tables:
        try:
            one = _read(path, index, root, report)
        except UnclearError as error:
            unclear = unclear or f"{path.relative_to(root)} {error}"
            continue
        if one is not None:
            labelled.append(one)
    return labelled, unclear


class _Index:
    """The images by their names, with or without suffix."""

    def __init__(self, images: Sequence[Path], root: Path) -> None:
        self.count = len(images)
        self._names = {path: path.relative_to(root).as_posix().casefold() for path in images}
        self._by_name = defaultdict[str, list[Path]](list)
        for path in images:
            for name in {path.name.casefold(), path.stem.casefold()}:
                self._by_name[name].append(path)

    def find(self, value: str, beside: Path) -> Path | None:
        """Return the image of this name: the one that all its folders fit, or the one below the table's folder."""
        name = value.strip().replace("\\", "/").casefold()
        paths = self._by_name.get(name.rpartition("/")[2], [])
        if len(paths) > 1 and "/" in name:
            ends = (f"/{name.lstrip('./')}", f"/{name.lstrip('./')}.")
            paths = [path for path in paths if any(f"/{self._names[path]}.".find(end) >= 0 for end in ends)]
        if len(paths) > 1:
            paths = [path for path in paths if beside in path.parents]
        return paths[0] if len(paths) == 1 else None


def _read(path: Path, index: _Index, root: Path, report: Report) -> Labelled | None:
    """Return the images and classes of a table; None if it names no images or no classes. Raises: UnclearError."""
    rows = _rows(path, report)
    if not rows:
        return None
    column, matches = max(
        ((number, [index.find(row[number], path.parent) for row in rows]) for number in range(len(rows[0]))),
        key=lambda one: sum(image is not None for image in one[1]),
    )
    count = len({image for image in matches if image is not None})
    if count < SHARE * min(len(rows) - 1, index.count) or not count:
        return None
    header = [name.strip() or f"column {number + 1}" for number, name in enumerate(rows[0])]
    if matches[0] is not None:  # there are no names of columns
        header = [f"column {number + 1}" for number in range(len(rows[0]))]
    pairs = [(image, row) for image, row in zip(matches, rows, strict=True) if image is not None]
    others = [number for number in range(len(header)) if number != column]
    split_column = next((number for number in others if _is_split_column(header[number], number, pairs)), None)
    chosen = _class_columns([number for number in others if number != split_column], header, pairs)
    if not chosen:
        return None
    of_file = _split_of_file(path.relative_to(root))
    classes, splits = dict[Path, str](), dict[Path, str]()
    for image, row in pairs:
        name = row[chosen[0]].strip() if len(chosen) == 1 else header[_flagged(row, chosen)]
        if not name:
            continue
        name = _checked(name, report)
        if classes.setdefault(image, name) != name:
            raise UnclearError("gives some images several classes: such multi-label datasets are not supported")
        splits[image] = (split_of(row[split_column].strip()) or "") if split_column is not None else of_file
    what = f"the column {header[chosen[0]]}" if len(chosen) == 1 else "the columns"
    return Labelled(f"{what} of {path.relative_to(root)}", classes, splits)


def _rows(path: Path, report: Report) -> Table:
    """Return the rows of a table, each as long as the first one."""
    if path.stat().st_size > LIMIT_BYTES:
        raise UnclearError(f"is larger than {LIMIT_BYTES} bytes")
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16", "replace")
    else:
        (text,) = decoding.decoded([content.removeprefix(b"\xef\xbb\xbf")], encoding(), report)
    try:
        rows = [row for row in delimited.rows(text.splitlines()) if any(word.strip() for word in row)]
    except csv.Error as error:
        raise UnclearError(f"cannot be read: {error}") from error
    width = len(rows[0]) if rows else 0
    return [(row + [""] * width)[:width] for row in rows]


def _is_split_column(name: str, number: int, pairs: Sequence[tuple[Path, list[str]]]) -> bool:
    return name.casefold() in SPLITS and all(split_of(row[number].strip()) for _, row in pairs)


def _class_columns(numbers: Sequence[int], header: Sequence[str], pairs: Sequence[tuple[Path, list[str]]]) -> list[int]:
    """Return the column of the classes, or those of which one is 1. Raises: UnclearError."""
    usual = [number for number in numbers if header[number].casefold().replace(" ", "_") in USUAL]
    flags = [number for number in numbers if all(row[number].strip() in FLAGS for _, row in pairs)]
    if not usual and len(flags) >= FEWEST:
        if all(sum(float(row[number]) for number in flags) == 1 for _, row in pairs):
            return flags
        raise UnclearError("has several classes for an image, or none: such multi-label datasets are not supported")
    chosen = usual or list(numbers)
    if len(chosen) > 1 and usual and _tell_the_same(chosen, pairs):  # a name and a number
        words = [number for number in chosen if not all(is_number(row[number]) for _, row in pairs)]
        chosen = (words or chosen)[:1]
    if len(chosen) > 1:
        names = listed([header[number] for number in chosen])
        raise UnclearError(f"names the images, but the class may be in {names}: call that column label, or leave one")
    for number in chosen:
        values = Counter(row[number].strip() for _, row in pairs)
        if len(values) > max(FEWEST, len(pairs) * SHARE) and all(is_number(value) for value in values):
            raise UnclearError(f"has {len(values)} values in the column {header[number]}: numbers are no classes")
        if len(values) < FEWEST:
            raise UnclearError(f"has only one class in the column {header[number]}: {FEWEST} or more are needed")
    return chosen


def _tell_the_same(numbers: Sequence[int], pairs: Sequence[tuple[Path, list[str]]]) -> bool:
    values = {tuple(row[number].strip() for number in numbers) for _, row in pairs}
    return all(len({value[place] for value in values}) == len(values) for place in range(len(numbers)))


def _flagged(row: Sequence[str], numbers: Sequence[int]) -> int:
    return next(number for number in numbers if float(row[number]))


def _checked(name: str, report: Report) -> str:
    """Return the name of a class, which may become that of a folder. Raises: UnclearError."""
    if not name.isprintable() or len(name.encode()) > NAME_LIMIT_BYTES or name in {".", ".."}:
        raise UnclearError(f"names a class {name[:40]!r}: use letters, digits and spaces")
    if "/" in name or "\\" in name:
        report.guess("classes", f"the class {name} is called {name.replace('/', '-').replace(chr(92), '-')}")
    return name.replace("/", "-").replace("\\", "-")


def _split_of_file(path: Path) -> str:
    """Return the split in a table's name or folder: train for train_labels.csv."""
    for part in (path.stem, *reversed(path.parts[:-1])):
        splits = {split for word in re.split(r"[\W\d_]+", part) if (split := split_of(word))}
        if len(splits) == 1:
            return splits.pop()
    return ""


def _merged(labelled: Sequence[Labelled], report: Report) -> dict[Path, str]:
    """Return the classes of all tables. Raises: DatasetInvalidError, if they name different ones for an image."""
    classes: dict[Path, str] = {}
    for one in labelled:
        if any(classes.setdefault(path, name) != name for path, name in one.classes.items()):
            report.refuse("classes", f"{listed([each.source for each in labelled])} differ: leave one of the tables")
            report.check()
    return classes


def _are_alike(folders: Data, classes: Mapping[Path, str]) -> bool:
    """Return whether folders have the classes of the table, by other names perhaps; or the table names few images."""
    samples = [(path, number) for path, number in (*folders.train, *folders.val)]
    pairs = {(number, classes[path]) for path, number in samples if path in classes}
    named = sum(path in classes for path, _ in samples)
    is_one_to_one = len({number for number, _ in pairs}) == len(pairs) == len({name for _, name in pairs})
    return is_one_to_one or named < SHARE * len(samples)


def _splits(classes: Mapping[Path, str], splits: Mapping[Path, str], root: Path, report: Report) -> Splits:
    """Return the images of train and val: by the table, or else by the folders they lie in."""
    files: dict[str, Files] = {"train": [], "val": [], "test": []}
    for path, name in classes.items():
        parents = PurePosixPath(path.relative_to(root)).parts[:-1]
        split = splits[path] or next(filter(None, map(split_of, reversed(parents))), "train")
        files[split].append(((name, path.name), path))
    if not files["val"] and files["test"]:
        report.guess("splits", "there is no val: the test images, whose classes the table names, are used to validate")
        files["val"], files["test"] = files["test"], []
    if files["test"]:
        report.splits["test"] = Split(len(files["test"]))
    return Splits(files["train"], files["val"] or None)
