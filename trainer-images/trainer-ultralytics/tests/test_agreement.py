"""ultralytics' own reader gets exactly what the report counts: no image and no object is lost in between."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from reading import Files, Read, read
from small_datasets import dataset as good
from test_formats import darknet, labelme_in_folders, roboflow_coco, voc_in_split_folders


def scanned(result: Read, split: str, task: str) -> Any:
    """Return the images and labels of a split as ultralytics reads them."""
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    data = check_det_dataset(str(result.path), autodownload=False)
    return YOLODataset(img_path=data[split], data=data, task=task, imgsz=64, augment=split == "train")


def cvat_lists() -> Files:
    """Return CVAT's export for ultralytics: lists whose names ultralytics would look for in its working folder."""
    files = good() | {"data.yaml": b"path: .\ntrain: train.txt\nval: val.txt\nnames: {0: tall, 1: wide}"}
    for split in ("train", "val"):
        names = [name for name in files if name.startswith(f"images/{split}/")]
        files[f"{split}.txt"] = "\n".join(names).encode()
    return files


def odd_labels() -> Files:
    rows = {
        0: b"0 .52 .5 1.02 .9\n0 .52 .5 1.02 .9",
        1: b"1 .5 .5 0 .2\n1 .5 .5 .2 .2",
        2: b"0 .5 .5 .2 .2\n1 .1 .1 .5 .1 .5 .6",
        3: "1 .5 .5 .2 .2".encode("utf-16"),
        4: b"",
        5: b"9 .5 .5 .2 .2",
    }
    files = good() | {f"labels/train/{number}.txt": content for number, content in rows.items()}
    files["labels/train/6.TXT"] = files.pop("labels/train/6.txt")
    return files


def odd_keypoints() -> Files:
    rows = {0: b"0 .5 .5 .4 .4 -1 -1 0 .6 .6 2", 1: b"1 .5 .5 .4 .4 1.2 .4 2 1.05 .6 1"}
    files = good("pose") | {f"labels/train/{number}.txt": content for number, content in rows.items()}
    files["data.yaml"] = files["data.yaml"].replace(b"[0, 1]", b"['0', '1']")
    return files


def keypoints_without_visibility() -> Files:
    files = good("pose")
    for name in files:
        if name.startswith("labels/"):
            words = files[name].decode().split()
            files[name] = " ".join(words[:7] + words[8:10]).encode()
    files["labels/train/0.txt"] = b"0 .5 .5 .3 .3 .4 .4 -1 -1"
    files["data.yaml"] = files["data.yaml"].replace(b"[2, 3]", b"[2, 2]")
    return files


def turned_images() -> Files:
    """Return images of 64 by 48, some of which EXIF data turn, and one that has no label file."""
    files = good()
    for number, (image_format, orientation) in enumerate([("JPEG", 6), ("JPEG", 3), ("PNG", 8), ("WEBP", 6)]):
        exif, buffer = Image.Exif(), io.BytesIO()
        exif[274] = orientation
        Image.new("RGB", (64, 48)).save(buffer, image_format, exif=exif)
        files[f"images/train/turned{number}.{image_format.lower()}"] = buffer.getvalue()
        files[f"labels/train/turned{number}.txt"] = b"0 .5 .5 .2 .2"
    del files["labels/train/turned1.txt"]
    return files


def alike_rows() -> Files:
    return good() | {"labels/train/0.txt": b"1 .5 .5 .2 .2\n0 .5 .5 .2 .2\n0 .500000001 .5 .2 .2"}


def alike_polygons() -> Files:
    return good("segment") | {"labels/train/0.txt": b"0 .1 .1 .5 .1 .5 .6\n0 .1 .1 .5 .1 .500000001 .6"}


DATASETS: list[tuple[str, Callable[[], Files]]] = [
    ("detect", cvat_lists),
    ("detect", odd_labels),
    ("detect", darknet),
    ("detect", roboflow_coco),
    ("detect", voc_in_split_folders),
    ("detect", labelme_in_folders),
    ("detect", lambda: good("pose")),
    ("detect", lambda: good("segment")),
    ("detect", lambda: {name: b"" if name.startswith("labels/val") else c for name, c in good().items()}),
    ("segment", roboflow_coco),
    ("segment", lambda: labelme_in_folders("polygon")),
    ("pose", roboflow_coco),
    ("pose", odd_keypoints),
    ("pose", keypoints_without_visibility),
    ("obb", lambda: good("segment")),
    ("obb", roboflow_coco),
    ("detect", turned_images),
    ("detect", alike_rows),
    ("segment", alike_polygons),
]


@pytest.mark.parametrize(("task", "files"), DATASETS)
def test_ultralytics_reads_what_the_report_counts(tmp_path: Path, task: str, files: Callable[[], Files]) -> None:
    result = read(tmp_path, files(), task)

    for split, counts in result.report.splits.items():
        labels = scanned(result, split, task).labels
        assert len(labels) == counts.images
        assert sum(len(one["cls"]) for one in labels) == counts.objects


@pytest.mark.parametrize(("task", "files"), DATASETS)
def test_our_cache_of_labels_is_what_ultralytics_own_scan_writes(
    tmp_path: Path, task: str, files: Callable[[], Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import img2label_paths, load_dataset_cache_file

    result = read(tmp_path, files(), task, is_cached=True)
    for split in ("train", "val"):
        with monkeypatch.context() as patched:
            patched.setattr(YOLODataset, "cache_labels", no_scan)
            scanned(result, split, task)
        path = Path(img2label_paths([str(result.root / result.images(split)[0])])[0]).parent.with_suffix(".cache")
        ours = load_dataset_cache_file(path)
        path.unlink()
        scanned(result, split, task)
        theirs = load_dataset_cache_file(path)
        np.testing.assert_equal(ours, theirs)
        assert [[one[key].dtype for key in ("cls", "bboxes")] for one in ours["labels"]] == [
            [one[key].dtype for key in ("cls", "bboxes")] for one in theirs["labels"]
        ]


def no_scan(*_: Any) -> None:
    pytest.fail("ultralytics did not use our cache, but scanned")


def test_our_cache_of_classes_is_what_ultralytics_own_scan_writes(tmp_path: Path) -> None:
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import ClassificationDataset
    from ultralytics.data.utils import load_dataset_cache_file

    image = next(content for name, content in good().items() if name.startswith("images/"))
    names = [f"{kind}/{number}.png" for kind in ("b c", "a", "B") for number in (2, 10, 1)]
    names.remove("a/1.png")
    result = read(tmp_path, {name: image for at, name in enumerate(names)}, "classify", is_cached=True)

    for split in ("train", "val"):
        path = result.path / f"{split}.cache"
        ours = load_dataset_cache_file(path)
        path.unlink()
        ClassificationDataset(result.path / split, get_cfg(), prefix=split)
        np.testing.assert_equal(ours, load_dataset_cache_file(path))


def test_another_version_of_ultralytics_scans_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ultralytics.data.dataset.DATASET_CACHE_VERSION", "9")

    result = read(tmp_path, good(), is_cached=True)

    assert not list(result.root.rglob("*.cache"))
    assert len(scanned(result, "train", "detect").labels) == result.report.splits["train"].images


def test_a_keypoint_far_outside_is_not_labelled_to_ultralytics(tmp_path: Path) -> None:
    three, two = (
        read(tmp_path / "3", odd_keypoints(), "pose"),
        read(tmp_path / "2", keypoints_without_visibility(), "pose"),
    )

    first, second = scanned(three, "train", "pose").labels[:2]
    assert first["keypoints"][0, :, 2].tolist() == [0, 2]
    assert second["keypoints"][0, :, 2].tolist() == [0, 1]
    assert scanned(two, "train", "pose").labels[0]["keypoints"][0, :, 2].tolist() == [1, 0]


def test_grey_images_reach_ultralytics_with_one_channel(tmp_path: Path) -> None:
    files = good()
    files["data.yaml"] += b"channels: 1\n"

    image = scanned(read(tmp_path, files), "val", "detect")[0]["img"]

    assert image.shape[0] == 1
