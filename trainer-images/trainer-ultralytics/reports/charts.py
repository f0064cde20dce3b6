"""Line charts as coordinates of an SVG of 480 x 240."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

WIDTH, HEIGHT = 480, 240
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 30
POINTS = 300  # of a line: more cannot be told apart
MARKED = 30  # points that are drawn as dots, too
_HIDDEN = {"epoch", "time", "seconds"}  # columns that are no curves
_KINDS = {"(B)": "boxes", "(M)": "masks", "(P)": "poses"}  # ultralytics' marks


class Line(NamedTuple):
    """A curve: its name, and its points in the order of x."""

    name: str
    points: list[tuple[float, float]]


class Tick(NamedTuple):
    """A mark of an axis: its place in the SVG, and its text."""

    at: float
    text: str


class Curve(NamedTuple):
    """A line of a chart as the SVG has it."""

    name: str
    path: str
    dots: list[tuple[float, float]]
    first: str
    last: str


class Chart(NamedTuple):
    """A chart as the template draws it."""

    title: str
    x_label: str
    curves: list[Curve]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    note: str = ""


def chart(title: str, x_label: str, lines: Sequence[Line], y_range: tuple[float, float] | None = None) -> Chart | None:
    """Return a chart; None if there are no points."""
    points = [point for line in lines for point in line.points]
    if not points:
        return None
    x_ticks = ticks(min(x for x, _ in points), max(x for x, _ in points))
    y_ticks = ticks(*(y_range or (min(y for _, y in points), max(y for _, y in points))))
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low or 1)
        up = (y - y_low) / (y_high - y_low or 1)
        return round(LEFT + across * (WIDTH - LEFT - RIGHT), 1), round(
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1
        )

    curves = []
    for line in lines:
        placed = [place(x, y) for x, y in thinned(line.points)]
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in placed) if placed else ""
        ends = [f"{line.points[index][1]:.4g}" for index in (0, -1)] if placed else ["", ""]
        curves.append(Curve(line.name, path, placed if len(placed) <= MARKED else [], *ends))
    return Chart(
        title,
        x_label,
        curves,
        [
            Tick(place(x, 0)[0], f"{x:.6g}")
            for x in x_ticks
            if x_low <= x <= x_high and (x_label != "epoch" or abs(x - round(x)) < 1e-6)  # noqa: PLR2004 -- a whole one
        ],
        [Tick(place(0, y)[1], f"{y:.4g}") for y in y_ticks],
    )


def thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most 300 points, evenly chosen, with the first and the last."""
    if len(points) <= POINTS:
        return points
    step = (len(points) - 1) / (POINTS - 1)
    return [points[round(number * step)] for number in range(POINTS)]


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers from ``low`` or below to ``high`` or above."""
    if high <= low:
        low, high = low - abs(low) / 2, high + (abs(high) / 2 or 1.0)
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def of_history(history: Sequence[dict[str, float]]) -> list[Chart]:
    """Return the charts of a training: losses of train and validation together, metrics of a kind together."""
    lines = defaultdict[str, list[Line]](list)
    for name in dict.fromkeys(name for row in history for name in row if name not in _HIDDEN):
        points = [(row["epoch"], row[name]) for row in history if math.isfinite(row.get(name, math.nan))]
        title, curve = _grouped(name)
        lines[title].append(Line(curve, points))
    ordered = sorted(lines.items(), key=lambda item: "learning rate" in item[0])
    charts = [chart(title, "epoch", of_title) for title, of_title in ordered]
    return [one for one in charts if one is not None]


def _grouped(name: str) -> tuple[str, str]:
    """Return the title of a metric's chart, and the name of its curve there."""
    split, _, rest = name.partition("/")
    if split in {"train", "val"} and rest:
        return rest.replace("_", " "), {"train": "train", "val": "validation"}[split]
    if split == "lr":
        return "learning rate", rest or "learning rate"
    text = readable(name)
    if re.match(r"precision|recall", text):
        return f"precision and recall{text.removeprefix('precision').removeprefix('recall')}", text
    return re.sub(r"\d+(-\d+)?", "", text).replace("  ", " ").strip(), text


def readable(name: str) -> str:
    """Return a metric's readable name: ``metrics/mAP50(B)`` is mAP50 of boxes."""
    text = name.removeprefix("metrics/").replace("_", " ")
    for mark, kind in _KINDS.items():
        text = text.replace(mark, f" of {kind}")
    return text


def of_curves(curves: dict[str, Any]) -> list[Chart]:
    """Return the charts of report.json's ``curves``."""
    if not curves:
        return []
    lines = [Line(name, _points(curves["confidence"], curves.get(key))) for name, key in _BY_CONFIDENCE]
    by_recall = curves.get("pr") or {"recall": [], "precision": []}
    by_confidence = chart("precision, recall and F1", "confidence", lines, (0, 1))
    if by_confidence is not None and lines[-1].points:
        at, best = max(lines[-1].points, key=lambda point: point[1])
        by_confidence = by_confidence._replace(note=f"F1 is best at {at:.2f}: {best:.3f}" if best else "")
    of_recall = [Line("precision", _points(by_recall["recall"], by_recall["precision"]))]
    charts = [by_confidence, chart("precision", "recall", of_recall, (0, 1))]
    return [one for one in charts if one is not None]


_BY_CONFIDENCE = (("precision", "precision"), ("recall", "recall"), ("F1", "f1"))


def _points(xs: list[float], ys: list[float | None] | None) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(xs, ys or [None] * len(xs), strict=True) if y is not None]
