"""Whether a dataset fits a model, judged by the names of its files: classes in folders, or objects in labels.

Only datasets that the trainer would certainly refuse are refused here, before the upload.
"""

import re
from pathlib import Path

from client.errors import invalid
from client.local_check import Content, content

#: parts of the names of ultralytics' models that name their task; the others detect
TASKS = {"cls": "classify", "seg": "segment", "pose": "pose", "obb": "obb"}
_PART = re.compile(rf"-({'|'.join(TASKS)})(?=[-.]|$)")
#: names that ultralytics gives its models; other weights may be for any task
_OFFICIAL = re.compile(r"(yolo(v\d+|\d+)|rtdetr|yolo_?nas|yoloe)[\w-]*\.(pt|ya?ml)")
#: of a dataset for classes, the fewest folders
_FEWEST = 2


def task_of(framework: str, model: str) -> str | None:
    """Return the task that a model is for, by its name; None if the name does not tell."""
    if framework == "timm":
        return "classify"
    plain = model.lower()  # the server takes its names in any case
    if framework != "ultralytics" or not _OFFICIAL.fullmatch(plain):
        return None
    part = _PART.search(plain)
    return TASKS[part[1]] if part else "detect"


def usual_model(path: Path) -> str:
    """Return the usual models for a dataset of this kind."""
    return "yolo11n.pt" if content(path).describing else "yolo11n-cls.pt or --model resnet18"


def check(path: Path, framework: str | None, model: str) -> None:
    """Check that a dataset on this machine is of the kind that a model learns from.

    Raises:
        CallError: it is not; the message names a model that fits.
    """
    task = task_of(framework or "", model)
    if task is None:
        return
    dataset = content(path)
    if task == "classify" and _has_objects(dataset):
        fix = _PART.sub("", model.lower(), count=1) if framework == "ultralytics" else "yolo11n.pt"
        raise invalid(f"{path} has labels of objects, and {model} learns classes from folders: use --model {fix}")
    if task != "classify" and dataset.is_complete and not dataset.describing:
        raise invalid(_no_labels(path, dataset, model))


def _has_objects(dataset: Content) -> bool:
    """Return whether files describe the images; then their folders are no classes."""
    if len(dataset.folders) >= _FEWEST or not dataset.is_complete:
        return False
    stems = {image.stem for image in dataset.images}
    labels = sum(each.suffix.lower() in {".txt", ".xml", ".json"} and each.stem in stems for each in dataset.describing)
    is_coco = any("annotations" in str(each).lower() and each.suffix == ".json" for each in dataset.describing)
    return is_coco or labels >= max(len(dataset.images) // 2, 1)


def _no_labels(path: Path, dataset: Content, model: str) -> str:
    if len(dataset.folders) < _FEWEST:
        return f"{path} has no labels, and {model} learns objects from label files: add them (README, Datasets)"
    stem, dot, suffix = _PART.sub("", model.lower(), count=1).rpartition(".")
    fix = f"--model {stem}-cls{dot}{suffix}" if stem.startswith("yolo") else "--model yolo11n-cls.pt"
    return (
        f"{path} has folders of classes and no labels, and {model} learns objects from label files: "
        f"use {fix}, or a model of timm, such as resnet18"
    )
