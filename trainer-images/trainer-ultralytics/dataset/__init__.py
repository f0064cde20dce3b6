"""Untrusted datasets: downloaded, unpacked and checked before ultralytics reads them.

Nothing that ultralytics would execute reaches it: it runs ``download:`` in data.yaml as Python, and loads a ``.cache``
beside the labels as a pickle.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dataset import cache, class_folders, class_tables, files, images, label_cache, yolo
from dataset.images import NOTHING, Inspections
from dataset.report import Report, reporting
from utils import Contract

__all__ = ["Report", "fetch", "fetch_images", "read", "rules"]
VAL_SHARE = 0.2  # of the images, if the dataset has no val/


def fetch(contract: Contract, model: Any, *, is_cached: bool = False) -> tuple[Path, Report]:
    """Return the ``data`` argument of ``YOLO.train``, and the dataset's report, which is stored as dataset.json.

    ``is_cached``: for a training, write what ultralytics would find in a scan of its own.

    Raises:
        DatasetInvalidError: the message names the files, and the lines if there are any.
    """
    with reporting(contract, framework="ultralytics", task=model.task) as report:
        wanted = class_tables.is_wanted if model.task == "classify" else yolo.is_wanted
        folder, known = cache.unpacked(contract, wanted, rules(), report)
        options = {"task": model.task, "seed": contract.settings.seed, "known": known, "is_cached": is_cached}
        return read(folder, report, contract.check, **options), report


def fetch_images(contract: Contract) -> dict[Path, str]:
    """Return all images of a dataset to predict on, and their names in it. Raises: DatasetInvalidError."""
    with reporting(contract, framework="ultralytics", task="predict") as report:
        folder, known = cache.unpacked(contract, images.is_image, rules(), report)
        paths = sorted(files.below(folder))
        checked = images.check_images(paths, folder, rules()._replace(known=known), report, contract.check)
        if not checked.paths:
            report.refuse("images", "none of its images can be read" if paths else "there are no images in it")
    return {now: str(before.relative_to(folder)) for before, now in checked.paths.items()}


def read(  # noqa: PLR0913 -- what is read, and how
    folder: Path,
    report: Report,
    check: Callable[[], None],
    *,
    task: str,
    seed: int = 0,
    known: Inspections = NOTHING,
    is_cached: bool = False,
) -> Path:
    """Check an unpacked dataset; return a data.yaml that we wrote, or a folder of classes.

    Raises:
        DatasetInvalidError: the message names the files, and the lines if there are any.
    """
    if task == "classify":
        classes = _class_folders(folder, report, check, seed=seed, known=known)
        if is_cached:
            label_cache.write_of_classes(classes)
        return classes
    checked = rules()._replace(known=known)
    return yolo.read(folder, report, check, checked, task=task, seed=seed, is_cached=is_cached)


def _class_folders(folder: Path, report: Report, check: Callable[[], None], *, seed: int, known: Inspections) -> Path:
    report.format = "class-folders"
    data = class_tables.arranged(files.below(folder), folder, report, val_share=VAL_SHARE, seed=seed)
    used = [path for path, _ in (*data.train, *data.val)]
    checked = images.check_images(used, folder, rules()._replace(known=known), report, check)
    report.check()
    data = class_folders.usable(data, checked.paths, report)
    class_folders.report_content(data, folder, report)
    return class_folders.placed(data, folder.with_name("classes"))


def rules() -> images.Rules:
    """Return what ultralytics can read: it rejects smaller images, and reads TIFF by OpenCV."""
    formats = frozenset({"BMP", "JPEG", "MPO", "PNG", "TIFF", "WEBP"})
    suffixes = frozenset({".bmp", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"})
    return images.rules(smallest_side=10, wide_tiff=False, formats=formats, suffixes=suffixes)
