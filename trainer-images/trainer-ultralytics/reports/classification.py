"""Evaluate a classifier's predictions on the validation images, by class and by confidence."""

from typing import Any

import numpy as np
import numpy.typing as npt

POINTS = 101  # of a curve: confidence or recall from 0 to 1
Floats = npt.NDArray[np.float64]


def measured(
    confidence: npt.ArrayLike, predicted: npt.ArrayLike, actual: npt.ArrayLike, names: list[str]
) -> dict[str, Any]:
    """Return the parts of report.json that come from the likeliest class of each image.

    Args:
        confidence: (N,) the probability of the predicted class.
        predicted: (N,) the predicted class.
        actual: (N,) the label.
        names: the names of the classes.
    """
    scores, guesses, labels = np.asarray(confidence, float), np.asarray(predicted, int), np.asarray(actual, int)
    counts = confusion(guesses, labels, len(names))
    return {
        "confusion_matrix": {"labels": names, "counts": counts.tolist()},
        "per_class": per_class(counts, names),
        **({"curves": curves(scores, guesses, labels)} if len(labels) else {}),
    }


def confusion(predicted: npt.NDArray[Any], actual: npt.NDArray[Any], classes: int) -> npt.NDArray[np.int64]:
    """Return the confusion matrix (classes, classes): rows are labels, columns are predictions."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (actual, predicted), 1)
    return counts


def per_class(counts: npt.NDArray[np.int64], names: list[str]) -> list[dict[str, Any]]:
    """Return images, precision, recall and F1 of each class; None: undefined."""
    right, guessed, images = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    return [
        {
            "name": name,
            "images": int(images[number]),
            "precision": _share(right[number], guessed[number]),
            "recall": _share(right[number], images[number]),
            "f1": _share(2 * right[number], guessed[number] + images[number]),
        }
        for number, name in enumerate(names)
    ]


def curves(confidence: Floats, predicted: npt.NDArray[Any], actual: npt.NDArray[Any]) -> dict[str, Any]:
    """Return precision, recall and F1 by the least confidence that counts, and precision by recall.

    They are means over the classes that have images. As in ultralytics, the precision of a class without predictions
    of so much confidence is 1, and that of a class which is never predicted is 0.
    """
    steps = np.linspace(0, 1, POINTS)
    by_class = [_curves_of(confidence[predicted == n], actual[predicted == n] == n, int((actual == n).sum()), steps)
                for n in np.unique(actual)]  # fmt: skip
    precision, recall, f1, by_recall = np.mean(by_class, axis=0)
    return {
        "confidence": steps.tolist(),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
        "pr": {"recall": steps.tolist(), "precision": by_recall.tolist()},
    }


def _curves_of(confidence: Floats, is_right: npt.NDArray[np.bool_], images: int, steps: Floats) -> Floats:
    """Return precision, recall and F1 by confidence, and precision by recall, of one class: (4, steps)."""
    if not len(confidence):
        return np.zeros((4, len(steps)))
    order = np.argsort(-confidence, kind="stable")
    ranked, right = confidence[order], np.cumsum(is_right[order])
    counted = len(ranked) - np.searchsorted(ranked[::-1], steps, side="left")  # predictions of at least so much
    hits = np.where(counted > 0, right[np.maximum(counted - 1, 0)], 0)
    precision = np.where(counted > 0, hits / np.maximum(counted, 1), 1.0)
    recall = hits / images
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    envelope = np.maximum.accumulate((right / np.arange(1, len(right) + 1))[::-1])[::-1]  # the best from here on
    first = np.searchsorted(right / images, steps - 1e-9, side="left")
    by_recall = np.where(first < len(right), envelope[np.minimum(first, len(right) - 1)], 0.0)
    return np.stack([precision, recall, f1, by_recall])


def _share(part: Any, whole: Any) -> float | None:
    return float(part / whole) if whole else None
