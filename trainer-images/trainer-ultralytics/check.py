"""Check a dataset without training on it, by Stoker's contract (v1), or on this machine: ``python check.py cats.zip``.

Stores results/job-{id}/dataset.json. Needs no GPU, and weights only if the task cannot be told from the model's name.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import checking
import dataset
import yolo
from utils import Contract, DatasetInvalidError, run

#: of the names of ultralytics' models, such as yolo11n-seg.pt
TASKS = {"-seg": "segment", "-cls": "classify", "-pose": "pose", "-obb": "obb"}
DESCRIBING = {".txt", ".yaml", ".yml", ".json", ".jsonl", ".xml", ".csv"}


def check(contract: Contract) -> Mapping[str, float]:
    """Read the dataset for the task of the job's model; return the numbers of its images."""
    yolo.prepare(contract.scratch)
    yolo.options(contract.settings)  # exits 78 and names the option
    _, report = dataset.fetch(contract, SimpleNamespace(task=task_of(contract)))
    return {f"images/{name}": split.images for name, split in report.splits.items()}


def task_of(contract: Contract) -> str:
    """Return the task of the job's model: by its name if it is one of ultralytics', else by its weights."""
    name = contract.settings.model_name
    if contract.settings.checkpoint_key or (name.endswith(".pt") and not name.startswith("yolo")):
        task: str = yolo.pretrained(contract).task
        return task
    return next((task for part, task in TASKS.items() if re.search(rf"{part}\b", name)), "detect")


def check_here(contract: Contract, task: str | None) -> None:
    """Read a dataset on this machine, without a model: folders with only images are classes."""
    try:
        dataset.fetch(contract, SimpleNamespace(task=task or "detect"))
    except DatasetInvalidError:
        if task or _is_described(contract.scratch):
            raise
        (contract.scratch / "classes").mkdir()
        contract.scratch /= "classes"
        dataset.fetch(contract, SimpleNamespace(task="classify"))


def _is_described(folder: Path) -> bool:
    return any(path.suffix.lower() in DESCRIBING for path in folder.glob("dataset/**/*"))


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(checking.main(sys.argv[1:], check_here, sorted({"detect", *TASKS.values()})))
    sys.exit(run(check))
