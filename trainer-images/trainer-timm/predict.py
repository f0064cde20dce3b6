"""Classify a dataset's images with trained weights, by Stoker's contract (v1)."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dataset
import devices
from dataset.images import Levels, decode
from reports import previews
from utils import ConfigInvalidError, Contract, run

HEARTBEAT_SECONDS = 2.0  # the shortest time between two
BEST = 5
SHOWN = 200  # images that are stored beside their predictions, so that the console shows them


def predict(contract: Contract) -> Mapping[str, float]:
    """Write predictions.jsonl, with the five likeliest classes of each image, and the first images; return counts."""
    settings = contract.settings
    context = devices.contexts(settings.device, contract.scratch)[0]
    if not settings.checkpoint_key:
        raise ConfigInvalidError("CHECKPOINT_KEY is missing: set it to the weights to predict with")
    if settings.hyperparameters:
        raise ConfigInvalidError(f"HYPERPARAMETERS: a prediction has none; remove {min(settings.hyperparameters)}")
    model, to_tensor, classes = loaded(contract, settings.checkpoint_key, context)
    images, root = dataset.fetch_images(contract)

    table, began, reported_at = contract.scratch / "predictions.jsonl", time.monotonic(), 0.0
    with table.open("w", encoding="utf-8") as lines:
        predictions = predict_images(contract, model, to_tensor, images, context)
        for number, (path, scores) in enumerate(predictions, start=1):
            likeliest = [{"class": classes[index], "probability": round(score, 6)} for index, score in scores]
            shown = {"image": stored(contract, path, number)} if number <= SHOWN else {}
            line = {"file": str(path.relative_to(root)), **shown, "top": likeliest}
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")
            if time.monotonic() - reported_at > HEARTBEAT_SECONDS or number == len(images):
                reported_at = time.monotonic()
                eta_seconds = (reported_at - began) / number * (len(images) - number)
                contract.heartbeat(step=number, metrics={"images": number}, eta_seconds=eta_seconds)
    contract.save_result(table)
    return {"images": len(images)}


def stored(contract: Contract, path: Path, number: int) -> str:
    """Store an upright 8-bit copy of an image, and return its key."""
    small = contract.scratch / f"{number:06}.jpg"
    small.write_bytes(previews.jpeg(previews.opened(path)))
    contract.save_result(small, f"images/{small.name}")
    small.unlink()
    return contract.key("results", f"images/{small.name}")


def loaded(
    contract: Contract, key: str, context: devices.DistributedContext
) -> tuple[Any, Callable[[Path], Any], list[str]]:
    """Return the model, its image transform, and the classes. Raises: ConfigInvalidError."""
    from timm.data import create_transform

    import checkpoints
    import model as models

    path = contract.scratch / "start" / Path(key).name
    if not contract.download(key, path):
        raise ConfigInvalidError(f"CHECKPOINT_KEY: there is no object {key}")
    content = checkpoints.read(path)
    models.check_name(content["model_name"])
    model = models.build(content["model_name"], content["model_kwargs"])
    try:
        model.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise ConfigInvalidError(f"{key}: its weights do not fit its model: {str(error).splitlines()[0]}") from error
    config = content["data_config"]
    if contract.settings.image_size:
        config |= {"input_size": (config["input_size"][0], *[contract.settings.image_size] * 2)}
    mode = "L" if config["input_size"][0] == 1 else "RGB"
    levels, transform = Levels(*content.get("levels", ())), create_transform(**config)
    return model.to(context.device).eval(), lambda path: transform(decode(path, mode, levels)), content["classes"]


def predict_images(
    contract: Contract,
    model: Any,
    to_tensor: Callable[[Path], Any],
    images: list[Path],
    context: devices.DistributedContext,
) -> Iterator[tuple[Path, list[tuple[int, float]]]]:
    """Yield each image with the indices and the probabilities of its likeliest classes."""
    import torch

    size = contract.settings.batch_size
    for start in range(0, len(images), size):
        chunk = images[start : start + size]
        contract.check()
        batch = torch.stack([to_tensor(path) for path in chunk]).to(context.device)
        with torch.inference_mode():
            probabilities = model(batch).softmax(dim=1)
        best = probabilities.topk(min(BEST, probabilities.shape[1]), dim=1)
        for path, numbers, scores in zip(chunk, best.indices.tolist(), best.values.tolist(), strict=True):
            yield path, list(zip(numbers, scores, strict=True))


if __name__ == "__main__":
    sys.exit(run(predict))
