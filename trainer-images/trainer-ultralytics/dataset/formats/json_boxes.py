"""JSON of tools that name each image with its objects: CreateML, VIA, Supervisely, Datumaro, FiftyOne, Label Studio."""

import base64
import io
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image

from dataset import splits
from dataset.contents import Contents
from dataset.formats import masks, shapes
from dataset.formats.json_files import JsonFile
from dataset.formats.shapes import ONE_CLASS, Annotated, Shape, Size
from dataset.images import is_image
from dataset.layout import Layout
from dataset.report import listed
from utils import DatasetInvalidError

BRUSH = "a mask of a brush: export the project as COCO with Images"
BITMAP_LIMIT_BYTES = 100_000_000
ERRORS = (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, OSError, zlib.error)
ReadShape = Callable[[], Shape | None]


class Named(NamedTuple):
    """An image by its name, and its objects, which may turn out to be unreadable."""

    name: str
    objects: Sequence[ReadShape]
    size: Size | None = None
    is_fraction: bool = False
    split: str = ""


def read(files: Sequence[JsonFile], contents: Contents, task: str) -> Layout:
    """Write the labels of files of one kind; return the dataset. Raises: DatasetInvalidError."""
    kind = files[0].kind
    if task == "pose":
        raise DatasetInvalidError(f"{kind} is not read as keypoints: export the dataset as COCO or Ultralytics YOLO")
    return shapes.layout(kind, _annotated(files, contents, task), contents, task)


def _annotated(files: Sequence[JsonFile], contents: Contents, task: str) -> Iterator[Annotated]:
    for file in files:
        split = splits.of_file(file.path, contents)
        for one in READERS[file.kind](file, files, task):
            try:
                objects = [shape for read_shape in one.objects if (shape := read_shape()) is not None]
            except ERRORS as error:
                reason = BRUSH if BRUSH in str(error) else "an object that cannot be read"
                yield Annotated(file.path, one.name, [], split=one.split or split, problem=reason)
                continue
            yield Annotated(file.path, one.name, objects, one.size, one.split or split, one.is_fraction)


def _corners(x: Any, y: Any, width: Any, height: Any) -> list[float]:
    """Return the two corners of a box whose corner at the left and top is x, y."""
    return [float(x), float(y), float(x) + float(width), float(y) + float(height)]


def _flat(xs: Iterable[Any], ys: Iterable[Any]) -> list[float]:
    return [float(number) for point in zip(xs, ys, strict=True) for number in point]


def _size(width: Any, height: Any) -> Size | None:
    is_known = isinstance(width, int | float) and isinstance(height, int | float) and width > 0 and height > 0
    return (float(width), float(height)) if is_known else None


def _dicts(values: Any) -> list[dict[str, Any]]:
    values = list(values.values()) if isinstance(values, dict) else values
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list) else []


def _createml(file: JsonFile, _files: Sequence[JsonFile], _task: str) -> Iterator[Named]:
    for image in _dicts(file.data):
        name = image.get("image") or image.get("imagefilename") or ""
        objects = image.get("annotations") or image.get("annotation")
        yield Named(str(name), [partial(_createml_shape, one) for one in _dicts(objects)])


def _createml_shape(one: Mapping[str, Any]) -> Shape:
    box = one["coordinates"]  # whose x, y is the centre
    x, y, width, height = (float(box[key]) for key in ("x", "y", "width", "height"))
    return Shape(str(one["label"]), _corners(x - width / 2, y - height / 2, width, height))


def _bdd(file: JsonFile, _files: Sequence[JsonFile], _task: str) -> Iterator[Named]:
    for image in _dicts(file.data):
        objects = [partial(_bdd_shape, one) for one in _dicts(image.get("labels")) if one.get("box2d")]
        yield Named(str(image.get("name") or ""), objects)


def _bdd_shape(one: Mapping[str, Any]) -> Shape:
    return Shape(str(one["category"]), [float(one["box2d"][key]) for key in ("x1", "y1", "x2", "y2")])


def _fiftyone(file: JsonFile, _files: Sequence[JsonFile], _task: str) -> Iterator[Named]:
    for name, objects in file.data["labels"].items():
        read_shapes = [partial(_fiftyone_shape, one, file.data["classes"]) for one in objects or []]
        yield Named(name, read_shapes, is_fraction=True)


def _fiftyone_shape(one: Mapping[str, Any], classes: Sequence[Any]) -> Shape:
    label = one["label"]
    return Shape(str(classes[label] if isinstance(label, int) else label), _corners(*one["bounding_box"]))


def _datumaro(file: JsonFile, _files: Sequence[JsonFile], _task: str) -> Iterator[Named]:
    names = [str(one["name"]) for one in file.data["categories"].get("label", {}).get("labels", [])]
    for item in _dicts(file.data["items"]):
        image = item.get("image") or item.get("media") or {}
        height, width = image.get("size") or (None, None)
        objects = [partial(_datumaro_shape, one, names) for one in _dicts(item.get("annotations"))]
        yield Named(str(image.get("path") or item.get("id")), objects, _size(width, height))


def _datumaro_shape(one: Mapping[str, Any], names: Sequence[str]) -> Shape | None:
    kind = one["type"]
    if kind == "bbox":
        return Shape(names[one["label_id"]], _corners(*one["bbox"]))
    if kind == "rotated_bbox":
        return Shape(names[one["label_id"]], _turned_datumaro(one), is_box=False)
    if kind == "polygon":
        return Shape(names[one["label_id"]], [float(number) for number in one["points"]], is_box=False)
    if kind == "mask":
        points = masks.of_run_lengths(one["rle"])
        return Shape(names[one["label_id"]], points, is_box=False) if points else None
    return None


def _turned_datumaro(one: Mapping[str, Any]) -> list[float]:
    x, y, width, height = (float(one[key]) for key in ("cx", "cy", "w", "h"))
    return shapes.rotated(_corners(x - width / 2, y - height / 2, width, height), float(one.get("r", 0)))


def _supervisely(file: JsonFile, _files: Sequence[JsonFile], _task: str) -> Iterator[Named]:
    size = file.data["size"]
    objects = [partial(_supervisely_shape, one) for one in _dicts(file.data["objects"])]
    yield Named(file.path.name.removesuffix(".json"), objects, _size(size.get("width"), size.get("height")))


def _supervisely_shape(one: Mapping[str, Any]) -> Shape | None:
    name, kind = str(one["classTitle"]), one.get("geometryType")
    if kind == "bitmap":
        left, top = one["bitmap"]["origin"]
        points = masks.outline(_bitmap(one["bitmap"]["data"]), float(left), float(top))
        return Shape(name, points, is_box=False) if points else None
    if kind in {"rectangle", "polygon"}:
        points = [float(number) for point in one["points"]["exterior"] for number in point]
        return Shape(name, points, is_box=kind == "rectangle")
    return None


def _bitmap(data: str) -> Any:
    content = zlib.decompressobj().decompress(base64.b64decode(data), BITMAP_LIMIT_BYTES)
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        return np.asarray(image.convert("RGBA").getchannel("A" if image.has_transparency_data else "R")) > 0


def _via(file: JsonFile, files: Sequence[JsonFile], _task: str) -> Iterator[Named]:
    attribute = _via_attribute(files)
    for image in _dicts(file.data.get("_via_img_metadata", file.data)):
        objects = [partial(_via_shape, one, attribute) for one in _dicts(image.get("regions"))]
        yield Named(str(image.get("filename") or ""), objects)


def _via_attribute(files: Sequence[JsonFile]) -> str:
    """Return the attribute of regions that is the class; "" if they have none. Raises: DatasetInvalidError."""
    images = [one for file in files for one in _dicts(file.data.get("_via_img_metadata", file.data))]
    regions = [region for image in images for region in _dicts(image.get("regions"))]
    names = {str(name) for region in regions for name in region.get("region_attributes") or {}}
    usual = [name for name in names if name.strip().lower() in {"class", "label", "name", "type", "category", "object"}]
    if len(names) > 1 and len(usual) != 1:
        raise DatasetInvalidError(f"VIA's regions have the attributes {listed(sorted(names))}: call the one with the "
                                  "class label, or leave only that one")  # fmt: skip
    return next(iter(usual or names), "")


def _via_shape(one: Mapping[str, Any], attribute: str) -> Shape | None:
    shape, value = one["shape_attributes"], (one.get("region_attributes") or {}).get(attribute, "")
    if isinstance(value, dict):  # a checkbox
        (value,) = [name for name, is_set in value.items() if is_set]
    if attribute and not str(value).strip():
        raise ValueError(attribute)
    return _via_outline(str(value).strip() or ONE_CLASS, shape)


def _via_outline(name: str, shape: Mapping[str, Any]) -> Shape | None:
    kind = shape["name"]
    if kind == "rect":
        return Shape(name, _corners(*(shape[key] for key in ("x", "y", "width", "height"))))
    if kind in {"polygon", "polyline"}:
        return Shape(name, _flat(shape["all_points_x"], shape["all_points_y"]), is_box=False)
    if kind in {"circle", "ellipse"}:
        radii = ("r", "r") if kind == "circle" else ("rx", "ry")
        x, y, across, down = (float(shape[key]) for key in ("cx", "cy", *radii))
        turned = math.degrees(float(shape.get("theta", 0)))
        return Shape(name, shapes.ellipse(x, y, across, down, turned), is_box=False)
    return None


def _label_studio(file: JsonFile, _files: Sequence[JsonFile], task: str) -> Iterator[Named]:
    for image in _dicts(file.data):
        values = [value for value in (image.get("data") or image).values() if isinstance(value, str)]
        names = [value for value in values if is_image(_local(value))] or [value for value in values if "/" in value]
        done = [one for one in _dicts(image.get("annotations")) if not one.get("was_cancelled")][:1]
        results = [_label_studio_value(one) for one in _dicts(done[0].get("result"))] if done else []
        if "data" not in image:  # JSON_MIN
            results = [value for several in image.values() if isinstance(several, list) for value in _dicts(several)]
        objects = [partial(_label_studio_shape, one, task) for one in results]
        yield Named(_local(names[0]) if names else "", objects)


def _label_studio_value(result: Mapping[str, Any]) -> dict[str, Any]:
    sizes = {key: result[key] for key in ("original_width", "original_height") if key in result}
    return {**sizes, **(result.get("value") or {})}


def _local(url: str) -> str:
    """Return the name of an image: of a URL, or of Label Studio's local files (?d=folder/name)."""
    parts = urlsplit(url)
    return parse_qs(parts.query).get("d", [parts.path])[0]


def _label_studio_shape(value: Mapping[str, Any], task: str) -> Shape | None:
    kind = next((key for key in value if key.endswith("labels") and value[key]), "")
    across, down = (float(value.get(key) or 0) / 100 for key in ("original_width", "original_height"))  # of percents
    if kind == "brushlabels":
        raise ValueError(BRUSH)
    if kind == "polygonlabels":
        points = [number for x, y in value["points"] for number in (float(x) * across, float(y) * down)]
        return Shape(str(value[kind][0]), points, is_box=False)
    if kind != "rectanglelabels":
        return None
    x, y, width, height = (float(value[key]) for key in ("x", "y", "width", "height"))
    box, degrees = _corners(x * across, y * down, width * across, height * down), float(value.get("rotation") or 0)
    return Shape(str(value[kind][0]), shapes.rotated(box, degrees, (box[0], box[1])), is_box=task != "obb")


READERS: dict[str, Callable[[JsonFile, Sequence[JsonFile], str], Iterator[Named]]] = {
    "BDD100K's JSON": _bdd,
    "CreateML's JSON": _createml,
    "Datumaro's JSON": _datumaro,
    "FiftyOne's JSON": _fiftyone,
    "Label Studio's JSON": _label_studio,
    "Supervisely's JSON": _supervisely,
    "VIA's JSON": _via,
}
