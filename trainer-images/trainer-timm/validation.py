"""Validate a model: its metrics, the likeliest class of each image, and what it predicts on the samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import devices
from dataset import Data
from reports import SampleImage
from reports.previews import opened
from reports.samples import chosen
from state import Run

_TOP = 3  # predictions of a sample


class Answers(NamedTuple):
    """The likeliest class of each validation image, its probability, and the label; each (N,)."""

    confidence: npt.NDArray[np.float64]
    predicted: npt.NDArray[np.int64]
    actual: npt.NDArray[np.int64]


def model_of(run: Run) -> Any:
    """Return the model to validate and to predict with: the average of weights, if there is one."""
    return run.ema.module if run.ema is not None else run.model


def validate(run: Run, loader: Any, classes: int) -> tuple[dict[str, float], Any]:
    """Return loss, top-1 and top-5 in percent, and this process's part of the answers, for ``answers``."""
    import torch

    model, device = model_of(run), run.context.device
    total, top1, top5 = (torch.zeros((), device=device) for _ in range(3))
    parts = []
    model.eval()
    with torch.inference_mode():
        for images, labels in run.batches(loader):
            with devices.autocast(run.options, device):
                scores = model(images)
            total += torch.nn.functional.cross_entropy(scores.float(), labels, reduction="sum")
            best = scores.float().softmax(dim=1).topk(min(5, classes), dim=1)
            is_right = best.indices == labels[:, None]
            top1 += is_right[:, 0].sum()
            top5 += is_right.any(dim=1).sum()
            parts.append(torch.stack([best.values[:, 0], best.indices[:, 0].float(), labels.float()]))
            if run.contract is not None:
                run.contract.check()
    own = torch.cat(parts, dim=1)
    count = torch.tensor(own.shape[1], device=device)
    total, top1, top5, count = devices.all_reduced(total, top1, top5, count, context=run.context)
    seen = int(count)
    metrics = {"val/loss": float(total) / seen, "top1": 100 * int(top1) / seen, "top5": 100 * int(top5) / seen}
    return metrics, own


def answers(own: Any, context: devices.DistributedContext) -> Answers:
    """Return the answers of all processes."""
    confidence, predicted, actual = devices.gathered(own, context).cpu().double().numpy()
    return Answers(confidence, predicted.astype(np.int64), actual.astype(np.int64))


class SampleSource:
    """The samples of a training: a few validation images, and what the current model predicts on them."""

    def __init__(self, run: Run, loader: Any, data: Data, *, seed: int, root: Path) -> None:
        self._run, self._loader, self._data, self._root = run, loader, data, root
        self._chosen = chosen([[label] for _, label in data.val], seed)

    def images(self) -> list[SampleImage]:
        """Return the images."""
        samples = [self._data.val[index] for index in self._chosen]
        return [
            SampleImage(_name(path, self._root), opened(path, self._data.levels), [{"class": label}])
            for path, label in samples
        ]

    def predictions(self) -> list[list[dict[str, Any]]]:
        """Return the three likeliest classes of each image; the model is in eval mode, as ``validate`` leaves it."""
        import torch

        loader = self._loader
        pixels, _ = loader.loader.collate_fn([loader.dataset[index] for index in self._chosen])
        images = pixels.to(loader.device, loader.img_dtype).sub_(loader.mean).div_(loader.std)
        with torch.inference_mode(), devices.autocast(self._run.options, loader.device):
            scores = model_of(self._run)(images)
        best = scores.float().softmax(dim=1).topk(min(_TOP, scores.shape[1]), dim=1)
        rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [_predictions(classes, confidences) for classes, confidences in rows]


def _predictions(classes: Sequence[int], confidences: Sequence[float]) -> list[dict[str, Any]]:
    pairs = zip(classes, confidences, strict=True)
    return [{"class": number, "confidence": confidence} for number, confidence in pairs]


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name
