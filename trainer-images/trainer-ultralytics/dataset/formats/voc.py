"""Pascal VOC: an XML file with boxes for each image, as labelImg, CVAT and Roboflow write it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from dataset import description, splits
from dataset.contents import Contents
from dataset.formats import shapes
from dataset.formats.shapes import Shape, Writer
from dataset.layout import Layout
from utils import DatasetInvalidError

PROBED = 10  # files that tell the format
LIMIT_BYTES = 50_000_000
UNREADABLE = "XML files that cannot be read"
OLD_LABELME = "XML files of the old LabelMe: convert them (datum convert -f coco -- --save-media)"
MISSING = "XML files without an image"


class Annotation(NamedTuple):
    """An XML file, its image and objects."""

    path: Path
    image: Path
    size: shapes.Size
    objects: list[Shape]


def find(contents: Contents) -> list[Path]:
    """Return the XML files, if they are Pascal VOC's."""
    paths = contents.named(".xml")
    return paths if any(map(re.compile(rb"<annotation[\s>]").search, map(_start, paths[:PROBED]))) else []


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1_000)


def read(paths: list[Path], contents: Contents, task: str) -> Layout:
    """Write the labels of all files; return the dataset. Raises: DatasetInvalidError."""
    if task != "detect":
        raise DatasetInvalidError(
            f"Pascal VOC holds boxes only, and the model is for {task}: use one to detect (yolo11n)"
        )
    annotations = list(_annotations(paths, contents))
    if not annotations:
        contents.report.check()
        raise DatasetInvalidError("none of the XML files has its image in the archive: add the images")
    names = sorted({shape.name for one in annotations for shape in one.objects})
    if not names:
        raise DatasetInvalidError("the XML files hold no objects")
    writer = Writer(names, task, contents)
    images = [one.image for one in annotations if writer.write(one.image, one.size, one.objects)]
    return Layout("voc", names, _splits(images, contents), writer.files.get, contents.name)


def _annotations(paths: list[Path], contents: Contents) -> Iterator[Annotation]:
    for path in paths:
        name = contents.name(path)
        try:
            root = ElementTree.fromstring(_text(path))
        except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError, RecursionError) as error:
            contents.report.problem(UNREADABLE, name, str(error) or type(error).__name__)
            continue
        if root.tag != "annotation":
            continue
        if root.find("object/polygon") is not None and root.find("object/bndbox") is None:
            contents.report.problem(OLD_LABELME, name, "polygons")
            continue
        try:
            objects = [_shape(one) for one in root.iter("object")]
        except (TypeError, ValueError, AttributeError):
            contents.report.problem(UNREADABLE, name, "an object without name or bndbox")
            continue
        image = _image(path, root, contents)
        if image is None:
            contents.report.problem(MISSING, name, "not in the archive")
            continue
        size = _size(root) or shapes.size_of(image)
        if size is not None:
            yield Annotation(path, image, size, objects)


def _text(path: Path) -> bytes | str:
    """Return the content of an XML file; as text if it names an encoding, of which the parser knows few.

    Raises:
        ValueError, LookupError: it cannot be decoded.
    """
    content = path.read_bytes()[:LIMIT_BYTES]
    encoding = re.match(rb"\s*<\?xml[^>]{0,100}encoding=[\"']([\w.-]+)", content)
    return content.decode(encoding[1].decode()) if encoding else content


def _image(path: Path, root: Any, contents: Contents) -> Path | None:
    """Return the image with the XML file's name, or else with the name that it holds."""
    stem = contents.with_stem(path)
    return stem or contents.image(root.findtext("filename") or "", path.parent, what=contents.name(path))


def _size(root: Any) -> shapes.Size | None:
    try:
        width, height = float(root.findtext("size/width")), float(root.findtext("size/height"))
    except (TypeError, ValueError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _shape(element: Any) -> Shape:
    """Return an object. Raises: TypeError, ValueError, if it has no name or box."""
    name, box = (element.findtext("name") or "").strip(), element.find("bndbox")
    if not name:
        raise ValueError
    return Shape(name, [float(box.findtext(corner)) for corner in ("xmin", "ymin", "xmax", "ymax")])


def _splits(images: list[Path], contents: Contents) -> splits.Splits:
    """Return the images by ImageSets/Main/train.txt and val.txt if these are there, else by folders."""
    lists = {path.stem.lower(): path for path in contents.named(".txt") if path.parent.name.lower() == "main"}
    if "train" not in lists:
        return splits.by_folders(images, contents)
    of_stem = {image.stem: image for image in images}
    listed = {name: [line.split()[0] for line in description.lines(path, contents)] for name, path in lists.items()}
    found = {name: [of_stem[stem] for stem in listed.get(name, []) if stem in of_stem] for name in splits.KEYS}
    return {name: paths for name, paths in found.items() if paths}
