"""Recognise how a dataset is described, and read it: YAML, Darknet, files of class names, COCO, and other formats."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from dataset import description, splits
from dataset.contents import Contents
from dataset.description import Described
from dataset.formats import class_files, coco, cvat, darknet, json_boxes, json_files, labelme, pixel_text, tables, voc
from dataset.formats.json_files import JsonFile
from dataset.layout import Layout
from dataset.report import listed
from dataset.text_labels import TextLabels
from utils import DatasetInvalidError

Reader = Callable[[], Layout]
CLASS_FILES = "YOLO with a file of class names"
CHANNELS_LIMIT = 16
MASKS = {
    *("annotations_png", "ground_truth", "groundtruth", "gt", "gtcoarse", "gtfine", "instance", "mask", "masks"),
    *("segmentation", "segmentationclass", "segmentationobject", "semantic", "semantic_rgb"),
}
CONVERT = (
    "convert it, as with datumaro (datum convert -f yolo_ultralytics -- --save-media), or export it as YOLO or COCO"
)
#: by a part of the names of their files
BENCHMARKS = {
    "wider_face_split/": "WIDER FACE",
    "gt/gt.txt": "MOT's tracks",
    "label_colors.txt": "a dataset of masks, with label_colors.txt",
}
#: by suffix, of files that are not unpacked
SKIPPED = {
    ".tfrecord": "TFRecord is not read: export the dataset as YOLO or COCO",
    ".parquet": "Parquet is not read: export the dataset as YOLO or COCO",
    ".arrow": "Arrow is not read: export the dataset as YOLO or COCO",
    ".ndjson": "NDJSON is not read: export the dataset as YOLO or COCO, with its images",
    ".jsonl": "JSON Lines are not read: export the dataset as YOLO or COCO",
    ".datum": "Datumaro's binary files are not read: export the dataset as YOLO or COCO",
    ".zip": "there is an archive in it: upload that one",
    ".mp4": "videos are not read: export their frames as images",
    ".avi": "videos are not read: export their frames as images",
    ".mov": "videos are not read: export their frames as images",
}


def read(contents: Contents, task: str) -> Layout:
    """Return the dataset, with its labels as YOLO's text files. Raises: DatasetInvalidError, with what to do."""
    layout = _read(contents, task)
    if not all(name.isprintable() for name in layout.names):
        raise DatasetInvalidError("the name of a class has control characters: use letters, digits and spaces")
    return layout


def _read(contents: Contents, task: str) -> Layout:
    described, report = description.find(contents, contents.report), contents.report
    if described is not None and (not contents.names(".json", ".xml") or TextLabels(contents).first()):
        return _yaml(described, contents)
    if described is None and (files := darknet.find(contents)):
        return _darknet(files, contents)
    readers = _readers(contents, task)
    if described is not None and not readers:
        return _yaml(described, contents)
    name, reader = _only(readers, contents)
    if described is not None:
        file = contents.name(described.path)
        report.guess("format", f"{file} was not used: its labels are not there; they were read as {name}")
    elif name != CLASS_FILES:  # which name themselves
        report.guess("format", f"there is no data.yaml; the labels were read as {name}")
    try:
        return reader()
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise DatasetInvalidError(f"the labels cannot be read as {name}: {error}") from error


def _darknet(files: list[Path], contents: Contents) -> Layout:
    if len(files) > 1:
        raise DatasetInvalidError(f"{listed([contents.name(path) for path in files])}: leave only one of them")
    contents.report.guess("format", f"there is no data.yaml; the dataset was read from {contents.name(files[0])}")
    return darknet.read(files[0], contents)


def _only(readers: Mapping[str, Reader], contents: Contents) -> tuple[str, Reader]:
    """Return the only way to read the archive. Raises: DatasetInvalidError, if there is none or more than one."""
    if len(readers) > 1:
        raise DatasetInvalidError(f"the archive holds labels as {' and as '.join(readers)}: leave only one kind in it")
    if not readers:
        raise DatasetInvalidError(_unknown(contents))
    [(name, reader)] = readers.items()
    if not contents.images:
        raise DatasetInvalidError(f"the archive holds labels as {name}, but no images: add them")
    return name, reader


def _readers(contents: Contents, task: str) -> dict[str, Reader]:
    """Return how to read the archive, by the name of each format that it holds."""
    files = json_files.read(contents)
    readers: dict[str, Reader] = {}
    if of_coco := [file for file in files if file.kind == "coco"]:
        readers["COCO JSON"] = lambda: coco.read(of_coco, contents, task)
    if of_labelme := [file for file in files if file.kind == "labelme"]:
        readers["labelme JSON"] = lambda: labelme.read(of_labelme, contents, task)
    if of_voc := voc.find(contents):
        readers["Pascal VOC"] = lambda: voc.read(of_voc, contents, task)
    if (of_names := class_files.find(contents)) and TextLabels(contents).first():
        readers[CLASS_FILES] = lambda: class_files.read(of_names, contents)
    readers = readers or _of_other_tools(files, contents, task)
    for file in () if readers else files:
        advice = json_files.ADVICE[file.kind]
        raise DatasetInvalidError(f"{contents.name(file.path)} is {file.kind}, which is not read: {advice}")
    return readers


def _of_other_tools(files: Sequence[JsonFile], contents: Contents, task: str) -> dict[str, Reader]:
    """Return how to read the formats that come second: they are often beside one of the others."""
    readers: dict[str, Reader] = {}
    for kind in json_boxes.READERS:
        if of_kind := [file for file in files if file.kind == kind]:
            readers[kind] = partial(json_boxes.read, of_kind, contents, task)
    if of_cvat := cvat.find(contents):
        readers[cvat.NAME] = lambda: cvat.read(of_cvat, contents, task)
    for kind, paths in pixel_text.find(contents).items():
        readers[kind] = partial(pixel_text.read, kind, paths, contents, task)
    if not readers and (of_tables := tables.find(contents)):
        readers[tables.NAME] = lambda: tables.read(of_tables, contents, task)
    return readers


def _yaml(described: Described, contents: Contents) -> Layout:
    names = description.names_of(described, contents)
    kpt_shape = description.numbers_of(described, contents, "kpt_shape")
    flip_idx = description.numbers_of(described, contents, "flip_idx")
    channels = description.words(described.values.get("channels", "3"))
    if len(channels) != 1 or not channels[0].isdecimal() or not 0 < int(channels[0]) <= CHANNELS_LIMIT:
        raise DatasetInvalidError(f"{contents.name(described.path)}: channels must be 1 or 3")
    images, labels = splits.described(described, contents), TextLabels(contents)
    return Layout(
        "yolo",
        [name if name is not None else f"unused_{number}" for number, name in enumerate(names)],
        images,
        labels.of,
        labels.source_of,
        kpt_shape,
        flip_idx,
        int(channels[0]),
        frozenset(number for number, name in enumerate(names) if name is None),
        labels,
    )


def _unknown(contents: Contents) -> str:
    """Return what to do with an archive that no file describes."""
    advice = next((text for suffix, text in SKIPPED.items() if suffix in contents.report.skipped), "")
    what = _of_files(contents) or _of_folders(contents)
    return what + (f"; {advice}" if advice else "")


def _of_files(contents: Contents) -> str:
    """Return what is missing beside files of labels; nothing if there are none."""
    if label := TextLabels(contents).first():
        return (
            f"it holds labels such as {contents.name(label)}, but nothing names their classes: "
            "add data.yaml with names, train and val"
        )
    foreign = next((text for path in contents.named(".txt", ".json") if (text := _foreign(path))), "")
    if foreign:
        return f"it is {foreign}, which is not read: {CONVERT}"
    if table := next(iter(contents.named(".csv", ".tsv")), None):
        return (
            f"{contents.name(table)} is no table of boxes (filename, xmin, ymin, xmax, ymax, class): for classes use a "
            "model to classify (yolo11n-cls.yaml); else export the labels as YOLO or COCO"
        )
    return ""


def _foreign(path: Path) -> str:
    """Return the name of a benchmark's format, by the name of one of its files."""
    return next((what for pattern, what in BENCHMARKS.items() if pattern in path.as_posix()), "")


def _of_folders(contents: Contents) -> str:
    folders = sorted({contents.name(image.parent) for image in contents.images})
    parts = {folder: set(folder.casefold().split("/")) for folder in folders}
    masks = next(
        (folder for folder in folders if any(part in MASKS or part.endswith("annot") for part in parts[folder])), ""
    )
    if len(folders) > 1 and masks:
        return (
            f"{masks}/ seems to hold masks, which are not read: convert them to polygons with ultralytics' "
            "convert_segment_masks_to_yolo_seg, and add data.yaml with names, train and val"
        )
    if len(folders) > 1:
        return (
            f"it holds images in the folders {listed(folders)} but no labels: for folders of classes use a model to "
            "classify (yolo11n-cls.yaml); else add labels, and data.yaml with names, train and val"
        )
    if contents.images:
        return f"it holds {len(contents.images)} images but no labels: add labels, and data.yaml with names, train, val"
    return (
        "it holds no images and nothing that describes them: add images, labels, and data.yaml with names, train, val"
    )
