"""YOLO labels: a text file for each image, a row for each object. Read as the model's task needs them, and repaired.

Coordinates a hair outside of the image are clipped, and rows without an area or repeated ones are dropped. An image
whose labels cannot be read is left out, as ultralytics does.
"""

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dataset import text
from utils import DatasetInvalidError

FILE_LIMIT_BYTES = 50_000_000
ROUNDING = 0.01  # outside of 0 to 1, which ultralytics accepts as it is
HAIR = 0.1  # outside of 0 to 1, which is clipped
PIXELS = 2.0  # a coordinate above is not a fraction of the image
BOX = 5  # columns: class, x, y, width, height
POLYGON = 7  # columns or more: class and three points
CORNERS = 9  # columns: class and four points, for OBB
MOST_KEYPOINTS = 1_000
VISIBLE = 3  # dimensions of a keypoint: x, y, visibility

NOT_NUMBERS = "label files with words: only numbers are read"
NAMED = "label files with the names of classes: write each class's number"
COMMAS = "label files with commas: separate by spaces, and write decimals with a point"
DOTA = "label files in DOTA's format: convert them with ultralytics' convert_dota_to_yolo_obb"
UNKNOWN = "label files with a class that the dataset does not name"
UNUSED = "a number that names leaves out: number the classes in names as in the labels"
FROM_ONE = "label files with a class that the dataset does not name; the classes seem to count from 1: count from 0"
IN_PIXELS = (
    "label files in pixels: divide x and width by the image's width, y and height by its height; x, y are the centre"
)
OUTSIDE = "label files with coordinates outside of the image"
COLUMNS = "label files with the wrong number of columns"
CONFIDENCE = "label files of predictions, with a confidence in each row: save them without it (save_conf=False)"
NO_POLYGON = (
    "label files with boxes, but the model needs polygons: label polygons, or train a model to detect (yolo11n)"
)
NO_CORNERS = "label files with upright boxes, but an OBB model needs four corners: train a model to detect (yolo11n)"
NO_KEYPOINTS = "label files without keypoints, but the model needs them: train a model to detect (yolo11n)"
UNREADABLE = "label files that cannot be read"


@dataclass(frozen=True)
class Rules:
    """What a row holds."""

    task: str
    names: tuple[str, ...]
    keypoints: int = 0
    dimensions: int = 0  # of a keypoint: 2, or 3 with its visibility
    unused: frozenset[int] = frozenset()  # the numbers that are no classes

    @property
    def pose_columns(self) -> int:
        """The columns of a row with keypoints; 0 if the dataset has none."""
        return BOX + self.keypoints * self.dimensions if self.keypoints else 0


class Problem(NamedTuple):
    """Why a file of labels cannot be used."""

    kind: str
    reason: str


@dataclass
class Labels:
    """The rows of one file."""

    rows: list[list[float]] = field(default_factory=list)
    problem: Problem | None = None
    #: what was changed, by kind; empty if ultralytics can read the file as it is
    repairs: Counter[str] = field(default_factory=Counter)

    def text(self) -> str:
        """Return the rows as ultralytics reads them."""
        return "".join(f"{int(row[0])} {' '.join(f'{number:.6g}' for number in row[1:])}\n" for row in self.rows)


class RowError(Exception):
    """A row cannot be used."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def label_of(image: Path) -> Path:
    """Return the path of an image's labels: beside it, or below labels/ in place of images/, as in ultralytics."""
    before, images, after = str(image).rpartition("/images/")
    return Path(f"{before}/labels/{after}" if images else str(image)).with_suffix(".txt")


def read(path: Path, rules: Rules) -> Labels:
    """Read and repair one file; this function may run in another process."""
    try:
        content = text.read(path, path.name, FILE_LIMIT_BYTES)
    except DatasetInvalidError as error:
        return Labels(problem=Problem(UNREADABLE, str(error)))
    labels = Labels()
    if not content.is_utf8:
        labels.repairs["an encoding other than UTF-8"] += 1
    elif not content.text.isascii() or "_" in content.text:  # Python reads more digits than other programs
        labels.repairs["unusual characters"] += 1
    seen = set[bytes]()
    for number, line in enumerate(content.text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        try:
            row = _row(words, rules, labels.repairs)
        except RowError as error:
            return Labels(problem=Problem(error.kind, f"line {number}: {error}"))
        if row is None:
            continue
        if (same := array("f", row).tobytes()) in seen:  # as ultralytics compares
            labels.repairs["repeated rows"] += 1
        else:
            seen.add(same)
            labels.rows.append(row)
    if rules.task == "detect" and len({len(row) == BOX for row in labels.rows}) > 1:
        labels.rows = [_box_around(row) for row in labels.rows]
        labels.repairs["boxes and polygons in one file, read as boxes"] += 1
    return labels


def _row(words: Sequence[str], rules: Rules, repairs: Counter[str]) -> list[float] | None:
    """Return the numbers of a row, or None if it has no area. Raises: RowError."""
    try:
        row = [float(word) for word in words]
    except ValueError:
        raise _no_numbers(words, rules) from None
    if not all(map(math.isfinite, row)):
        raise RowError(NOT_NUMBERS, "a number that is not finite")
    if row[0] % 1 or not 0 <= row[0] < len(rules.names):
        raise RowError(UNKNOWN, f"class {words[0]}; those of 0 to {len(rules.names) - 1} are named")
    if int(row[0]) in rules.unused:
        raise RowError(UNUSED, f"class {words[0]}")
    row = _columns(row, rules, repairs)
    if len(row) == BOX or rules.task == "pose":
        row[1:BOX] = _box(row[1:BOX], repairs)
        has_area = min(row[3:BOX]) > 0
    else:
        row[1:] = _polygon(row[1:], repairs)
        has_area = max(row[1::2]) > min(row[1::2]) and max(row[2::2]) > min(row[2::2])
    if not has_area:
        repairs["rows without an area"] += 1
        return None
    if rules.task == "pose":
        row[BOX:] = _keypoints(row[BOX:], rules, repairs)
    return row


def _no_numbers(words: Sequence[str], rules: Rules) -> RowError:
    line = " ".join(words)
    if "," in line:
        return RowError(COMMAS, repr(line[:40]))
    if len(words) == CORNERS + 1 and words[-1].isdecimal():
        return RowError(DOTA, repr(line[:40]))
    known = [number for number, name in enumerate(rules.names) if line.startswith(f"{name} ")]
    if known:
        return RowError(NAMED, f"{rules.names[known[0]]} is {known[0]}")
    return RowError(NOT_NUMBERS, repr(line[:40]))


def _columns(row: list[float], rules: Rules, repairs: Counter[str]) -> list[float]:
    """Return the columns that the task needs. Raises: RowError."""
    count = len(row)
    if rules.task == "pose":
        if count == rules.pose_columns:
            return row
        if count == BOX:
            raise RowError(NO_KEYPOINTS, f"{BOX} columns")
        raise RowError(COLUMNS, f"{count} columns; {rules.pose_columns} are needed (class, box, keypoints)")
    if rules.pose_columns and count == rules.pose_columns:
        repairs["keypoints, which the model does not need"] += 1
        row, count = row[:BOX], BOX
    elif _has_keypoints(row):
        raise RowError(COLUMNS, f"{count} columns that look like keypoints: name kpt_shape in data.yaml")
    if count == BOX and rules.task in {"segment", "obb"}:
        raise RowError(NO_POLYGON if rules.task == "segment" else NO_CORNERS, f"{BOX} columns")
    if count == BOX + 1 and 0 <= row[BOX] <= 1:
        raise RowError(CONFIDENCE, f"{count} columns")
    if count != BOX and (count < POLYGON or count % 2 == 0):
        raise RowError(COLUMNS, f"{count} columns; {BOX} (class, x, y, width, height) or a polygon are needed")
    return row


def _has_keypoints(row: Sequence[float]) -> bool:
    """Return whether a row holds a box and keypoints with a visibility of 2, which no polygon may hold."""
    visible = row[BOX + 2 :: VISIBLE]
    return (len(row) - BOX) % VISIBLE == 0 and VISIBLE - 1 in visible and set(visible) <= {0, 1, 2}


def _box(box: Sequence[float], repairs: Counter[str]) -> list[float]:
    """Return a box within the image. Raises: RowError."""
    _refuse_outside(box)
    if min(box[2:]) < -ROUNDING:
        raise RowError(OUTSIDE, f"a width or height of {min(box[2:]):g}")
    if min(box) >= -ROUNDING and max(box) <= 1 + ROUNDING:
        return list(box)
    repairs["coordinates clipped to the image"] += 1
    x, y, width, height = box
    left, right = _clipped(x - width / 2), _clipped(x + width / 2)
    top, bottom = _clipped(y - height / 2), _clipped(y + height / 2)
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


def _polygon(points: Sequence[float], repairs: Counter[str]) -> list[float]:
    """Return a polygon within the image. Raises: RowError."""
    _refuse_outside(points)
    if min(points) >= -ROUNDING and max(points) <= 1 + ROUNDING:
        return list(points)
    repairs["coordinates clipped to the image"] += 1
    return [_clipped(number) for number in points]


def _keypoints(numbers: Sequence[float], rules: Rules, repairs: Counter[str]) -> list[float]:
    """Return keypoints within the image; those far outside of it count as not labelled. Raises: RowError."""
    result: list[float] = []
    for start in range(0, len(numbers), rules.dimensions):
        x, y, *visibility = numbers[start : start + rules.dimensions]
        _refuse_pixels((x, y))
        if min(x, y) >= -ROUNDING and max(x, y) <= 1 + ROUNDING:
            result += [x, y, *visibility]
        elif min(x, y) >= -HAIR and max(x, y) <= 1 + HAIR and visibility != [0]:
            repairs["coordinates clipped to the image"] += 1
            result += [_clipped(x), _clipped(y), *visibility]
        else:  # ultralytics takes a visibility of 0, or without one a coordinate below 0, as not labelled
            repairs["keypoints outside of the image, read as not labelled"] += 1
            result += [0, 0, 0] if visibility else [-ROUNDING / 10, -ROUNDING / 10]
    return result


def _refuse_outside(numbers: Sequence[float]) -> None:
    _refuse_pixels(numbers)
    outside = [number for number in numbers if not -HAIR <= number <= 1 + HAIR]
    if outside:
        raise RowError(OUTSIDE, f"{outside[0]:g} is not between 0 and 1")


def _refuse_pixels(numbers: Sequence[float]) -> None:
    if max(numbers) > PIXELS:
        raise RowError(IN_PIXELS, f"{max(numbers):g}")


def _clipped(number: float) -> float:
    return min(max(number, 0.0), 1.0)


def _box_around(row: Sequence[float]) -> list[float]:
    """Return the box around a polygon; a box stays as it is."""
    if len(row) == BOX:
        return list(row)
    left, right, top, bottom = min(row[1::2]), max(row[1::2]), min(row[2::2]), max(row[2::2])
    return [row[0], (left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
