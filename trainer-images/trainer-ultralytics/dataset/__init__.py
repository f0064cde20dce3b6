"""Untrusted datasets: downloaded, unpacked and checked before ultralytics reads them.

Nothing that ultralytics would execute reaches it: it runs ``download:`` in data.yaml as Python, and loads a ``.cache``
beside the labels as a pickle.
"""

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from dataset import images, yolo
from dataset.report import Report, reporting
from dataset.unpacking import unpack
from utils import Contract

__all__ = ["Report", "fetch", "read", "rules", "unpacked"]


def fetch(contract: Contract, model: Any) -> tuple[Path, Report]:
    """Return the ``data`` argument of ``YOLO.train``, and the dataset's report, which is stored as dataset.json.

    Raises:
        DatasetInvalidError: the message names the files, and the lines if there are any.
    """
    with reporting(contract, framework="ultralytics", task=model.task) as report:
        folder = unpacked(contract, yolo.is_wanted)
        return read(folder, report, contract.check, task=model.task, seed=contract.settings.seed), report


def unpacked(contract: Contract, wanted: Callable[[PurePosixPath], bool]) -> Path:
    """Download and unpack the dataset. Raises: DatasetInvalidError."""
    archive, folder = contract.download_dataset(), contract.scratch / "dataset"
    skipped = unpack(archive, folder, wanted, contract.check)
    archive.unlink()
    folder.mkdir(exist_ok=True)
    if skipped:
        contract.event("log", f"{skipped} files of the dataset are neither images nor labels and were skipped")
    return folder


def read(folder: Path, report: Report, check: Callable[[], None], *, task: str, seed: int = 0) -> Path:
    """Check an unpacked dataset; return a data.yaml that we wrote, or a folder of classes.

    Raises:
        DatasetInvalidError: the message names the files, and the lines if there are any.
    """
    return yolo.read(folder, report, check, rules(), task=task, seed=seed)


def rules() -> images.Rules:
    """Return what ultralytics can read: it rejects smaller images, and reads TIFF by OpenCV."""
    return images.rules(smallest_side=10, wide_tiff=False)
