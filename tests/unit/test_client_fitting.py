"""Whether a dataset fits a model, by the names of its files, and how predictions are shown."""

import zipfile
from pathlib import Path
from typing import Any

import pytest

from client import fitting, predicting
from client.errors import CallError

CLASSES = ["train/cat/1.jpg", "train/dog/2.jpg", "README.txt"]
YOLO = ["data.yaml", "images/train/1.jpg", "labels/train/1.txt", "images/val/2.jpg", "labels/val/2.txt"]
ROBOFLOW = ["data.yaml", "train/images/1.jpg", "train/labels/1.txt", "valid/images/2.jpg", "valid/labels/2.txt"]
VOC = ["JPEGImages/1.jpg", "Annotations/1.xml"]
COCO = ["train/1.jpg", "train/_annotations.coco.json"]


def packed(folder: Path, names: list[str]) -> Path:
    with zipfile.ZipFile(folder / "d.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return folder / "d.zip"


@pytest.mark.parametrize("names", [YOLO, ROBOFLOW, VOC, COCO])
@pytest.mark.parametrize(
    ("framework", "model", "fix"),
    [("ultralytics", "yolo11n-cls.pt", "yolo11n.pt"), ("timm", "resnet18", "yolo11n.pt")],
)
def test_labels_of_objects_do_not_fit_a_model_of_classes(
    tmp_path: Path, names: list[str], framework: str, model: str, fix: str
) -> None:
    with pytest.raises(CallError, match=rf"has labels of objects, and {model} learns classes.*: use --model {fix}$"):
        fitting.check(packed(tmp_path, names), framework, model)


@pytest.mark.parametrize(
    ("model", "fix"),
    [
        ("yolo11n.pt", "yolo11n-cls.pt"),
        ("YOLO11n.pt", "yolo11n-cls.pt"),
        ("yolov8s-seg.yaml", "yolov8s-cls.yaml"),
        ("yolo11x-pose.pt", "yolo11x-cls.pt"),
        ("rtdetr-l.pt", "yolo11n-cls.pt"),
    ],
)
def test_folders_of_classes_do_not_fit_a_model_of_objects(tmp_path: Path, model: str, fix: str) -> None:
    with pytest.raises(CallError, match=rf"has folders of classes and no labels, .*: use --model {fix}, or a model"):
        fitting.check(packed(tmp_path, CLASSES), "ultralytics", model)


def test_images_without_labels_and_folders_need_labels(tmp_path: Path) -> None:
    with pytest.raises(CallError, match=r"has no labels, and yolo11n\.pt learns objects"):
        fitting.check(packed(tmp_path, ["1.jpg", "2.jpg"]), "ultralytics", "yolo11n.pt")


@pytest.mark.parametrize(
    ("names", "framework", "model"),
    [
        (YOLO, "ultralytics", "yolo11n.pt"),
        (YOLO, "ultralytics", "yolo11n-seg.pt"),
        (CLASSES, "ultralytics", "yolo11n-cls.pt"),
        (CLASSES, "timm", "resnet18"),
        (CLASSES, "ultralytics", "my-own-weights.pt"),
        (CLASSES, "another trainer", "yolo11n.pt"),
        (CLASSES, None, "yolo11n.pt"),
        ([*CLASSES, "train/cat/1.txt", "train/dog/2.txt"], "timm", "resnet18"),
        ([*CLASSES, "classes.txt"], "ultralytics", "yolo11n.pt"),
    ],
)
def test_what_may_fit_is_left_to_the_trainer(tmp_path: Path, names: list[str], framework: str, model: str) -> None:
    fitting.check(packed(tmp_path, names), framework, model)


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        ({"boxes": []}, [["nothing", "", ""]]),
        ({"boxes": [{"class": 0, "name": "cat", "confidence": 0.91234, "xyxy": [1.4, 2, 3.6, 4]}]}, [["cat", "0.912", "1, 2, 4, 4"]]),
        ({"boxes": [{"class": 0, "name": "ship", "confidence": 1, "corners": [[5, 1], [9, 5], [5, 9], [1, 5]]}]}, [["ship", "1.000", "1, 1, 9, 9"]]),
        ({"probs": [{"class": 1, "name": "cat", "confidence": 0.7}, {"class": 0, "name": "dog", "confidence": 0.3}]}, [["cat", "0.700", ""], ["dog", "0.300", ""]]),
        ({"caption": "a cat"}, []),
        ({"top": [{"class": "tab\x1bby", "probability": 0.7}]}, [["tab by", "0.700", ""]]),
    ],
)  # fmt: skip
def test_the_predictions_of_every_trainer_are_rows_of_one_table(line: dict[str, Any], rows: list[list[str]]) -> None:
    assert list(predicting.rows([{"file": "a.jpg"} | line])) == [["a.jpg", *row] for row in rows]


def test_of_several_images_only_the_likeliest_class_is_shown() -> None:
    classes = [{"class": "cat", "probability": 0.7}, {"class": "dog", "probability": 0.3}]

    assert [row[1] for row in predicting.rows([{"file": "a", "top": classes}, {"file": "b", "top": classes}])] == [
        "cat",
        "cat",
    ]


def test_images_that_would_get_the_same_name_keep_their_suffixes() -> None:
    artifacts = [{"key": f"results/job-1/images/00000{number}.jpg"} for number in (1, 2)]
    lines = [{"file": file, "image": each["key"]} for file, each in zip(("a.png", "a.bmp"), artifacts, strict=True)]

    targets = predicting.targets(lines, artifacts, "1", is_table_only=False)
    assert [str(path) for _, path in targets] == ["a.png.jpg", "a.bmp.jpg"]


def test_images_of_several_folders_are_named_below_their_common_one(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/c/1.jpg", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    source = predicting.images([tmp_path / "a/1.jpg", tmp_path / "b"])

    assert [member.name for member in source.members or ()] == ["a/1.jpg", "b/c/1.jpg"]
