"""YOLO's labels whose classes are named by a file of lines: labelImg, Label Studio, Roboflow's Darknet export."""

import json
from pathlib import Path

from dataset import description, splits
from dataset.contents import Contents
from dataset.layout import Layout
from dataset.report import listed
from dataset.text_labels import TextLabels
from utils import DatasetInvalidError

NAMES = ("classes.txt", "obj.names", "predefined_classes.txt", "_darknet.labels", "notes.json", "classes.names")


def find(contents: Contents) -> list[Path]:
    """Return the files that name the classes."""
    paths = [path for path in contents.named(*NAMES, ".names") if _is_list(path)]
    return [path for path in paths if path.suffix.lower() != ".json" or _names(path, contents)]


def _is_list(path: Path) -> bool:
    return path.name.lower() in NAMES or path.suffix.lower() == ".names"


def read(paths: list[Path], contents: Contents) -> Layout:
    """Return the dataset whose classes the files name. Raises: DatasetInvalidError, if they name different ones."""
    names = {tuple(_names(path, contents)): path for path in sorted(paths, key=lambda path: len(path.parts))}
    names.pop((), None)
    if len(names) != 1:
        files = listed([contents.name(path) for path in names.values()] or [contents.name(path) for path in paths])
        what = "name different classes: leave one of them" if names else "name no classes: write one in each line"
        raise DatasetInvalidError(f"{files} {what}")
    classes, path = next(iter(names.items()))
    contents.report.guess("format", f"there is no data.yaml; the classes were read from {contents.name(path)}")
    labels = TextLabels(contents)
    return Layout(
        "yolo",
        list(classes),
        splits.by_folders(contents.images, contents),
        labels.of,
        labels.source_of,
        text_labels=labels,
    )


def _names(path: Path, contents: Contents) -> list[str]:
    if path.suffix.lower() != ".json":
        return description.lines(path, contents)
    try:
        categories = json.loads(path.read_bytes())["categories"]
        return [str(one["name"]) for one in sorted(categories, key=lambda one: int(one["id"]))]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
