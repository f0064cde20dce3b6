"""Class folders: ``train/<class>/…`` and ``val/<class>/…``, or ``<class>/…`` alone, split by the seed."""

import random
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from dataset.images import FOREIGN_SUFFIXES, SUFFIXES
from dataset.report import Report, Split
from utils import DatasetInvalidError

VALIDATION = ("val", "validation", "valid", "test")
FEWEST = 2
Sample = tuple[Path, int]


class Data(NamedTuple):
    """Images with the index of their class, and the names of the classes."""

    train: list[Sample]
    val: list[Sample]
    classes: list[str]


def listed(folder: Path, *, val_share: float, seed: int) -> Data:
    """Return the samples in an unpacked folder: the same list for the same seed. Raises: DatasetInvalidError."""
    root = _root(folder)
    val = next((root / name for name in VALIDATION if (root / name).is_dir()), None)
    if (root / "train").is_dir():
        if val is None:
            raise DatasetInvalidError(
                f"there is a folder train/, but none of {', '.join(f'{name}/' for name in VALIDATION)}"
            )
        classes = _classes(root / "train")
        unknown = sorted(path.name for path in val.iterdir() if path.is_dir() and path.name not in classes)
        if unknown:
            raise DatasetInvalidError(f"{val.name}/{unknown[0]}: a class that train/ does not have")
        samples = _samples(val, classes)
        if not samples:
            raise DatasetInvalidError(f"{val.name}/ holds no images in folders of classes")
        return Data(_samples(root / "train", classes, each=1), samples, classes)
    classes = _classes(root)
    return _split(_samples(root, classes, each=FEWEST), classes, val_share=val_share, seed=seed)


def _root(folder: Path) -> Path:
    """Return the folder of the classes: the archive's root, or its only folder, unless that is a class itself."""
    inside = list(folder.iterdir())
    is_wrapped = len(inside) == 1 and inside[0].name != "train" and all(path.is_dir() for path in inside[0].glob("*"))
    return inside[0] if is_wrapped and inside[0].is_dir() else folder


def _classes(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(names) < FEWEST:
        raise DatasetInvalidError(
            f"{len(names)} classes (folders of images); {FEWEST} or more are needed: train/<class>/ and val/<class>/"
        )
    return names


def _samples(folder: Path, classes: list[str], *, each: int = 0) -> list[Sample]:
    samples = []
    for number, name in enumerate(classes):
        files = [path for path in sorted((folder / name).rglob("*")) if path.is_file()]
        foreign = [path for path in files if path.suffix.lower() in FOREIGN_SUFFIXES]
        if foreign:
            raise DatasetInvalidError(
                f"{foreign[0].relative_to(folder)}: {foreign[0].suffix} images are not supported; "
                f"use {', '.join(sorted(SUFFIXES))}"
            )
        if len(files) < each:
            raise DatasetInvalidError(f"{name}/ holds {len(files)} images; {each} or more are needed")
        samples += [(path, number) for path in files]
    return samples


def _split(samples: list[Sample], classes: list[str], *, val_share: float, seed: int) -> Data:
    """Split off a share of each class, at least one image, for validation."""
    train, val = [], []
    for number in range(len(classes)):
        mine = [sample for sample in samples if sample[1] == number]
        random.Random(f"{seed}/{number}").shuffle(mine)  # noqa: S311 -- a reproducible choice
        count = min(max(round(len(mine) * val_share), 1), len(mine) - 1)
        val += mine[:count]
        train += mine[count:]
    return Data(sorted(train), sorted(val), classes)


def count(data: Data, report: Report) -> None:
    """Note the images of each split and class."""
    report.classes = data.classes
    for name, samples in (("train", data.train), ("val", data.val)):
        of_classes = Counter(data.classes[number] for _, number in samples)
        report.splits[name] = Split(len(samples), classes=dict(of_classes))
