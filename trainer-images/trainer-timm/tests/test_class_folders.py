"""Common layouts of class folders: which images train which class, and the warnings about guesses."""

import json
from pathlib import Path, PurePosixPath

import pytest
from small_datasets import dataset as good
from small_datasets import flat

import dataset
from dataset import class_folders
from dataset.report import Report
from utils import DatasetInvalidError

VAL_SHARE = 0.25


def arranged(
    folder: Path, names: list[str], *, skipped: tuple[str, ...] = (), seed: int = 0
) -> tuple[dict[str, list[str]], Report]:
    """Return ``split/class`` with the names of its images; nothing is read from the disk."""
    report = Report("cats.zip", "timm", "classify")
    for name in skipped:
        report.skip_other(PurePosixPath(name))
    data = class_folders.arranged([folder / name for name in names], folder, report, val_share=VAL_SHARE, seed=seed)
    class_folders.count(data, report)
    placed: dict[str, list[str]] = {}
    for split, samples in (("train", data.train), ("val", data.val)):
        for path, number in samples:
            placed.setdefault(f"{split}/{data.classes[number]}", []).append(str(path.relative_to(folder)))
    return placed, report


def names_below(*folders: str, count: int = 2) -> list[str]:
    return [f"{folder}/{number}.jpg" for folder in folders for number in range(count)]


def both(train: str, val: str) -> list[str]:
    return names_below(f"{train}/cat", f"{train}/dog", f"{val}/cat", f"{val}/dog")


@pytest.mark.parametrize(
    ("train", "val", "is_guessed"),
    [
        ("train", "val", False),
        ("train", "valid", False),
        ("train", "validation", False),
        ("Train", "Valid", True),
        ("TRAIN", "TEST", True),
        ("Training", "Testing", True),
        ("training_set", "test_set", True),
        ("train", "dev", True),
        ("train_images", "validate", True),
        ("train2017", "val2017", True),
        ("seg_train/seg_train", "seg_test/seg_test", True),
        ("train/images", "val/images", False),
        ("train/train", "val/val", False),
        ("train", "test", True),
        ("학습", "검증", True),
        ("cats/train", "cats/val", False),
        ("training_data/train", "training_data/val", False),
        ("test_set/Train", "test_set/Test", True),
        ("a/b c/train", "a/b c/val", False),
        ("images/train", "images/val", False),
    ],
)
def test_splits_are_known_in_any_case_and_by_their_usual_names(
    tmp_path: Path, train: str, val: str, *, is_guessed: bool
) -> None:
    placed, report = arranged(tmp_path, both(train, val))

    assert placed == {
        "train/cat": names_below(f"{train}/cat"),
        "train/dog": names_below(f"{train}/dog"),
        "val/cat": names_below(f"{val}/cat"),
        "val/dog": names_below(f"{val}/dog"),
    }
    assert bool(report.guesses) is is_guessed


def test_test_is_not_used_when_there_is_a_val(tmp_path: Path) -> None:
    placed, report = arranged(tmp_path, [*both("train", "val"), *names_below("test/cat", "test/dog")])

    assert len(placed["val/cat"]) == 2
    assert report.as_json()["splits"]["test"]["images"] == 4
    assert not report.guesses


def test_a_test_without_classes_is_not_validated_on(tmp_path: Path) -> None:
    placed, report = arranged(tmp_path, [*names_below("train/cat", "train/dog", count=8), *names_below("test")])

    assert len(placed["val/cat"]) == 2
    assert report.splits["test"].images == 2
    assert "there is no val/" in report.guesses[0]["message"]


@pytest.mark.parametrize("top", ["", "train/", "data/", "data/train/"])
def test_without_val_a_share_of_each_class_is_used_with_a_warning(tmp_path: Path, top: str) -> None:
    placed, report = arranged(tmp_path, names_below(f"{top}cat", f"{top}dog", count=8))

    assert {name: len(files) for name, files in placed.items()} == {
        "train/cat": 6, "train/dog": 6, "val/cat": 2, "val/dog": 2,
    }  # fmt: skip
    assert [guess["kind"] for guess in report.guesses] == ["splits"]
    assert "4 of 16 images are kept for validation" in report.guesses[0]["message"]
    assert arranged(tmp_path, names_below(f"{top}cat", f"{top}dog", count=8))[0] == placed
    assert arranged(tmp_path, names_below(f"{top}cat", f"{top}dog", count=8), seed=1)[0] != placed


def test_a_class_of_one_image_trains_and_is_named(tmp_path: Path) -> None:
    placed, report = arranged(tmp_path, [*names_below("cat", "dog", count=8), "rare/0.jpg"])

    assert placed["train/rare"] == ["rare/0.jpg"]
    assert report.classes_in_one_split == {"train": ["rare"]}
    assert any("rare" in guess["message"] for guess in report.guesses)


def test_folders_within_a_class_belong_to_it_with_a_warning(tmp_path: Path) -> None:
    names = names_below("train/cat/a", "train/cat/b", "train/dog", "val/cat/a", "val/dog")

    placed, report = arranged(tmp_path, names)

    assert len(placed["train/cat"]) == 4
    assert "cat/a/" in report.guesses[0]["message"]


def test_splits_within_the_classes_are_recognised_with_a_warning(tmp_path: Path) -> None:
    placed, report = arranged(tmp_path, names_below("cat/train", "cat/val", "dog/train", "dog/val"))

    assert placed["train/cat"] == names_below("cat/train")
    assert placed["val/dog"] == names_below("dog/val")
    assert report.guesses


def test_a_class_called_train_is_a_class_with_a_warning(tmp_path: Path) -> None:
    placed, report = arranged(tmp_path, names_below("bus", "car", "train", count=4))

    assert {name.partition("/")[2] for name in placed} == {"bus", "car", "train"}
    assert "train/: taken for classes, like bus/, car/" in report.guesses[0]["message"]


def test_classes_whose_names_end_in_test_are_classes_with_a_warning(tmp_path: Path) -> None:
    placed, report = arranged(tmp_path, names_below("blood test", "rapid test", count=4))

    assert {name.partition("/")[2] for name in placed} == {"blood test", "rapid test"}
    assert "taken for classes" in report.guesses[0]["message"]


def test_valid_and_invalid_are_classes(tmp_path: Path) -> None:
    placed, _ = arranged(tmp_path, names_below("valid", "invalid", count=4))

    assert {name.partition("/")[2] for name in placed} == {"valid", "invalid"}


@pytest.mark.parametrize(("of_train", "of_val"), [("Cat", "cat"), ("사진", "사진"), ("cat ", "cat")])
def test_a_class_of_val_is_matched_by_its_normal_form(tmp_path: Path, of_train: str, of_val: str) -> None:
    placed, _ = arranged(tmp_path, names_below(f"train/{of_train}", "train/x", f"val/{of_val}", "val/x"))

    assert placed[f"val/{of_train}"] == names_below(f"val/{of_val}")


def test_classes_that_differ_in_case_only_are_reported(tmp_path: Path) -> None:
    _, report = arranged(tmp_path, names_below("Cat", "cat", "dog", count=4))

    assert "Cat/, cat/ are separate classes" in report.guesses[0]["message"]


def test_a_class_that_only_val_has_is_left_out_and_named(tmp_path: Path) -> None:
    placed, report = arranged(tmp_path, [*both("train", "val"), *names_below("val/fox")])

    assert "val/fox" not in placed
    assert report.classes_in_one_split == {"val": ["fox"]}
    assert report.left_out == 2
    assert "fox/0.jpg" in report.message


def test_images_in_no_class_are_left_out_and_named(tmp_path: Path) -> None:
    placed, report = arranged(tmp_path, [*both("data/train", "data/val"), "logo.jpg", "data/train/stray.jpg"])

    assert sum(map(len, placed.values())) == 8
    assert report.left_out == 2
    assert "logo.jpg" in report.message
    assert "train/stray.jpg" in report.message


@pytest.mark.parametrize(
    ("names", "skipped", "named"),
    [
        (names_below("valid", "testing"), (), ["testing/, valid/", "Rename one to train/", "classes other names"]),
        (names_below("train/test", "train/val"), (), ["test/, val/ may be splits or classes"]),
        (names_below("train1/a", "train2/a", "val/a"), (), ["train1/, train2/, val/", "more than one"]),
        (both("train", "val") + names_below("valid/cat"), (), ["val/, valid/ all look like val/"]),
        (names_below("a/train/cat", "b/train/cat"), (), ["a/, b/ each hold a train/", "several datasets"]),
        (names_below("images"), ("train.txt",), ["only one class folder, images/", "train.txt", "columns image and"]),
        (names_below("leftImg8bit", "gtFine"), (), ["gtFine/, leftImg8bit/ are no classes"]),
        (names_below("images/train", "images/val"), ("data.yaml", "1.txt"), ["in train/ itself", "ultralytics"]),
        (names_below("train", "valid"), ("_annotations.coco.json",), [".json", "object detection"]),
        (["set/cat.0.jpg", "set/cat.1.jpg", "set/dog.0.jpg", "set/dog.1.jpg"], (), ["hold the class (cat, dog)"]),
        (names_below("cat"), (), ["only one class folder, cat/"]),
        (names_below("images", "masks"), (), ["images/, masks/ are no classes"]),
        ([*names_below("train/cat", "train/dog"), "val/1.jpg"], (), ["lie in val/ itself"]),
        (["1.jpg", "2.jpg"], (), ["no class folders"]),
        ([], (), ["the archive holds no files"]),
        ([], ("a.mp4", "b.mp4"), ["there are no images in it, but 2 .mp4"]),
        (names_below("fold1/a", "fold1/b", "fold2/a", "fold2/b"), (), ["may be fold1/, fold2/ or a/, b/"]),
        (names_below("train/cat", "train/dog", "val/fox"), (), ["no class of the validation images", "cat, dog"]),
        (["cat/1.jpg", "dog/1.jpg"], (), ["only one image"]),
    ],
    ids=lambda value: ",".join(value)[:40] if isinstance(value, list) else "",
)
def test_unreadable_layouts_are_refused_by_their_folders_names(
    tmp_path: Path, names: list[str], skipped: tuple[str, ...], named: list[str]
) -> None:
    with pytest.raises(DatasetInvalidError) as refusal:
        arranged(tmp_path, names, skipped=skipped)

    for words in ["cats.zip: ", *named]:
        assert words in str(refusal.value)
    assert len(str(refusal.value)) <= 500


def test_other_processes_get_the_same_samples(tmp_path: Path) -> None:
    for name, content in (good() | {"train/tall/broken.png": b""}).items():
        (tmp_path / "dataset" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dataset" / name).write_bytes(content)
    report = Report("cats.zip", "timm", "classify")
    data = dataset.read(tmp_path / "dataset", report, lambda: None, val_share=VAL_SHARE, seed=0)

    dataset.save(data, tmp_path / dataset.FILE)

    assert dataset.load(tmp_path / dataset.FILE) == data
    assert len(data.train) == 12
    assert report.left_out == 1


def test_images_that_train_and_val_share_are_named(tmp_path: Path) -> None:
    files = good() | {"val/tall/copy.png": good()["train/tall/0.png"]}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    report = Report("cats.zip", "timm", "classify")
    dataset.read(tmp_path, report, lambda: None, val_share=VAL_SHARE, seed=0)

    assert report.duplicates == [{"train": "train/tall/0.png", "val": "val/tall/copy.png"}]
    assert "1 of the 7 images of val are in train, too" in report.guesses[0]["message"]


def test_the_report_counts_by_split_and_class(tmp_path: Path) -> None:
    for name, content in flat(each=5).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    report = Report("cats.zip", "timm", "classify")
    dataset.read(tmp_path, report, lambda: None, val_share=0.2, seed=0)

    stored = json.loads(report.write(tmp_path / "dataset.json").read_text())
    assert (stored["dataset"], stored["format"], stored["usable"]) == ("cats.zip", "class-folders", True)
    assert stored["classes"] == ["tall", "wide"]
    assert stored["splits"]["train"] == {"images": 8, "classes": {"tall": 4, "wide": 4}}
    assert stored["splits"]["val"] == {"images": 2, "classes": {"tall": 1, "wide": 1}}
    assert stored["image_sizes"] == {"smallest": [40, 40], "median": [40, 40], "largest": [40, 40]}
