"""The ``.cache`` files of ultralytics, from the trainer's own check of images and labels: they save a second scan.

Their format is ultralytics' own and may change: they are written for the version of it that the tests compare with
ultralytics' own scan. With another version, or if ultralytics has other options, it ignores these files, and scans.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dataset import files
from dataset.labels import BOX, Labels, label_of

FORMAT_VERSION = "1.0.12"  # ultralytics' DATASET_CACHE_VERSION
Size = tuple[int, int]


class Label(NamedTuple):
    """The label of one image, and its size."""

    size: Size | None  # as it is shown: width, height; None: unknown
    rows: "np.ndarray[Any, Any] | list[np.ndarray[Any, Any]] | None"  # as its label file has them; None: no file
    is_odd: bool = False  # rows that ultralytics would change


class Noted(NamedTuple):
    """The fields that ultralytics stores for one image."""

    label: dict[str, Any] | None  # None: it leaves the image out
    counts: tuple[int, ...]  # 1 if its label file is missing, was read, is empty, cannot be used
    message: str


def label(size: Size | None, labels: Labels | None, *, is_written: bool) -> Label:
    """Return an image's label; ``is_written``: its label file was written from the rows, so the rows are rounded."""
    if labels is None:
        return Label(size, None)
    rows = [[float(f"{number:.6g}") for number in row] for row in labels.rows] if is_written else labels.rows
    if len({len(row) for row in rows}) > 1:
        return Label(size, [np.array(row, dtype=np.float32) for row in rows])
    array = np.array(rows, dtype=np.float32)
    return Label(size, array, is_odd=len({row.tobytes() for row in array}) < len(array))


class LabelCache:
    """The labels of a dataset, gathered image by image."""

    def __init__(self, kpt_shape: Sequence[int] | None, class_count: int) -> None:
        self._kpt_shape, self._class_count = kpt_shape, class_count
        self._labels: dict[Path, Label] = {}

    def add(self, image: Path, label: Label) -> None:
        """Note the labels of an image, by its current path."""
        self._labels[image] = label

    def write(self, splits: Mapping[str, Sequence[Path]]) -> None:
        """Write a file for each split, where ultralytics looks for it."""
        written = set[Path]()
        for split in ("train", "val"):
            paths = sorted(map(str, splits[split]))
            path = label_of(Path(paths[0])).parent.with_suffix(".cache")
            if path not in written and self._write(paths, path):
                written.add(path)

    def _write(self, paths: list[str], path: Path) -> bool:
        from ultralytics.data.dataset import DATASET_CACHE_VERSION  # noqa: PLC0415 -- after ``yolo.prepare``
        from ultralytics.data.utils import get_hash, img2label_paths, save_dataset_cache_file  # noqa: PLC0415

        if DATASET_CACHE_VERSION != FORMAT_VERSION or not path.parent.is_dir():
            return False
        label_files = img2label_paths(paths)
        noted = [self._noted(*names) for names in zip(paths, label_files, strict=True)]
        missing, read, empty, corrupt = (sum(counts) for counts in zip(*(one.counts for one in noted), strict=True))
        scan = (self._kpt_shape is not None, self._class_count, self._kpt_shape, False)
        content = {
            "labels": [one.label for one in noted if one.label is not None],
            "hash": get_hash(label_files + paths + [str(scan)]),
            "results": (read, missing, empty, corrupt, len(paths)),
            "msgs": [one.message for one in noted if one.message],
        }
        save_dataset_cache_file("", path, content, DATASET_CACHE_VERSION)
        return True

    def _noted(self, path: str, label_file: str) -> Noted:
        label = self._labels[Path(path)]
        if label.size is None or label.is_odd:
            return self._scanned(path, label_file)
        boxes, segments = self._boxes(label.rows)
        keypoints = None
        if self._kpt_shape is not None:
            keypoints = _keypoints(boxes, *self._kpt_shape)
            boxes = boxes[:, :BOX]
        is_missing = label.rows is None
        noted = _as_noted(path, boxes, label.size[::-1], segments, keypoints)
        return Noted(noted, (int(is_missing), int(not is_missing), int(not is_missing and not len(boxes)), 0), "")

    def _boxes(self, rows: Any) -> tuple[Any, list[Any]]:
        from ultralytics.utils.ops import segments2boxes  # noqa: PLC0415 -- after ``yolo.prepare``

        if rows is None or not len(rows):
            return np.zeros((0, BOX + int(np.prod(self._kpt_shape or 0))), dtype=np.float32), []
        if self._kpt_shape is not None or len(rows[0]) == BOX:
            return rows, []
        segments = [row[1:].reshape(-1, 2) for row in rows]
        classes = np.array([row[0] for row in rows], dtype=np.float32).reshape(-1, 1)
        return np.concatenate((classes, segments2boxes(segments)), 1).astype(np.float32), segments

    def _scanned(self, path: str, label_file: str) -> Noted:
        from ultralytics.data.utils import verify_image_label  # noqa: PLC0415 -- after ``yolo.prepare``

        shape = self._kpt_shape or (0, 0)
        arguments = (path, label_file, "", self._kpt_shape is not None, self._class_count, *shape, False)
        image, boxes, size, segments, keypoints, *counts, message = verify_image_label(arguments)
        return Noted(_as_noted(image, boxes, size, segments, keypoints) if image else None, tuple(counts), message)


def _as_noted(image: str, boxes: Any, shape: Size, segments: list[Any], keypoints: Any) -> dict[str, Any]:
    return {
        "im_file": image,
        "shape": shape,
        "cls": boxes[:, 0:1],
        "bboxes": boxes[:, 1:],
        "segments": segments,
        "keypoints": keypoints,
        "normalized": True,
        "bbox_format": "xywh",
    }


def _keypoints(rows: Any, count: int, dimensions: int) -> Any:
    keypoints = rows[:, BOX:].reshape(-1, count, dimensions)
    if dimensions == 3:  # noqa: PLR2004 -- with a visibility
        return keypoints
    mask = np.where((keypoints[..., 0] < 0) | (keypoints[..., 1] < 0), 0.0, 1.0).astype(np.float32)
    return np.concatenate([keypoints, mask[..., None]], axis=-1)


def write_of_classes(folder: Path) -> None:
    """Write the files for a folder of ``train/<class>/`` and ``val/<class>/``, whose images were all checked."""
    from ultralytics.data.dataset import DATASET_CACHE_VERSION  # noqa: PLC0415 -- after ``yolo.prepare``
    from ultralytics.data.utils import get_hash, save_dataset_cache_file  # noqa: PLC0415

    if DATASET_CACHE_VERSION != FORMAT_VERSION:
        return
    for root in (folder / "train", folder / "val"):
        classes = sorted(path.name for path in root.iterdir())
        samples = [(str(path), number) for number, name in enumerate(classes) for path in files.below(root / name)]
        names = [path for path, _ in samples]
        content = {"hash": get_hash(names + classes), "results": (len(samples), 0, len(samples), samples), "msgs": []}
        save_dataset_cache_file("", root.with_suffix(".cache"), content, DATASET_CACHE_VERSION)
