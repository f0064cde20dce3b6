"""Hand-made results of trainings, as trainers store them: sample sheets with their images, report.json, predictions."""

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw

CLASSES = ["cat", "dog", "<b>bird</b>"]
COLOURS = [(176, 74, 20), (44, 96, 160), (30, 130, 90)]
WIDTH, HEIGHT = 320, 240
IMAGES = 6
#: the keys below results/job-{id}/, and their contents
Files = Iterator[tuple[str, bytes]]


def detection(*, epochs: tuple[int, ...] = (1, 20, 60), bad: float = 0) -> Files:
    """Yield the sheets of a detection, whose predictions come closer to the truth from epoch to epoch."""
    for number in range(IMAGES):
        yield f"samples/images/{number:03}.jpg", _drawn(number)
    for epoch in epochs:
        yield f"samples/epoch-{epoch:04}.json", _sheet(epoch, "detect", [_boxes(n, epoch, bad) for n in range(IMAGES)])
    yield "report.json", json.dumps(report(bad=bad)).encode()
    yield "report.html", b"<!doctype html><title>Report</title><h1>Report</h1>"


def classification() -> Files:
    """Yield the sheet of a classification: the second image is classified wrong."""
    for number in range(3):
        yield f"samples/images/{number:03}.jpg", _drawn(number)
    likely = [[(0, 0.91), (1, 0.06), (2, 0.03)], [(0, 0.55), (1, 0.4), (2, 0.05)], [(2, 0.99), (0, 0.01), (1, 0.0)]]
    images = [
        {"truth": [{"class": number}], "predictions": [{"class": c, "confidence": p} for c, p in likely[number]]}
        for number in range(3)
    ]
    yield "samples/epoch-0003.json", _sheet(3, "classify", images)
    yield "report.json", json.dumps(report(classes=60)).encode()


def report(*, classes: int = len(CLASSES), bad: float = 0) -> dict[str, Any]:
    """Return a report of so many classes."""
    names = CLASSES if classes == len(CLASSES) else [f"class {number}" for number in range(classes)]
    labels = [*names, "background"]
    counts = [[40 if i == j else (3 * i + 5 * j) % 4 for j in range(len(labels))] for i in range(len(labels))]
    counts[0][1] = 17
    confidence = [number / 100 for number in range(101)]
    recall = [0.97 * (1 - c**4) for c in confidence]
    precision = [0.35 + 0.64 * math.sqrt(c) - bad / 4 for c in confidence]
    f1 = [2 * p * r / (p + r) for p, r in zip(precision, recall, strict=True)]
    rows = [
        {"name": name, "images": 30 + n, "instances": 42 - n, "precision": 0.9 - n / 100, "recall": 0.8 + n / 300}
        | {"f1": None if n == 1 else 0.85 - n / 200, "ap50": 0.93 - n / 50 - bad / 4, "ap": 0.71 - n / 60 - bad / 4}
        for n, name in enumerate(names)
    ]
    return {
        "version": 1,
        "task": "detect",
        "model": "yolo11n.pt",
        "epoch": 52,
        "epochs": 60,
        "classes": names,
        "metrics": {},
        "confusion_matrix": {"labels": labels, "counts": counts},
        "per_class": rows,
        "curves": {
            "confidence": confidence,
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "pr": {"recall": confidence, "precision": [1 - 0.9 * c**3 for c in confidence]},
        },
        "settings": {},
        "dataset": {},
    }


def _sheet(epoch: int, task: str, images: Sequence[Mapping[str, Any]]) -> bytes:
    described = [
        {"file": f"samples/images/{n:03}.jpg", "name": f"val/image {n}.jpg", "width": WIDTH, "height": HEIGHT, **image}
        for n, image in enumerate(images)
    ]
    sheet = {"version": 1, "epoch": epoch, "task": task, "classes": CLASSES, "images": described}
    return json.dumps(sheet).encode()


def places(number: int) -> list[tuple[int, list[float]]]:
    """Return the class and the box of each object of an image, as shares of it."""
    return [
        ((number + n) % len(CLASSES), [0.08 + 0.3 * n, 0.2 + 0.13 * ((number + n) % 3), 0.24, 0.36])
        for n in range(2 + number % 2)
    ]


def _boxes(number: int, epoch: int, bad: float) -> dict[str, Any]:
    truth = [{"class": kind, "box": box} for kind, box in places(number)]
    off = 0.12 / epoch + bad / 5
    predictions = [
        {"class": kind, "confidence": round(0.97 - off * 3 - n / 20, 3), "box": [x + off, y - off / 2, w, h]}
        for n, (kind, (x, y, w, h)) in enumerate(places(number))
    ]
    predictions.append({"class": 1, "confidence": 0.12, "box": [0.6, 0.05, 0.3, 0.2]})
    if number == 1:
        corners = [[0.1, 0.3], [0.3, 0.28], [0.32, 0.6], [0.12, 0.66]]
        predictions[0] |= {"polygon": corners}
        truth[0] |= {"keypoints": [[0.15, 0.4], [0.25, 0.5]]}
    return {"truth": truth, "predictions": predictions}


def _drawn(number: int) -> bytes:
    image = Image.new("RGB", (WIDTH, HEIGHT), (226, 220, 208) if number % 2 else (70, 82, 92))
    draw = ImageDraw.Draw(image)
    for kind, (x, y, w, h) in places(number):
        corners = (x * WIDTH, y * HEIGHT, (x + w) * WIDTH, (y + h) * HEIGHT)
        (draw.ellipse if kind else draw.rectangle)(corners, fill=COLOURS[kind])
    content = io.BytesIO()
    image.save(content, "JPEG")
    return content.getvalue()
