"""Predict on a dataset's images with trained weights, by Stoker's contract (v1)."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dataset
import yolo
from utils import ConfigInvalidError, Contract, run

HEARTBEAT_SECONDS = 2.0  # the shortest time between two
OPTIONS = {"conf", "iou", "max_det", "classes", "agnostic_nms", "augment", "retina_masks"}
PROBABILITIES = 5


def predict(contract: Contract) -> Mapping[str, float]:
    """Write predictions.jsonl, with a line for each image, and images that show the predictions; return the counts."""
    yolo.prepare(contract.scratch)
    options = predict_options(contract)
    if not contract.settings.checkpoint_key and not contract.settings.model_name.endswith(".pt"):
        raise ConfigInvalidError("CHECKPOINT_KEY is missing: set it to the weights to predict with")
    model = yolo.pretrained(contract)
    images = dataset.fetch_images(contract)

    table, objects, began, reported_at = contract.scratch / "predictions.jsonl", 0, time.monotonic(), 0.0
    with table.open("w", encoding="utf-8") as lines:
        for number, (path, result) in enumerate(results(contract, model, list(images), options), start=1):
            drawn = contract.scratch / f"{number:06}.jpg"
            result.save(filename=str(drawn))
            contract.save_result(drawn, f"images/{drawn.name}")
            drawn.unlink()
            prediction = as_json(result)
            objects += len(prediction.get("boxes", []))
            drawn_key = contract.key("results", f"images/{drawn.name}")
            line = {"file": images[path], "image": drawn_key, **prediction}
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")
            if time.monotonic() - reported_at > HEARTBEAT_SECONDS or number == len(images):
                reported_at = time.monotonic()
                eta_seconds = (reported_at - began) / number * (len(images) - number)
                contract.heartbeat(step=number, metrics={"images": number, "objects": objects}, eta_seconds=eta_seconds)
    contract.save_result(table)
    return {"images": len(images), "objects": objects}


def predict_options(contract: Contract) -> dict[str, Any]:
    """Return the keyword arguments of ``YOLO.predict``. Raises: ConfigInvalidError."""
    settings = contract.settings
    for name in yolo.hyperparameters(settings):
        if name not in OPTIONS:
            known = ", ".join(sorted(OPTIONS))
            raise ConfigInvalidError(f"HYPERPARAMETERS: {name} has no effect on a prediction; use {known}")
    options = yolo.checked({"imgsz": settings.image_size or 640, **settings.hyperparameters})
    return options | ({"device": settings.device} if settings.device else {})


def results(contract: Contract, model: Any, images: list[Path], options: dict[str, Any]) -> Iterator[tuple[Path, Any]]:
    """Yield each image with ultralytics' result."""
    size = contract.settings.batch_size
    for start in range(0, len(images), size):
        chunk = images[start : start + size]
        contract.check()
        chunk_results = model.predict([str(path) for path in chunk], stream=False, verbose=False, save=False, **options)
        yield from zip(chunk, chunk_results, strict=True)


def as_json(result: Any) -> dict[str, Any]:
    """Return one image's predictions as JSON; coordinates are pixels of the original image."""
    height, width = result.orig_shape
    prediction: dict[str, Any] = {"width": width, "height": height}
    if result.probs is not None:
        best = result.probs.top5[:PROBABILITIES]
        scores = result.probs.data.tolist()
        return prediction | {"probs": [_named(result, number, scores[number]) for number in best]}
    if result.obb is not None:
        rotated = zip(result.obb.xyxyxyxy.tolist(), result.obb.conf.tolist(), result.obb.cls.tolist(), strict=True)
        prediction["boxes"] = [
            _named(result, int(number), confidence) | {"corners": [_rounded(point) for point in corners]}
            for corners, confidence, number in rotated
        ]
        return prediction
    boxes = result.boxes.data.tolist()  # (N, 6): x1, y1, x2, y2, confidence, class
    prediction["boxes"] = [
        _named(result, int(number), confidence) | {"xyxy": _rounded(corners)} for *corners, confidence, number in boxes
    ]
    if result.masks is not None:
        for box, polygon in zip(prediction["boxes"], result.masks.xy, strict=True):
            box["mask"] = [_rounded(point) for point in polygon.tolist()]
    if result.keypoints is not None:
        for box, points in zip(prediction["boxes"], result.keypoints.data.tolist(), strict=True):
            box["keypoints"] = [_rounded(point) for point in points]
    return prediction


def _named(result: Any, number: int, confidence: float) -> dict[str, Any]:
    return {"class": number, "name": result.names[number], "confidence": round(confidence, 5)}


def _rounded(numbers: list[float]) -> list[float]:
    return [round(number, 2) for number in numbers]


if __name__ == "__main__":
    sys.exit(run(predict))
