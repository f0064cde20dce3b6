"""Objects in pixels, as other formats than YOLO's have them, written as YOLO's labels."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import Image

from dataset import images, splits
from dataset.contents import Contents, are_alone
from dataset.labels import label_of
from dataset.layout import Layout
from utils import DatasetInvalidError

SAME_NAME = "images whose names differ in the suffix only: rename them"
MISSING = "images that the labels name and the archive lacks"
UNREADABLE = "annotations that cannot be read"
UNNAMED = "images that no annotation names: label them, or add them as images without objects"
OUTLINE = 32  # corners of an ellipse
ONE_CLASS = "object"  # the name of the only class, if there is none
Size = tuple[float, float]


class Shape(NamedTuple):
    """One object: a box, whose points are two corners, or a polygon; in pixels."""

    name: str
    points: Sequence[float]  # x, y, x, y, …
    is_box: bool = True
    keypoints: Sequence[float] = ()  # x, y, visibility, …


class Annotated(NamedTuple):
    """An image as a file of annotations names it; the points of its objects may be fractions of its size."""

    file: Path  # with the annotations
    image: str
    shapes: list[Shape]
    size: Size | None = None
    split: str = ""
    is_fraction: bool = False
    problem: str = ""  # why its annotations cannot be read


def rotated(box: Sequence[float], degrees: float, around: tuple[float, float] | None = None) -> list[float]:
    """Return the four corners of a box of two corners, turned clockwise around its centre, or another point."""
    left, top, right, bottom = box
    x, y = around or ((left + right) / 2, (top + bottom) / 2)
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    corners = [(left - x, top - y), (right - x, top - y), (right - x, bottom - y), (left - x, bottom - y)]
    return [number for a, b in corners for number in (x + a * cosine - b * sine, y + a * sine + b * cosine)]


def ellipse(x: float, y: float, across: float, down: float, degrees: float = 0) -> list[float]:
    """Return a polygon for an ellipse around x, y with these radii, turned clockwise."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    angles = [math.tau * step / OUTLINE for step in range(OUTLINE)]
    points = [(across * math.cos(angle), down * math.sin(angle)) for angle in angles]
    return [number for a, b in points for number in (x + a * cosine - b * sine, y + a * sine + b * cosine)]


def layout(kind: str, annotated: Iterable[Annotated], contents: Contents, task: str) -> Layout:
    """Write the labels of all images; return the dataset, read of a kind of file. Raises: DatasetInvalidError."""
    objects, of_splits, report = dict[Path, tuple[Size, list[Shape]]](), dict[Path, str](), contents.report
    entries = list(annotated)
    is_alone = are_alone(entry.image for entry in entries)
    for entry in entries:
        name = contents.name(entry.file)
        image = _image(entry, contents, is_alone=is_alone)
        if image is None:
            report.problem(MISSING, f"{name}: {entry.image}", "not in the archive")
            continue
        if entry.problem:
            report.problem(UNREADABLE, contents.name(image), f"{entry.problem}, in {name}")
            continue
        size = (1.0, 1.0) if entry.is_fraction else entry.size or size_of(image)
        if size is not None:  # else the check of the images says what is wrong
            objects.setdefault(image, (size, []))[1].extend(entry.shapes)
            of_splits[image] = entry.split
    names = sorted({shape.name for _, shapes in objects.values() for shape in shapes})
    if not names:
        report.check()
        what = "hold no objects that the model can learn" if objects else "name no image of the archive: add the images"
        raise DatasetInvalidError(f"the labels, {kind}, {what}")
    for image in sorted(set(contents.images) - objects.keys()):
        report.skip(UNNAMED, contents.name(image), "not used")
    writer, images_of = Writer(names, task, contents), defaultdict[str, list[Path]](list)
    for image, (size, shapes) in objects.items():
        if writer.write(image, size, shapes):
            images_of[of_splits[image]].append(image)
    format_name = kind.partition("'s ")[0].lower()  # of CVAT's XML
    return Layout(format_name, names, splits.by_files(images_of, contents), writer.files.get, contents.name)


def _image(entry: Annotated, contents: Contents, *, is_alone: bool) -> Path | None:
    """Return the image: beside the file of annotations, in a folder of its split, or wherever it is."""
    folders = [entry.file.parent]
    folders += [
        folder
        for folder in contents.image_folders
        if entry.split and entry.split == next(reversed(contents.split_words(folder / "image")), "")
    ]
    image = contents.image(entry.image, *folders, what=contents.name(entry.file), is_alone=is_alone)
    if image is None and not images.is_image(entry.image):  # an id
        return contents.with_stem(entry.file.parent / f"{PurePosixPath(entry.image).name}.json")
    return image


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
