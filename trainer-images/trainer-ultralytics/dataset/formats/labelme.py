"""labelme: a JSON file with shapes for each image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dataset import splits
from dataset.contents import Contents
from dataset.formats import shapes
from dataset.formats.json_files import JsonFile
from dataset.formats.shapes import Shape, Writer
from dataset.layout import Layout
from utils import DatasetInvalidError

MISSING = "labelme files without an image"
SHAPES = "labelme files with shapes that are no box and no polygon"
CIRCLE_POINTS = 2


class ShapeError(ValueError):
    """A shape is no box and no polygon."""


def read(files: Sequence[JsonFile], contents: Contents, task: str) -> Layout:
    """Write the labels of all files; return the dataset. Raises: DatasetInvalidError."""
    if task == "pose":
        raise DatasetInvalidError("labelme's shapes are not read as keypoints: export the dataset as COCO")
    objects: dict[Path, tuple[shapes.Size, list[Shape]]] = {}
    for file in files:
        name = contents.name(file.path)
        image = contents.with_stem(file.path)
        image = image or contents.image(str(file.data.get("imagePath") or ""), file.path.parent, what=name)
        if image is None:
            contents.report.problem(MISSING, name, "not in the archive")
            continue
        size = _size(file.data) or shapes.size_of(image)
        try:
            of_image = [_shape(one, task) for one in file.data["shapes"]]
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            contents.report.problem(SHAPES, name, str(error) if isinstance(error, ShapeError) else "not readable")
            continue
        if size is not None:
            objects[image] = size, of_image
    if not objects:
        contents.report.check()
        raise DatasetInvalidError("none of the labelme files has its image in the archive: add the images")
    names = sorted({shape.name for _, of_image in objects.values() for shape in of_image})
    if not names:
        raise DatasetInvalidError("the labelme files hold no shapes")
    writer = Writer(names, task, contents)
    images = [image for image, (size, of_image) in objects.items() if writer.write(image, size, of_image)]
    return Layout("labelme", names, splits.by_folders(images, contents), writer.files.get, contents.name)


def _size(data: Mapping[str, Any]) -> shapes.Size | None:
    width, height = data.get("imageWidth"), data.get("imageHeight")
    if isinstance(width, int | float) and isinstance(height, int | float) and width > 0 and height > 0:
        return float(width), float(height)
    return None


def _shape(shape: Mapping[str, Any], task: str) -> Shape:
    """Return an object. Raises: ShapeError, if it is no box and no polygon; TypeError, ValueError, KeyError."""
    name, kind = str(shape["label"]), shape.get("shape_type") or "polygon"
    points = [(float(x), float(y)) for x, y in shape["points"]]
    numbers = [number for point in points for number in point]
    if kind == "circle" and len(points) == CIRCLE_POINTS:
        (x, y), radius = points[0], ((points[0][0] - points[1][0]) ** 2 + (points[0][1] - points[1][1]) ** 2) ** 0.5
        return Shape(name, [x - radius, y - radius, x + radius, y + radius])
    if kind == "mask" and task == "segment":
        raise ShapeError("a bitmap mask: draw polygons, or train a model to detect (yolo11n)")
    if kind in {"rectangle", "mask"}:
        return Shape(name, numbers)
    if kind in {"polygon", "rotation"} and len(points) > 2:  # noqa: PLR2004 -- else it has no area
        return Shape(name, numbers, is_box=False)
    raise ShapeError(f"{name} is a {kind}")
