"""Write the results of a training as files for spreadsheets and slides: metrics.csv, curves, a confusion matrix."""

import csv
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

_NAMED_CLASSES = 40  # a plot with more names is unreadable


def write(folder: Path, history: list[dict[str, float]], confusion: Mapping[str, Any]) -> list[Path]:
    """Write the files; ``confusion`` has labels, and counts whose rows are labels and whose columns are predictions."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _table(folder / "metrics.csv", history),
        _curves(folder / "curves.png", history),
        _matrix(folder / "confusion_matrix.png", np.asarray(confusion["counts"]), confusion["labels"]),
    ]


def versions() -> dict[str, str]:
    """Return the versions of the libraries that affect the result."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("torch", "timm")}}


def _table(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def _curves(path: Path, history: list[dict[str, float]]) -> Path:
    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    left, right = figure.subplots(1, 2)
    for axes, names in ((left, ("train/loss", "val/loss")), (right, ("top1", "top5"))):
        for name in names:
            axes.plot(epochs, [row[name] for row in history], label=name, marker="." if len(epochs) < 30 else "")  # noqa: PLR2004 -- points that can be distinguished
        axes.set_xlabel("epoch")
        axes.legend()
    figure.savefig(path)
    return path


def _matrix(path: Path, confusion: Any, classes: list[str]) -> Path:
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure.colorbar(axes.imshow(shares, vmin=0, vmax=1, cmap="Blues"), label="share of the row")
    axes.set_xlabel("prediction")
    axes.set_ylabel("label")
    if len(classes) <= _NAMED_CLASSES:
        # matplotlib must not parse untrusted names as formulas.
        plain = [name[:30].replace("$", r"\$") for name in classes]
        axes.set_xticks(range(len(classes)), plain, rotation=90)
        axes.set_yticks(range(len(classes)), plain)
    figure.savefig(path)
    return path
