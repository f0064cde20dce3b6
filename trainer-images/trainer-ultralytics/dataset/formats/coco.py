"""COCO's JSON: boxes, polygons and keypoints; one file for each split, or one for all."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dataset import splits
from dataset.contents import Contents, are_alone
from dataset.formats import masks, shapes
from dataset.formats.json_files import JsonFile
from dataset.formats.shapes import Shape, Writer
from dataset.labels import MOST_KEYPOINTS
from dataset.layout import Layout
from dataset.report import listed
from utils import DatasetInvalidError

OF_OTHER_TASKS = ("keypoints", "stuff")  # in the names of files
TRIANGLE = 6  # numbers: fewer have no area
MISSING = "images that the JSON names and the archive lacks"
BROKEN = "annotations that cannot be read"


def read(files: Sequence[JsonFile], contents: Contents, task: str) -> Layout:
    """Write the labels of all files; return the dataset. Raises: DatasetInvalidError."""
    chosen = _of_task(files, contents, task)
    names = _names(chosen)
    writer = Writer(names, task, contents)
    images: splits.Splits = defaultdict(list)
    for split, of_split in chosen.items():
        for file in of_split:
            images[split] += _write(file, split, contents, task, writer)
    if not any(images.values()):
        contents.report.check()
        raise DatasetInvalidError("none of the images that the COCO JSON names is in the archive: add them")
    kpt_shape, flip_idx = _keypoints(chosen) if task == "pose" else (None, None)
    return Layout(
        "coco", names, splits.by_files(images, contents), writer.files.get, contents.name, kpt_shape, flip_idx
    )


def _of_task(files: Sequence[JsonFile], contents: Contents, task: str) -> dict[str, list[JsonFile]]:
    """Return the files of each split: of several for the same images, those that the task needs."""
    of_splits = defaultdict[str, list[JsonFile]](list)
    for file in [file for file in files if _dicts(file.data["annotations"])] or files:  # not those of images only
        of_splits[splits.of_file(file.path, contents)].append(file)
    for split, of_split in of_splits.items():
        if not _overlapping(of_split):
            continue
        word = "keypoints" if task == "pose" else "instances"
        named = [file for file in of_split if word in file.path.name.lower()]
        others = [file for file in of_split if not any(one in file.path.name.lower() for one in OF_OTHER_TASKS)]
        of_splits[split] = named or others or of_split
        if overlap := _overlapping(of_splits[split]):
            both = listed([contents.name(one.path) for one in overlap[:2]])
            raise DatasetInvalidError(f"{both} each annotate {overlap[2]}: leave only one of them in the archive")
        unused = [contents.name(file.path) for file in of_split if file not in of_splits[split]]
        contents.report.guess("format", f"{listed(unused)} annotate the same images, and were not used")
    return of_splits


def _overlapping(files: Sequence[JsonFile]) -> tuple[JsonFile, JsonFile, str] | None:
    """Return two files that annotate the same image, and its name."""
    seen: dict[str, JsonFile] = {}
    for file in files:
        for image in _dicts(file.data["images"]):
            name = str(image.get("file_name"))
            if (first := seen.setdefault(f"{file.path.parent}/{name}", file)) is not file:
                return first, file, name
    return None


def _names(chosen: Mapping[str, Sequence[JsonFile]]) -> list[str]:
    """Return the classes in the order of their ids, without Roboflow's group of all classes, which nothing is."""
    names: dict[str, None] = {}
    for file in (file for files in chosen.values() for file in files):
        categories = sorted(_dicts(file.data["categories"]), key=lambda one: str(one.get("id")).zfill(9))
        used = {str(one.get("category_id")) for one in _dicts(file.data["annotations"])}
        groups = {str(one.get("supercategory")) for one in categories}
        for one in categories:
            if str(one.get("id")) in used or str(one.get("name")) not in groups or one.get("supercategory") != "none":
                names[str(one.get("name"))] = None
    if not names:
        raise DatasetInvalidError("the COCO JSON names no categories")
    return list(names)


def _write(file: JsonFile, split: str, contents: Contents, task: str, writer: Writer) -> Iterator[Path]:
    """Write the labels of one file's images, and yield these. Raises: DatasetInvalidError."""
    categories = {str(one.get("id")): str(one.get("name")) for one in _dicts(file.data["categories"])}
    annotations = defaultdict[str, list[dict[str, Any]]](list)
    for one in _dicts(file.data["annotations"]):
        annotations[str(one.get("image_id"))].append(one)
    name, entries = contents.name(file.path), _dicts(file.data["images"])
    is_of_crowds = bool(annotations) and all(
        one.get("iscrowd") for of_image in annotations.values() for one in of_image
    )
    if is_of_crowds:  # as some tools mark all bitmap masks
        contents.report.guess("crowds", f"{name}: all annotations are crowds (iscrowd), and were read as objects")
    is_alone = are_alone(str(entry.get("file_name")) for entry in entries)
    for entry in entries:
        image = _image(str(entry.get("file_name")), split, file, contents, is_alone=is_alone)
        if image is None:
            contents.report.problem(MISSING, f"{name}: {entry.get('file_name')}", "not in the archive")
            continue
        size = _size(entry) or shapes.size_of(image)
        if size is None:
            yield image  # the check of the images says what is wrong
            continue
        objects = []
        for one in annotations[str(entry.get("id"))]:
            try:
                shape = _shape(one, categories, task, is_of_crowds=is_of_crowds)
            except (TypeError, ValueError, KeyError, IndexError, OverflowError):
                contents.report.problem(BROKEN, contents.name(image), f"annotation {one.get('id')} in {name}")
                break
            if shape is not None:
                objects.append(shape)
        else:
            if writer.write(image, size, objects):
                yield image


def _image(file_name: str, split: str, file: JsonFile, contents: Contents, *, is_alone: bool) -> Path | None:
    """Return the image: beside the JSON file, in a folder of its split, or wherever it is."""
    folders = [file.path.parent]
    folders += [folder for folder in contents.image_folders if split and splits.of_file(folder, contents) == split]
    return contents.image(file_name, *folders, what=contents.name(file.path), is_alone=is_alone)


def _size(entry: Mapping[str, Any]) -> shapes.Size | None:
    width, height = entry.get("width"), entry.get("height")
    if isinstance(width, int | float) and isinstance(height, int | float) and width > 0 and height > 0:
        return float(width), float(height)
    return None


def _shape(
    annotation: Mapping[str, Any], categories: Mapping[str, str], task: str, *, is_of_crowds: bool
) -> Shape | None:
    """Return an object; None for a crowd. Raises: TypeError, ValueError, KeyError, if it cannot be read."""
    if annotation.get("iscrowd") and not is_of_crowds:
        return None
    name, segmentation = categories[str(annotation["category_id"])], annotation.get("segmentation")
    keypoints = [float(number) for number in annotation.get("keypoints", [])] if task == "pose" else []
    if task in {"segment", "obb"}:
        if isinstance(segmentation, dict):
            points = masks.of_run_lengths(segmentation)
            return Shape(name, points, is_box=False) if points else None
        polygons = [[float(number) for number in polygon] for polygon in segmentation or []]
        if any(len(polygon) % 2 for polygon in polygons):
            raise ValueError("a polygon with half a point")
        polygons = [polygon for polygon in polygons if len(polygon) >= TRIANGLE]
        if polygons:
            return Shape(name, masks.merged(polygons), is_box=False)
    left, top, width, height = map(float, annotation["bbox"])
    return Shape(name, [left, top, left + width, top + height], keypoints=keypoints)


def _keypoints(chosen: Mapping[str, Sequence[JsonFile]]) -> tuple[list[int], list[int] | None]:
    """Return ``kpt_shape``, and ``flip_idx`` if the keypoints are named left and right. Raises: DatasetInvalidError."""
    categories = [one for files in chosen.values() for file in files for one in _dicts(file.data["categories"])]
    keypoints = {tuple(map(str, one["keypoints"])) for one in categories if one.get("keypoints")}
    if len(keypoints) != 1 or not 0 < len(words := keypoints.pop()) <= MOST_KEYPOINTS:
        raise DatasetInvalidError("a pose model needs the same keypoints in all categories of the COCO JSON")
    sides = {"left": "right", "right": "left"}
    flipped = [next((word.replace(a, b) for a, b in sides.items() if a in word), word) for word in words]
    is_known = flipped != list(words) and sorted(flipped) == sorted(words)
    return [len(words), 3], [words.index(word) for word in flipped] if is_known else None


def _dicts(values: Any) -> list[dict[str, Any]]:
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list) else []
