"""CVAT for images 1.1: one XML file for all images, with boxes that may be turned, polygons, ellipses and masks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from dataset import splits
from dataset.contents import Contents, split_of
from dataset.formats import masks, shapes
from dataset.formats.shapes import Annotated, Shape
from dataset.layout import Layout
from utils import DatasetInvalidError

NAME = "CVAT's XML"
LIMIT_BYTES = 1_000_000_000
PROBED = 10
VIDEO = "is CVAT for video, which has no images: export it as Ultralytics YOLO or COCO, with Save images"


def find(contents: Contents) -> list[Path]:
    """Return CVAT's XML files."""
    return [path for path in contents.named(".xml")[:PROBED] if b"<annotations>" in _start(path)]


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1_000)


def read(paths: list[Path], contents: Contents, task: str) -> Layout:
    """Write the labels of all files; return the dataset. Raises: DatasetInvalidError."""
    if task == "pose":
        raise DatasetInvalidError(
            "CVAT's points are not read as keypoints: export the dataset as Ultralytics YOLO Pose"
        )
    return shapes.layout(NAME, [one for path in paths for one in _images(path, contents, task)], contents, task)


def _images(path: Path, contents: Contents, task: str) -> Iterator[Annotated]:
    name = contents.name(path)
    if path.stat().st_size > LIMIT_BYTES:
        raise DatasetInvalidError(f"{name} is larger than {LIMIT_BYTES} bytes")
    try:
        root: Any = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError, RecursionError) as error:
        raise DatasetInvalidError(f"{name} cannot be read: {error or type(error).__name__}") from error
    if root.find("track") is not None:
        raise DatasetInvalidError(f"{name} {VIDEO}")
    of_file = splits.of_file(path, contents)
    for image in root.iter("image"):
        split = split_of(image.get("subset") or "") or of_file
        try:
            size = float(image.get("width")), float(image.get("height"))
            objects = [shape for one in image if (shape := _shape(one, task)) is not None]
        except (TypeError, ValueError, AttributeError, OverflowError):
            yield Annotated(path, image.get("name") or "", [], split=split, problem="an object that cannot be read")
            continue
        yield Annotated(path, image.get("name") or "", objects, size, split)


def _shape(element: Any, task: str) -> Shape | None:
    """Return an object; None for tags, points and lines. Raises: TypeError, ValueError, if it cannot be read."""
    name, turned = element.get("label") or "", float(element.get("rotation") or 0)
    if element.tag == "box":
        corners = [float(element.get(key)) for key in ("xtl", "ytl", "xbr", "ybr")]
        is_turned = turned or task == "obb"  # CVAT's boxes have a rotation, which may be 0
        return Shape(name, shapes.rotated(corners, turned), is_box=task != "obb") if is_turned else Shape(name, corners)
    if element.tag == "polygon":
        points = [float(number) for point in element.get("points").split(";") for number in point.split(",")]
        return Shape(name, points, is_box=False)
    if element.tag == "ellipse":
        x, y, across, down = (float(element.get(key)) for key in ("cx", "cy", "rx", "ry"))
        return Shape(name, shapes.ellipse(x, y, across, down, turned), is_box=False)
    if element.tag == "mask":
        left, top, width, height = (int(element.get(key)) for key in ("left", "top", "width", "height"))
        counts = [int(count) for count in element.get("rle").split(",")]  # along the rows of its box
        points = masks.outline(masks.mask(counts, height, width), left, top)
        return Shape(name, points, is_box=False) if points else None
    return None
