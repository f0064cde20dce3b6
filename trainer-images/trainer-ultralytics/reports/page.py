"""report.html: one file that shows a training without anything else."""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from PIL import Image

from reports import charts, tables
from reports.content import Content
from reports.previews import jpeg
from reports.samples import Epoch

IMAGES_BYTES = 1_600_000  # of all images as JPEG; a third more as text
_SIZES = ((640, 80), (480, 75), (360, 70), (240, 60))  # the longest side, and JPEG's quality
_OBJECTS, _NAMED, _LISTED, _COLOURS = 25, 28, 20, 8
_TILES = 6
#: what dataset.json may lack
_ABSENT: dict[str, Any] = {
    **dict.fromkeys(("dataset", "format"), ""),
    **dict.fromkeys(("bytes", "files", "left_out", "duplicate_count"), 0),
    "guesses": [],
    "problems": [],
    "image_sizes": {},
}


class Overlay(NamedTuple):
    """What is drawn over an image after one epoch, or its labels; coordinates are pixels of the image."""

    epoch: int
    shapes: list[dict[str, Any]]
    caption: str
    is_wrong: bool = False  # the likeliest class is not the label


class Figure(NamedTuple):
    """An image with what is drawn over it."""

    name: str
    source: str
    width: int
    height: int
    truth: Overlay
    predictions: list[Overlay]


def render(report: Mapping[str, Any], content: Content, samples: Sequence[Epoch], folder: Path, job_id: str) -> str:
    """Return report.html for a report and its training; ``folder`` has the images of the samples."""
    dataset, history = content.dataset, content.history
    matrix = report.get("confusion_matrix")
    return _template().render(
        report=report,
        job_id=job_id,
        written_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        tiles=[(charts.readable(name), value) for name, value in _important(report["metrics"])][:_TILES],
        metrics={charts.readable(name): value for name, value in report["metrics"].items()},
        charts=charts.of_history(history),
        curves=charts.of_curves(report.get("curves") or {}),
        confusion=tables.confusion(matrix),
        mistakes=tables.mistakes(matrix),
        per_class=tables.per_class(report.get("per_class")),
        epochs=tables.epochs(history),
        figures=figures(samples, folder),
        sample_epochs=[one["epoch"] for one in samples],
        settings=_flat(report["settings"]),
        dataset=_ABSENT | dict(dataset),
        splits=[(name, split) for name, split in dataset.get("splits", {}).items() if isinstance(split, Mapping)],
        classes=_by_class(dataset),
        listed=_LISTED,
        size=charts,
    )


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html")


def _important(metrics: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the metrics, the most important first: accuracy and precision before losses."""
    return sorted(metrics.items(), key=lambda item: "loss" in item[0] or item[0].startswith("lr"))


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    options = settings.get("hyperparameters") or {}
    return {name: value for name, value in settings.items() if name != "hyperparameters"} | options


def _by_class(dataset: Mapping[str, Any]) -> tables.Table | None:
    """Return how many images or objects each class has in each split."""
    splits = {name: split.get("classes", {}) for name, split in dataset.get("splits", {}).items()}
    totals = Counter[str]()
    for counts in splits.values():
        totals.update(counts)
    names = [name for name in dataset.get("classes", ()) if name in totals]
    if not names:
        return None
    kept = sorted(names, key=lambda name: totals[name])[: tables.CLASSES] if len(names) > tables.CLASSES else names
    note = f"the {len(kept)} rarest of {len(names)} classes; dataset.json has all" if len(kept) < len(names) else ""
    rows = [(name, [tables.Cell(str(counts.get(name, 0))) for counts in splits.values()]) for name in kept]
    return tables.Table(["class", *splits], rows, note)


def figures(samples: Sequence[Epoch], folder: Path) -> list[Figure]:
    """Return the images of the last samples; samples of other images are left out."""
    if not samples:
        return []
    images, classes = samples[-1]["images"], samples[-1]["classes"]
    sources = _inlined([folder / image["file"] for image in images])
    shown = []
    for image, source in zip(images, sources, strict=True):
        if source is None:
            continue
        size = (image["width"], image["height"])
        drawn = []
        for one in samples:
            same = next((other for other in one["images"] if other["name"] == image["name"]), None)
            if same is not None:
                overlay = _overlay(one["epoch"], same["predictions"], classes, size)
                drawn.append(overlay._replace(is_wrong=_is_wrong(same)))
        truth = _overlay(0, image["truth"], classes, size)
        shown.append(Figure(image["name"], source, *size, truth, drawn))
    return shown


def _inlined(paths: Sequence[Path]) -> list[str | None]:
    """Return images as data: links, scaled down if they are too large in total; None for a missing image."""
    contents: list[bytes | None] = []
    for longest_side, quality in _SIZES:
        contents = [_content(path, longest_side, quality) for path in paths]
        if sum(len(content or b"") for content in contents) <= IMAGES_BYTES:
            break
    return [
        None if content is None else f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
        for content in contents
    ]


def _content(path: Path, longest_side: int, quality: int) -> bytes | None:
    if not path.exists():
        return None
    if longest_side == _SIZES[0][0]:
        return path.read_bytes()
    with Image.open(path) as image:
        return jpeg(image, longest_side, quality)


def _overlay(
    epoch: int, objects: Sequence[Mapping[str, Any]], classes: Sequence[str], size: tuple[int, int]
) -> Overlay:
    shapes = [_shape(one, classes, size) for one in objects[:_OBJECTS] if "box" in one]
    if objects and "box" not in objects[0]:
        caption = ", ".join(_label(one, classes) for one in objects)
    else:
        counts = Counter(_name(one, classes) for one in objects)
        caption = ", ".join(f"{count} {name}" for name, count in counts.most_common(5)) or "nothing"
    return Overlay(epoch, shapes, caption)


def _is_wrong(image: Mapping[str, Any]) -> bool:
    truth, predictions = image["truth"], image["predictions"]
    is_classified = bool(truth and predictions) and "box" not in truth[0]
    return is_classified and truth[0]["class"] != predictions[0]["class"]


def _shape(one: Mapping[str, Any], classes: Sequence[str], size: tuple[int, int]) -> dict[str, Any]:
    width, height = size
    x, y, across, down = one["box"]
    points = one.get("polygon") or []
    text_size = max(width / 20, height / 15)  # 12 pixels in a card of 240 x 180
    is_right_half = x + across / 2 > 0.6  # noqa: PLR2004 -- else its text would leave the image
    return {
        "text_size": round(text_size, 1),
        "is_right_half": is_right_half,
        "text_x": round(min((x + across) * width, width - 2) if is_right_half else max(x * width, 2), 1),
        "text_y": round(max(y * height - text_size / 4, text_size), 1),
        "x": round(x * width, 1),
        "y": round(y * height, 1),
        "width": round(max(across * width, 0), 1),
        "height": round(max(down * height, 0), 1),
        "polygon": " ".join(f"{px * width:.0f},{py * height:.0f}" for px, py in points),
        "points": [(round(px * width, 1), round(py * height, 1)) for px, py in one.get("keypoints") or []],
        "label": _label(one, classes),
        "colour": one["class"] % _COLOURS,
    }


def _label(one: Mapping[str, Any], classes: Sequence[str]) -> str:
    confidence = f" {one['confidence']:.0%}" if "confidence" in one else ""
    return f"{_name(one, classes)}{confidence}"


def _name(one: Mapping[str, Any], classes: Sequence[str]) -> str:
    name = classes[one["class"]] if one["class"] < len(classes) else str(one["class"])
    return name if len(name) <= _NAMED else f"{name[: _NAMED - 1]}…"
