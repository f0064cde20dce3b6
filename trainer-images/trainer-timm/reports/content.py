"""The content of report.json."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from utils import Settings

MATRIX_LABELS = 200  # more labels would make a file that no browser wants
_SETTINGS = (
    *("dataset_id", "dataset_etag", "model_name", "checkpoint_key", "epochs", "batch_size", "image_size"),
    *("learning_rate", "seed", "device", "workers", "hyperparameters"),
)


@dataclass
class Content:
    """What a trainer knows at the end of a training."""

    task: str
    epoch: int  #: of the best model
    epochs: int  #: that were trained
    classes: list[str]
    metrics: Mapping[str, float]  #: of the best model
    #: of the best model's validation: confusion_matrix, per_class, curves; what is not known is absent
    measured: Mapping[str, Any]
    #: a row for each epoch, with the epoch as "epoch"
    history: list[dict[str, float]]
    dataset: Mapping[str, Any]  #: dataset.json
    versions: dict[str, str] = field(default_factory=dict)

    def as_json(self, settings: Settings) -> dict[str, Any]:
        """Return report.json."""
        content = {
            "version": 1,
            "task": self.task,
            "model": settings.model_name,
            "epoch": self.epoch,
            "epochs": self.epochs,
            "classes": self.classes,
            "metrics": dict(self.metrics),
            **self.measured,
            "settings": chosen_settings(settings),
            "dataset": dataset_counts(self.dataset),
            "versions": self.versions,
        }
        if "confusion_matrix" in content:
            content["confusion_matrix"] = _of_moderate_size(content["confusion_matrix"])
        shown: dict[str, Any] = plain(content)
        return shown


def plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers of 6 significant digits, None for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    number = value.item() if hasattr(value, "item") else value  # of numpy and torch
    if isinstance(number, float):
        return float(f"{number:.6g}") if math.isfinite(number) else None
    return number if number is None or isinstance(number, int | str) else str(number)


def chosen_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings of the job that say how it was trained; nothing secret is among them."""
    values = {name: getattr(settings, name) for name in _SETTINGS}
    return {name: value for name, value in values.items() if value not in (None, "", {})}


def dataset_counts(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts of dataset.json that tell a dataset's size."""
    splits = dataset.get("splits", {})
    counts = {
        split: {name: number for name, number in content.items() if isinstance(number, int)}
        for split, content in splits.items()
    }
    return {
        "dataset": dataset.get("dataset", ""),
        "format": dataset.get("format", ""),
        "classes": len(dataset.get("classes", ())),
        "splits": counts,
        "left_out": dataset.get("left_out", 0),
        "warnings": len(dataset.get("guesses", ())),
    }


def _of_moderate_size(matrix: Mapping[str, Any]) -> dict[str, Any]:
    """Return a confusion matrix of at most 200 labels: those with the most errors, in their order."""
    labels, counts = matrix["labels"], matrix["counts"]
    if len(labels) <= MATRIX_LABELS:
        return dict(matrix)
    columns = [sum(column) for column in zip(*counts, strict=True)]
    errors = [sum(row) + columns[number] - 2 * row[number] for number, row in enumerate(counts)]
    kept = sorted(sorted(range(len(labels)), key=lambda number: -errors[number])[:MATRIX_LABELS])
    return {
        "labels": [labels[number] for number in kept],
        "counts": [[counts[row][column] for column in kept] for row in kept],
        "left_out": len(labels) - len(kept),
    }
