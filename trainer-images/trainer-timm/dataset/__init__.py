"""Untrusted datasets: an archive of class folders, downloaded, unpacked and checked before the training."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from dataset import class_folders, images
from dataset.class_folders import Data, Sample
from dataset.report import Report, reporting
from dataset.unpacking import unpack
from utils import Contract

__all__ = ["Data", "Report", "Sample", "fetch", "read", "unpacked"]


def fetch(contract: Contract, *, val_share: float) -> tuple[Data, Report]:
    """Return the dataset, checked, and its report, which is stored as dataset.json.

    Raises:
        DatasetInvalidError: the message names the files or folders.
    """
    with reporting(contract, framework="timm", task="classify") as report:
        folder = unpacked(contract)
        data = read(folder, report, contract.check, val_share=val_share, seed=contract.settings.seed)
    return data, report


def unpacked(contract: Contract) -> Path:
    """Download and unpack the images of the dataset. Raises: DatasetInvalidError."""
    archive, folder = contract.download_dataset(), contract.scratch / "dataset"
    skipped = unpack(archive, folder, _wanted, contract.check)
    archive.unlink()
    folder.mkdir(exist_ok=True)
    if skipped:
        contract.event("log", f"{skipped} files of the dataset are not images and were skipped")
    return folder


def read(folder: Path, report: Report, check: Callable[[], None], *, val_share: float, seed: int) -> Data:
    """Return the samples of an unpacked dataset, checked. Raises: DatasetInvalidError."""
    report.format = "class-folders"
    data = class_folders.listed(folder, val_share=val_share, seed=seed)
    paths = [path for path, _ in (*data.train, *data.val)]
    images.check_images(paths, folder, images.rules(), report, check)
    class_folders.count(data, report)
    return data


def _wanted(path: PurePosixPath) -> bool:
    return path.suffix.lower() in images.SUFFIXES | images.FOREIGN_SUFFIXES
