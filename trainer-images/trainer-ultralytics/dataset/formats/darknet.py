"""Darknet's and CVAT's YOLO 1.1: ``obj.data`` names the lists of images and the file of class names."""

from pathlib import Path

from dataset import description, splits
from dataset.contents import Contents, parts_of
from dataset.layout import Layout
from dataset.text_labels import TextLabels
from utils import DatasetInvalidError

KEYS = {"train": ("train",), "val": ("valid", "val", "validation")}


def find(contents: Contents) -> list[Path]:
    """Return the files such as obj.data."""
    return [path for path in contents.named(".data") if {"train", "names"} <= _values(path, contents).keys()]


def read(path: Path, contents: Contents) -> Layout:
    """Return the dataset that a file such as obj.data describes. Raises: DatasetInvalidError."""
    file, values = contents.name(path), _values(path, contents)
    bases = [path.parent, contents.root]
    names = contents.other(values["names"], *bases, what=f"{file}: names")
    if names is None:
        raise DatasetInvalidError(f"{file}: names: {values['names']} is not in the archive")
    images: splits.Splits = {}
    for split, keys in KEYS.items():
        place = next((values[key] for key in keys if parts_of(values.get(key, ""))), "")
        listing = contents.other(place, *bases, what=f"{file}: {split}") if place else None
        if listing is not None:
            images[split] = splits.in_list(listing, bases, contents)
        elif split == "train":
            raise DatasetInvalidError(f"{file}: train: {place} is not in the archive")
    if set(images["train"]) == set(images.get("val", [])):  # as Darknet's tutorials have it for a first test
        del images["val"]
    labels = TextLabels(contents)
    return Layout(
        "darknet", description.lines(names, contents), images, labels.of, labels.source_of, text_labels=labels
    )


def _values(path: Path, contents: Contents) -> dict[str, str]:
    pairs = [line.partition("=") for line in description.lines(path, contents)]
    return {key.strip().lower(): value.strip() for key, _, value in pairs if value.strip()}
