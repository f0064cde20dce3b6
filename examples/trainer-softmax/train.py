"""A framework that nobody has heard of: softmax regression, in numpy, on images in folders of classes."""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from archive import unpack
from PIL import Image
from utils import ConfigInvalidError, Contract, DatasetInvalidError, Stopped, run

SIDE = 8


def train(contract: Contract) -> Mapping[str, float]:
    """Train, on from last.pt if there is one; return the final metrics."""
    settings = contract.settings
    if settings.task != "train" or settings.hyperparameters:
        raise ConfigInvalidError("this trainer trains, and has no hyperparameters")  # done FAILED, exit code 78
    data = fetch(contract)
    last = contract.scratch / "last.pt"
    weights, done = np.zeros((SIDE * SIDE + 1, len(data["classes"]))), 0
    if contract.download(contract.key("checkpoints", "last.pt"), last):
        saved = np.load(last.open("rb"))
        weights, done = saved["weights"], int(saved["epoch"])
    accuracy = 0.0
    try:
        for epoch in range(done + 1, settings.epochs + 1):
            loss = descend(weights, *data["train"], settings.learning_rate or 1.0, settings.batch_size, contract)
            accuracy = score(weights, *data["val"])
            part = contract.scratch / "part.npz"
            np.savez(part, weights=weights, epoch=epoch)
            part.rename(last)  # SIGTERM can come between any two lines: last.pt is whole, or the one before
            metrics = {"train/loss": loss, "accuracy": accuracy}
            contract.heartbeat(epoch=epoch, epochs=settings.epochs, metrics=metrics)
            contract.save_checkpoint(last)  # once a minute; at the end, below, in any case
    except Stopped:  # SIGTERM, or 409: store what there is, and leave
        contract.save_checkpoint(last, now=True)
        raise
    for name in ("last.pt", "best.pt"):
        contract.save_result(last, name, kind="checkpoints")
    return {"accuracy": accuracy or score(weights, *data["val"])}


def fetch(contract: Contract) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return pixels and labels of train and val."""
    folder = contract.scratch / "dataset"
    archive = contract.download_dataset()  # missing, or overwritten since: done FAILED, exit code 65
    unpack(archive, folder, lambda path: path.suffix == ".png", contract.check)
    classes = sorted(path.name for path in folder.glob("train/*"))
    if len(classes) < 2:
        raise DatasetInvalidError("train/ needs two or more folders of .png images")
    return {split: load(folder / split, classes) for split in ("train", "val")} | {"classes": classes}


def load(folder: Path, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, 65) pixels, of 1, with a constant; and (N,) labels."""
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
    """Go through the batches once, changing the weights in place; return the mean loss."""
    losses = []
    for start in range(0, len(x), size):
        contract.check()  # raises Stopped when the job is not to go on
        batch, wanted = x[start : start + size], y[start : start + size]
        chances = np.exp(batch @ weights)
        chances /= chances.sum(axis=1, keepdims=True)
        losses.append(-np.log(chances[np.arange(len(wanted)), wanted]).mean())
        chances[np.arange(len(wanted)), wanted] -= 1
        weights -= rate * batch.T @ chances / len(wanted)
    return float(np.mean(losses))


def score(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """Return the share of images that are classified correctly."""
    return float(((x @ weights).argmax(axis=1) == y).mean())


if __name__ == "__main__":
    sys.exit(run(train))
