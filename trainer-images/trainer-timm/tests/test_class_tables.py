"""Tables of classes as people have them: read where no folders name the classes, and never instead of folders."""

from pathlib import Path

import pytest
from test_class_folders import names_below

from dataset import class_folders, class_tables
from dataset.report import Report
from utils import DatasetInvalidError

IMAGES = [f"train/{number}.jpg" for number in range(8)]
BOTH = [*IMAGES, *(f"test/{number}.jpg" for number in range(50, 54))]


def kind(number: int) -> str:
    return ("cat", "a dog")[number % 2]


def lines(*rows: str, numbers: range = range(8), row: str = "{0},{1}") -> bytes:
    return "\n".join([*rows, *(row.format(number, kind(number)) for number in numbers)]).encode()


def arranged(folder: Path, names: list[str], **tables: bytes) -> tuple[dict[str, dict[str, str]], Report]:
    """Return the class of each image by split; only the tables are written."""
    report = Report("cats.zip", "timm", "classify")
    paths = [folder / name for name in names]
    for name, content in tables.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        paths.append(path)
    data = class_tables.arranged(paths, folder, report, val_share=0.25, seed=0)
    class_folders.count(data, report)
    placed = {
        split: {str(path.relative_to(folder)): data.classes[number] for path, number in samples}
        for split, samples in (("train", data.train), ("val", data.val))
    }
    return placed, report


def refusal(folder: Path, names: list[str], **tables: bytes) -> str:
    with pytest.raises(DatasetInvalidError) as refused:
        arranged(folder, names, **tables)
    assert len(str(refused.value)) <= 500
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.csv", lines("id,breed")),
        ("train.csv", lines("image_id,label", row="train/{0}.jpg,{1}")),
        ("labels.csv", lines("Filename;ClassId", row="C:\\data\\{0}.JPG;{1}")),
        ("labels.tsv", lines("path\tlabel", row="{0}.jpg\t{1}")),
        ("labels.csv", lines(row='"{0}.jpg","{1}"')),
        ("labels.csv", b"\xef\xbb\xbf" + lines("label,image,age", row="{1},./train/{0}.jpg,7")),
        ("labels.csv", "\n".join(lines("label,image", row="{1},{0}").decode().splitlines()).encode("utf-16")),
        ("train/metadata.csv", lines("file_name,label", row="{0}.jpg,{1}")),
        ("labels.csv", lines("image,label,class_id", row="{0},{1},x{1}").replace(b"xcat", b"0")),
        ("truth.csv", b"image,cat,a dog\n" + b"\n".join(b"%d,%d,%d.0" % (n, not n % 2, n % 2) for n in range(8))),
    ],
    ids=["ids", "paths", "Windows", "tab", "no header", "mark", "UTF-16", "Hugging Face", "number too", "flags"],
)  # fmt: skip
def test_the_classes_of_a_table_are_read(tmp_path: Path, name: str, content: bytes) -> None:
    placed, report = arranged(tmp_path, IMAGES, **{name: content})

    found = placed["train"] | placed["val"]
    assert found == {image: kind(int(Path(image).stem)) for image in IMAGES}
    assert (len(placed["train"]), len(placed["val"])) == (6, 2)
    assert any(name in guess["message"] for guess in report.guesses)


def test_tables_of_each_split_are_read(tmp_path: Path) -> None:
    tables = {
        "train.csv": lines("image,label"),
        "val_labels.csv": lines("image,label", numbers=range(50, 54)),
        "sample_submission.csv": lines("image,label", row="{0},a bird"),
    }

    placed, _ = arranged(tmp_path, BOTH, **tables)

    assert set(placed["train"]) == set(IMAGES)
    assert placed["val"] == {image: kind(int(Path(image).stem)) for image in BOTH[8:]}


def test_a_column_may_hold_the_split(tmp_path: Path) -> None:
    table = lines("name,label,split", row="{0},{1},train") + b"\n50,cat,Val\n51,a dog,val\n52,cat,test\n53,a dog,test"

    placed, report = arranged(tmp_path, BOTH, **{"labels.csv": table})

    assert set(placed["val"]) == {"test/50.jpg", "test/51.jpg"}
    assert report.splits["test"].images == 2


def test_images_without_a_class_are_left_out_and_reported(tmp_path: Path) -> None:
    table = lines("id,label", numbers=range(6)) + b"\n6,\n99,cat"

    placed, report = arranged(tmp_path, BOTH, **{"train.csv": table})

    assert "train/6.jpg" not in placed["train"] | placed["val"]
    assert "6 images without a class in the table" in report.message


def test_an_image_is_found_by_its_folders_if_its_name_is_not_enough(tmp_path: Path) -> None:
    images = [f"{folder}/{number}.jpg" for folder in ("train", "test") for number in range(4)]
    rows = [f"{name},{kind(place + place // 4)}" for place, name in enumerate(images)]

    placed, _ = arranged(tmp_path, images, **{"labels.csv": "\n".join(["image,label", *rows]).encode()})

    assert placed["train"] == {image: kind(number) for number, image in enumerate(images[:4])}
    assert placed["val"] == {image: kind(number + 1) for number, image in enumerate(images[4:])}


@pytest.mark.parametrize(
    "table",
    [
        lines("image,label", row="train/{1}/{0}.jpg,{1}"),
        lines("image,name", row="{0}.jpg,{0}"),
        lines("image,label", numbers=range(2)),
        b"epoch,loss\n1,0.5\n2,0.4",
        b"",
    ],
    ids=["the same", "no classes", "few", "another table", "empty"],
)
def test_folders_of_classes_come_first(tmp_path: Path, table: bytes) -> None:
    images = [f"train/{kind(number)}/{number}.jpg" for number in range(8)]

    placed, report = arranged(tmp_path, images, **{"labels.csv": table})

    assert placed["train"] | placed["val"] == {image: image.split("/")[1] for image in images}
    assert not any("labels.csv" in guess["message"] for guess in report.guesses)


def test_a_table_that_contradicts_the_folders_is_refused_and_both_are_named(tmp_path: Path) -> None:
    images = [f"part_{number // 4}/{number}.jpg" for number in range(8)]

    message = refusal(
        tmp_path, images, **{"metadata.csv": lines("image_id,dx,age", row="{0},{1},7").replace(b"dx", b"label")}
    )

    assert "the classes may be the folders part_0/, part_1/, or the column label of metadata.csv" in message


@pytest.mark.parametrize(
    ("table", "named"),
    [
        (lines("image,a,b", row="{0},1,1"), "several classes for an image"),
        (lines("image,label") + b"\n0,a dog", "several classes"),
        (lines("image,first,second", row="{0},{1},x{1}"), "the class may be in first, second: call that column label"),
        (lines("image,price", row="{0},{0}.5"), "8 values in the column price: numbers are no classes"),
        (lines("image,label", row="{0},cat"), "only one class in the column label"),
        (lines("image,label", row="{0},..") + b"\n0,x", "names a class '..'"),
    ],
)
def test_a_table_that_is_not_clear_is_refused_with_what_to_do(tmp_path: Path, table: bytes, named: str) -> None:
    assert named in refusal(tmp_path, IMAGES, **{"labels.csv": table})


def test_two_tables_that_differ_are_refused(tmp_path: Path) -> None:
    tables = {"a.csv": lines("image,label"), "b.csv": lines("image,label", numbers=range(1, 8)) + b"\n0,a dog"}

    assert "the column label of a.csv, the column label of b.csv differ" in refusal(tmp_path, IMAGES, **tables)


def test_a_class_with_a_slash_is_no_path(tmp_path: Path) -> None:
    placed, report = arranged(tmp_path, IMAGES, **{"labels.csv": lines("image,label", row="{0},../{1}")})

    assert set(placed["train"].values()) == {"..-cat", "..-a dog"}
    assert "the class ../cat is called ..-cat" in [guess["message"] for guess in report.guesses]


def test_images_and_masks_by_the_same_names_are_no_classes(tmp_path: Path) -> None:
    images = [*names_below("photos", count=5), *(f"outlines/{number}.png" for number in range(5))]

    assert "photos/, outlines/ hold the same names" in refusal(tmp_path, sorted(images)).replace(
        "outlines/, photos/", "photos/, outlines/"
    )
