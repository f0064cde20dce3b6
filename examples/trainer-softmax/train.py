"""A minimal trainer: softmax regression with numpy, on images in one folder for each class."""

import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from utils import ConfigInvalidError, Contract, DatasetInvalidError, Stopped, run

SIDE, DATASET_LIMIT_BYTES = 8, 10_000_000_000


def train(contract: Contract) -> Mapping[str, float]:
    """Train, from last.pt if it exists, and return the final metrics."""
    settings = contract.settings
    if settings.task != "train" or settings.hyperparameters:
        raise ConfigInvalidError("this trainer needs TASK=train, and no HYPERPARAMETERS")  # done FAILED, exit code 78
    data = fetch(contract)
    last = contract.scratch / "last.pt"
    weights, last_epoch = np.zeros((SIDE * SIDE + 1, len(data["classes"]))), 0
    if contract.download(contract.key("checkpoints", "last.pt"), last):
        saved = np.load(last.open("rb"))
        weights, last_epoch = saved["weights"], int(saved["epoch"])
    accuracy = 0.0
    try:
        for epoch in range(last_epoch + 1, settings.epochs + 1):
            loss = descend(weights, *data["train"], settings.learning_rate or 1.0, settings.batch_size, contract)
            accuracy = score(weights, *data["val"])
            part = contract.scratch / "part.npz"
            np.savez(part, weights=weights, epoch=epoch)
            part.rename(last)  # atomic: SIGTERM may arrive at any time
            metrics = {"train/loss": loss, "accuracy": accuracy}
            contract.heartbeat(epoch=epoch, epochs=settings.epochs, metrics=metrics)
            contract.save_checkpoint(last)  # at most once a minute; the last one is stored below
    except Stopped:  # SIGTERM, or 409
        contract.save_checkpoint(last, now=True)
        raise
    for name in ("last.pt", "best.pt"):
        contract.save_result(last, name, kind="checkpoints")
    return {"accuracy": accuracy or score(weights, *data["val"])}


def fetch(contract: Contract) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the pixels and labels of both splits, and the classes."""
    archive, folder = contract.download_dataset(), contract.scratch / "dataset"  # missing: done FAILED, exit code 65
    try:
        with zipfile.ZipFile(archive) as zipped:
            if sum(entry.file_size for entry in zipped.infolist()) > DATASET_LIMIT_BYTES:
                raise DatasetInvalidError(f"more than {DATASET_LIMIT_BYTES} bytes unpacked")
            zipped.extractall(folder)  # it writes no links, and no file outside the folder
    except (zipfile.BadZipFile, RuntimeError) as error:  # RuntimeError: encrypted
        raise DatasetInvalidError(f"the zip archive cannot be unpacked: {error}") from error
    classes = sorted(path.name for path in folder.glob("train/*"))
    if len(classes) < 2:
        raise DatasetInvalidError("train/ needs two or more folders of .png images")
    return {split: load(folder / split, classes) for split in ("train", "val")} | {"classes": classes}


def load(folder: Path, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels (N, 65) between 0 and 1, the last column constant, and labels (N,)."""
    rows, labels = [], []
    for path in sorted(folder.glob("*/*.png")):
        try:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("L").resize((SIDE, SIDE)), dtype=float) / 255
        except OSError as error:
            raise DatasetInvalidError(f"{path.relative_to(folder.parent)}: {error}") from error
        rows.append([*pixels.ravel(), 1.0])
        labels.append(classes.index(path.parent.name))
    order = np.random.default_rng(0).permutation(len(rows))
    return np.array(rows)[order], np.array(labels)[order]


def descend(weights: np.ndarray, x: np.ndarray, y: np.ndarray, rate: float, size: int, contract: Contract) -> float:
    """Train for one epoch, updating the weights in place, and return the mean loss."""
    losses = []
    for start in range(0, len(x), size):
        contract.check()  # raises Stopped when the job must stop
        images, labels = x[start : start + size], y[start : start + size]
        probabilities = np.exp(images @ weights)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        losses.append(-np.log(probabilities[np.arange(len(labels)), labels]).mean())
        probabilities[np.arange(len(labels)), labels] -= 1
        weights -= rate * images.T @ probabilities / len(labels)
    return float(np.mean(losses))


def score(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """Return the accuracy."""
    return float(((x @ weights).argmax(axis=1) == y).mean())


if __name__ == "__main__":
    sys.exit(run(train))
