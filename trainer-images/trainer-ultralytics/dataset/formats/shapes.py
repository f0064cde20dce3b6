"""Objects in pixels, as COCO, Pascal VOC and labelme have them, written as YOLO's labels."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from dataset import images
from dataset.contents import Contents
from dataset.labels import label_of

SAME_NAME = "images whose names differ in the suffix only: rename them"
Size = tuple[float, float]


class Shape(NamedTuple):
    """One object: a box, whose points are two corners, or a polygon; in pixels."""

    name: str
    points: Sequence[float]  # x, y, x, y, …
    is_box: bool = True
    keypoints: Sequence[float] = ()  # x, y, visibility, …


def size_of(path: Path) -> Size | None:
    """Return an image's width and height, or None if it cannot be read."""
    images.prepare()
    try:
        with Image.open(path, formats=images.FORMATS) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, ImportError):
        return None


class Writer:
    """Writes the objects of images as label files, where ultralytics looks for them."""

    def __init__(self, names: Sequence[str], task: str, contents: Contents) -> None:
        self._numbers = {name: number for number, name in enumerate(names)}
        self._task, self._contents = task, contents
        self._images: dict[Path, Path] = {}  # by label file
        self.files: dict[Path, Path] = {}  # label file by image

    def write(self, image: Path, size: Size, shapes: Iterable[Shape]) -> bool:
        """Write the labels of an image; return False if another image has the same label file."""
        path = label_of(image)
        if self._images.setdefault(path, image) != image:
            self._contents.report.problem(
                SAME_NAME, self._contents.name(image), self._contents.name(self._images[path])
            )
            return False
        rows = [[self._numbers[shape.name], *_coordinates(shape, size, self._task)] for shape in shapes]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{row[0]} {' '.join(f'{number:.6g}' for number in row[1:])}\n" for row in rows))
        self.files[image] = path
        return True


def _coordinates(shape: Shape, size: Size, task: str) -> list[float]:
    width, height = size
    xs, ys = [x / width for x in shape.points[::2]], [y / height for y in shape.points[1::2]]
    if task in {"segment", "obb"} and not shape.is_box:
        return [number for point in zip(xs, ys, strict=True) for number in point]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    box = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    if task != "pose":
        return box
    keypoints = [number / (width, height, 1)[place % 3] for place, number in enumerate(shape.keypoints)]
    return box + keypoints
