"""COCO's JSON: boxes, polygons and keypoints; one file for each split, or one for all."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dataset import splits
from dataset.contents import Contents, are_alone, split_of
from dataset.formats import shapes
from dataset.formats.json_files import JsonFile
from dataset.formats.shapes import Shape, Writer
from dataset.labels import MOST_KEYPOINTS
from dataset.layout import Layout
from dataset.report import listed
from utils import DatasetInvalidError

TRIANGLE = 6  # numbers: fewer have no area
MISSING = "images that the JSON names and the archive lacks"
BROKEN = "annotations that cannot be read"
MASKS = "annotations with bitmap masks (RLE): export polygons, or train a model to detect (yolo11n)"


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
    if "" in images:  # one file for all splits
        images = splits.by_folders(images.pop(""), contents) if len(images) == 1 else images
    kpt_shape, flip_idx = _keypoints(chosen) if task == "pose" else (None, None)
    splits_found = {split: found for split, found in images.items() if split in splits.KEYS}
    if not splits_found.get("train"):
        raise DatasetInvalidError("no COCO JSON is for train: name one of them train, as in instances_train.json")
    return Layout("coco", names, splits_found, writer.files.get, contents.name, kpt_shape, flip_idx)


def _of_task(files: Sequence[JsonFile], contents: Contents, task: str) -> dict[str, list[JsonFile]]:
    """Return the files of each split; of those for keypoints and for boxes, the ones that the task needs."""
    of_splits = defaultdict[str, list[JsonFile]](list)
    for file in files:
        of_splits[_split(file.path, contents)].append(file)
    for split, of_split in of_splits.items():
        with_keypoints = [file for file in of_split if "keypoints" in file.path.name.lower()]
        others = [file for file in of_split if file not in with_keypoints]
        if with_keypoints and others:
            of_splits[split] = with_keypoints if task == "pose" else others
        _refuse_overlap(of_splits[split], contents)
    return of_splits


def _split(path: Path, contents: Contents) -> str:
    """Return the split of a JSON file, by its name or its folder: train for instances_train2017.json."""
    for part in reversed(path.relative_to(contents.root).parts):
        words = "".join(letter if letter.isalpha() else " " for letter in part).split()
        found = {split for split in map(split_of, words) if split}
        if len(found) == 1:
            return found.pop()
    return ""


def _refuse_overlap(files: Sequence[JsonFile], contents: Contents) -> None:
    seen: dict[str, JsonFile] = {}
    for file in files:
        for image in _dicts(file.data["images"]):
            name = str(image.get("file_name"))
            if seen.setdefault(f"{file.path.parent}/{name}", file) is not file:
                both = listed([contents.name(one.path) for one in (seen[f"{file.path.parent}/{name}"], file)])
                raise DatasetInvalidError(f"{both} each annotate {name}: leave only one of them in the archive")


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
                shape = _shape(one, categories, task)
            except (TypeError, ValueError, KeyError, IndexError) as error:
                kind = MASKS if isinstance(error, MaskError) else BROKEN
                contents.report.problem(kind, contents.name(image), f"annotation {one.get('id')} in {name}")
                break
            if shape is not None:
                objects.append(shape)
        else:
            if writer.write(image, size, objects):
                yield image


class MaskError(ValueError):
    """An annotation has a bitmap in place of polygons."""


def _image(file_name: str, split: str, file: JsonFile, contents: Contents, *, is_alone: bool) -> Path | None:
    """Return the image: beside the JSON file, in a folder of its split, or wherever it is."""
    folders = [file.path.parent]
    folders += [folder for folder in contents.image_folders if split and _split(folder, contents) == split]
    return contents.image(file_name, *folders, what=contents.name(file.path), is_alone=is_alone)


def _size(entry: Mapping[str, Any]) -> shapes.Size | None:
    width, height = entry.get("width"), entry.get("height")
    if isinstance(width, int | float) and isinstance(height, int | float) and width > 0 and height > 0:
        return float(width), float(height)
    return None


def _shape(annotation: Mapping[str, Any], categories: Mapping[str, str], task: str) -> Shape | None:
    """Return an object; None for a crowd. Raises: TypeError, ValueError, KeyError, if it cannot be read."""
    if annotation.get("iscrowd"):
        return None
    name, segmentation = categories[str(annotation["category_id"])], annotation.get("segmentation")
    keypoints = [float(number) for number in annotation.get("keypoints", [])] if task == "pose" else []
    if task in {"segment", "obb"}:
        if isinstance(segmentation, dict):
            raise MaskError
        polygons = [[float(number) for number in polygon] for polygon in segmentation or []]
        if any(len(polygon) % 2 for polygon in polygons):
            raise ValueError("a polygon with half a point")
        polygons = [polygon for polygon in polygons if len(polygon) >= TRIANGLE]
        if polygons:
            return Shape(name, _merged(polygons), is_box=False)
    left, top, width, height = map(float, annotation["bbox"])
    return Shape(name, [left, top, left + width, top + height], keypoints=keypoints)


def _merged(polygons: list[list[float]]) -> list[float]:
    """Return one polygon for an object of several parts, as ultralytics' converter does."""
    if len(polygons) == 1:
        return polygons[0]
    from ultralytics.data.converter import merge_multi_segment  # noqa: PLC0415 -- after ``yolo.prepare``

    parts = merge_multi_segment(polygons)
    return [float(number) for part in parts for point in part for number in point]


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
