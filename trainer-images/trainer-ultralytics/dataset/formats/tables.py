"""Tables of boxes: a .csv with a row for each object, as Roboflow, VoTT, Open Images and competitions have it."""

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dataset import delimited, splits, text
from dataset.contents import Contents
from dataset.formats import shapes
from dataset.formats.shapes import ONE_CLASS, Annotated, Shape
from dataset.images import is_image
from dataset.layout import Layout
from utils import DatasetInvalidError

NAME = "a table of boxes"
LIMIT_BYTES = 1_000_000_000
#: the names of columns, without what is neither letter nor digit
COLUMNS = {
    "image": (
        "filename",
        "file",
        "imagename",
        "imagepath",
        "image",
        "imageid",
        "imgname",
        "imgpath",
        "img",
        "path",
        "name",
    ),
    "left": ("xmin", "x1", "left", "roix1", "bboxxmin", "xtl"),
    "top": ("ymin", "y1", "top", "roiy1", "bboxymin", "ytl"),
    "right": ("xmax", "x2", "right", "roix2", "bboxxmax", "xbr"),
    "bottom": ("ymax", "y2", "bottom", "roiy2", "bboxymax", "ybr"),
    "name": (
        "class",
        "label",
        "classname",
        "labelname",
        "category",
        "categoryname",
        "classid",
        "labelid",
        "name",
        "object",
    ),
}
HEADERLESS = ("image", "left", "top", "right", "bottom", "name")  # of keras-retinanet
Box = tuple[str, float, float, float, float]


class Table(NamedTuple):
    """A file, where its columns are, and its rows."""

    path: Path
    columns: Mapping[str, int]
    rows: list[list[str]]


def find(contents: Contents) -> list[Table]:
    """Return the tables that hold boxes."""
    return [table for path in contents.named(".csv", ".tsv") if (table := _table(path, contents)) is not None]


def _table(path: Path, contents: Contents) -> Table | None:
    lines = text.read(path, contents.name(path), LIMIT_BYTES, contents.report).text.splitlines()
    try:
        rows = [row for row in delimited.rows(lines) if any(row)]
    except csv.Error:
        return None
    header = ["".join(filter(str.isalnum, name.casefold())) for name in rows[0]] if rows else []
    columns: dict[str, int] = {}
    for what, names in COLUMNS.items():
        number = next((header.index(name) for name in names if name in header), None)
        if number is not None and number not in columns.values():
            columns[what] = number
    if set(HEADERLESS[:-1]) <= columns.keys():
        return Table(path, columns, rows[1:])
    is_headerless = len(header) == len(HEADERLESS) and is_image(rows[0][0].strip())
    return Table(path, {what: place for place, what in enumerate(HEADERLESS)}, rows) if is_headerless else None


def read(tables: Sequence[Table], contents: Contents, task: str) -> Layout:
    """Write the labels of all tables; return the dataset. Raises: DatasetInvalidError."""
    if task != "detect":
        raise DatasetInvalidError(f"{NAME} holds boxes only, and the model is for {task}: use one to detect (yolo11n)")
    if not all("name" in table.columns for table in tables):
        contents.report.guess("classes", f"the table names no classes: all objects are of one class, {ONE_CLASS}")
    return shapes.layout(
        "table's boxes", [one for table in tables for one in _annotated(table, contents)], contents, task
    )


def _annotated(table: Table, contents: Contents) -> Iterator[Annotated]:
    of_images, problems = defaultdict[str, list[Box]](list), dict[str, str]()
    for number, row in enumerate(table.rows, start=1):
        values = {what: row[place].strip() if place < len(row) else "" for what, place in table.columns.items()}
        boxes, corners = of_images[values["image"]], [values[what] for what in HEADERLESS[1:5]]
        if not any(corners):
            continue  # an image without objects
        try:
            left, top, right, bottom = map(float, corners)
        except ValueError:
            problems[values["image"]] = f"row {number} of the table has no box"
            continue
        boxes.append((values.get("name") or ONE_CLASS, left, top, right, bottom))
    split = splits.of_file(table.path, contents)
    numbers = [number for boxes in of_images.values() for box in boxes for number in box[1:]]
    is_fraction = bool(numbers) and max(numbers) <= 1
    if is_fraction:
        contents.report.guess(
            "boxes", f"{contents.name(table.path)}: the boxes were read as shares of the images' sizes"
        )
    for image, boxes in of_images.items():
        objects = [Shape(name, corners) for name, *corners in boxes]
        yield Annotated(table.path, image, objects, None, split, is_fraction, problems.get(image, ""))
