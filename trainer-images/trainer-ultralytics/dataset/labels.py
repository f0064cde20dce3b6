"""Check YOLO labels: a text file for each image, a line for each object."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset.report import Report
from utils import DatasetInvalidError

FILE_LIMIT_BYTES = 50_000_000
TOLERANCE = 0.01  # for rounding, outside of 0 to 1: the same as ultralytics'
BOX = 5  # columns: class, x, y, width, height
SMALLEST_POLYGON = 7  # columns: class and three points
MOST_KEYPOINTS = 1_000


@dataclass(frozen=True)
class Rules:
    """The format of a line."""

    task: str
    classes: int
    keypoints: int = 0
    dimensions: int = 0  # of a keypoint: 2, or 3 with its visibility

    @classmethod
    def of(cls, data: Mapping[str, Any], task: str) -> "Rules":
        """Return the rules of a data.yaml. Raises: DatasetInvalidError."""
        if task != "pose":
            return cls(task, len(data["names"]))
        shape, flip = data.get("kpt_shape"), data.get("flip_idx")
        if not isinstance(shape, list) or [type(n) for n in shape] != [int, int] or shape[1] not in {2, 3}:
            raise DatasetInvalidError("data.yaml: kpt_shape must be [number of keypoints, 2 or 3]")
        if not 0 < shape[0] <= MOST_KEYPOINTS:
            raise DatasetInvalidError(f"data.yaml: kpt_shape: 1 to {MOST_KEYPOINTS} keypoints")
        if flip is not None and (
            not isinstance(flip, list) or sorted(map(str, flip)) != sorted(map(str, range(shape[0])))
        ):
            raise DatasetInvalidError(f"data.yaml: flip_idx must hold each of 0 to {shape[0] - 1} once")
        return cls(task, len(data["names"]), shape[0], shape[1])


def check(
    images_of: Mapping[str, Iterable[Path]],
    root: Path,
    rules: Rules,
    report: Report,
    check_stopped: Callable[[], None],
) -> None:
    """Check the labels of all images. Images without a label file count as background.

    Raises:
        DatasetInvalidError: the message names file and line.
    """
    for split, images in images_of.items():
        missing = objects = 0
        for image in images:
            check_stopped()
            path = label_of(image)
            if path.is_file():
                objects += check_file(path, str(path.relative_to(root)), rules)
            else:
                missing += 1
        if not objects:
            raise DatasetInvalidError(
                f"{split}: none of its images has a label; {label_of(image).relative_to(root)} is missing"
            )
        if missing:
            report.guess("background", f"{split}: {missing} images have no label file, and count as background")


def label_of(image: Path) -> Path:
    """Return the path of an image's labels: beside it, or below labels/ in place of images/, as in ultralytics."""
    before, images, after = str(image).rpartition("/images/")
    return Path(f"{before}/labels/{after}" if images else str(image)).with_suffix(".txt")


def check_file(path: Path, name: str, rules: Rules) -> int:
    """Return the number of objects. Raises: DatasetInvalidError."""
    if path.stat().st_size > FILE_LIMIT_BYTES:
        raise DatasetInvalidError(f"{name}: larger than {FILE_LIMIT_BYTES} bytes")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetInvalidError(f"{name}: not UTF-8") from error
    rows = [(number, line.split()) for number, line in enumerate(lines, start=1) if line.strip()]
    for number, row in rows:
        problem = problem_of(row, rules)
        if problem:
            raise DatasetInvalidError(f"{name}:{number}: {problem}")
    if len({len(row) == BOX for _, row in rows}) > 1 and rules.task != "pose":
        raise DatasetInvalidError(f"{name}: mixes boxes and polygons")
    return len(rows)


def problem_of(row: list[str], rules: Rules) -> str:
    """Return a message about what is wrong with a line; empty if it is valid."""
    try:
        numbers = [float(text) for text in row]
    except ValueError:
        return "not numbers only"
    if not all(math.isfinite(number) for number in numbers):
        return "a number that is not finite"
    if numbers[0] % 1 or not 0 <= numbers[0] < rules.classes:
        return f"class {row[0]}, but data.yaml has the classes 0 to {rules.classes - 1}"
    return _column_problem(len(row), rules) or _coordinate_problem(numbers, rules)


def _coordinate_problem(numbers: list[float], rules: Rules) -> str:
    coordinates = numbers[1:BOX] + _points(numbers[BOX:], rules)
    outside = [number for number in coordinates if not -TOLERANCE <= number <= 1 + TOLERANCE]
    if outside:
        return f"coordinate {outside[0]:g} is outside 0 to 1"
    if (len(numbers) == BOX or rules.task == "pose") and min(numbers[3:BOX]) <= 0:
        return "a box without width or height"
    return ""


def _column_problem(columns: int, rules: Rules) -> str:
    if rules.task == "pose":
        expected = BOX + rules.keypoints * rules.dimensions
        return "" if columns == expected else f"{columns} columns; {expected} are needed (class, box, keypoints)"
    if columns >= SMALLEST_POLYGON and columns % 2:
        return ""
    if rules.task == "segment":
        return f"{columns} columns; a polygon needs an odd number, {SMALLEST_POLYGON} or more (class, points)"
    return "" if columns == BOX else f"{columns} columns; {BOX} are needed (class, x, y, width, height)"


def _points(numbers: list[float], rules: Rules) -> list[float]:
    if rules.task != "pose":
        return numbers
    return [number for index, number in enumerate(numbers) if index % rules.dimensions < 2]  # noqa: PLR2004 -- x and y
