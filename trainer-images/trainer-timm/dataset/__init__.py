"""Untrusted datasets: an archive of class folders, downloaded, unpacked and checked before the training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dataset import cache, class_folders, class_tables, files, images
from dataset.class_folders import Sample
from dataset.images import NOTHING, Inspections, Levels
from dataset.report import Report, reporting
from utils import Contract

__all__ = ["Data", "Levels", "Report", "Sample", "fetch", "fetch_images", "load", "read"]
FILE = "samples.json"


class Data(NamedTuple):
    """Images with the index of their class, the names of the classes, and the levels of samples of over 8 bits."""

    train: list[Sample]
    val: list[Sample]
    classes: list[str]
    levels: Levels


def fetch(contract: Contract, *, val_share: float) -> tuple[Data, Report]:
    """Return the dataset, checked, and its report, which is stored as dataset.json.

    Raises:
        DatasetInvalidError: the message names the files or folders.
    """
    with reporting(contract, framework="timm", task="classify") as report:
        folder, known = cache.unpacked(contract, class_tables.is_wanted, images.rules(), report)
        seed = contract.settings.seed
        data = read(folder, report, contract.check, val_share=val_share, seed=seed, known=known)
    save(data, contract.scratch / FILE)
    return data, report


def fetch_images(contract: Contract) -> tuple[list[Path], Path]:
    """Return all images of a dataset to predict on, and their folder. Raises: DatasetInvalidError."""
    with reporting(contract, framework="timm", task="classify") as report:
        folder, known = cache.unpacked(contract, images.is_image, images.rules(), report)
        rules = images.rules(known=known)
        paths = sorted(files.below(folder))
        checked = images.check_images(paths, folder, rules, report, contract.check)
        if not checked.paths:
            report.refuse("images", "none of its images can be read" if paths else "there are no images in it")
    return list(checked.paths.values()), folder


def read(  # noqa: PLR0913 -- what is read, and how
    folder: Path,
    report: Report,
    check: Callable[[], None],
    *,
    val_share: float,
    seed: int,
    known: Inspections = NOTHING,
) -> Data:
    """Return the samples of an unpacked dataset, checked. Raises: DatasetInvalidError."""
    report.format = "class-folders"
    data = class_tables.arranged(files.below(folder), folder, report, val_share=val_share, seed=seed)
    used = [path for path, _ in (*data.train, *data.val)]
    checked = images.check_images(used, folder, images.rules(known=known), report, check)
    report.check()
    data = class_folders.usable(data, checked.paths, report)
    class_folders.report_content(data, folder, report)
    return Data(*data, checked.levels)


def save(data: Data, path: Path) -> None:
    """Write the samples for the other processes of a training."""
    path.write_text(json.dumps(data, default=str), encoding="utf-8")


def load(path: Path) -> Data:
    """Return the samples that ``save`` wrote."""
    train, val, classes, levels = json.loads(path.read_text(encoding="utf-8"))
    train, val = ([(Path(image), label) for image, label in part] for part in (train, val))
    return Data(train, val, classes, Levels(*levels))
