"""Labels as people have them: repaired where the meaning is plain, else left out and named with the usual fix."""

from pathlib import Path

import pytest
from reading import LINE, Files, Read, read
from small_datasets import dataset as good

from dataset.labels import label_of
from utils import DatasetInvalidError

FIRST = "labels/train/0.txt"
IMAGE = "images/train/0.png"
POLYGON = "0 .1 .1 .5 .1 .5 .6 .1 .6"


def with_line(text: str | bytes, task: str = "detect", **yaml: str) -> Files:
    """Return a good dataset whose first label file holds this."""
    files = good(task) | {FIRST: text.encode() if isinstance(text, str) else text}
    if yaml:
        lines = "".join(f"\n{key}: {value}" for key, value in yaml.items())
        files["data.yaml"] = f"train: images/train\nval: images/val\nnames: [tall, wide]{lines}".encode()
    return files


def everywhere(text: str, task: str = "detect") -> Files:
    """Return a good dataset all of whose label files hold this."""
    return {name: text.encode() if name.startswith("labels/") else data for name, data in good(task).items()}


def first(result: Read) -> list[list[float]]:
    return result.rows(IMAGE)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("0 0.52 0.5 1.02 0.9", [[0, 0.505, 0.5, 0.99, 0.9]]),
        ("0 -0.05 0.5 0.3 0.2", [[0, 0.05, 0.5, 0.1, 0.2]]),
        ("0 0.5 0.5 0.2 0.2\n1 0.5 0.5 0 0.2", [[0, 0.5, 0.5, 0.2, 0.2]]),
        ("0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2", [[0, 0.5, 0.5, 0.2, 0.2]]),
        ("1.000000e+00 5e-1 5e-1 2e-1 2e-1", [[1, 0.5, 0.5, 0.2, 0.2]]),
        ("\n\n0\t0.5 0.5  0.2 0.2 \r\n", [[0, 0.5, 0.5, 0.2, 0.2]]),
        ("0 0.5 0.5 0.2 0.2\n" + POLYGON, [[0, 0.5, 0.5, 0.2, 0.2], [0, 0.3, 0.35, 0.4, 0.5]]),
        ("", []),
    ],
)
def test_irregular_labels_are_repaired(tmp_path: Path, text: str, rows: list[list[float]]) -> None:
    result = read(tmp_path, with_line(text))

    assert first(result) == [pytest.approx(row) for row in rows]
    assert len(result.images("train")) == 8


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_labels_in_the_encodings_of_windows_are_read(tmp_path: Path, encoding: str) -> None:
    result = read(tmp_path, with_line("1 0.5 0.5 0.2 0.2".encode(encoding)))

    assert result.report.splits["train"].objects == 8
    from ultralytics.data.utils import verify_image_label

    given = (str(result.root / IMAGE), str(label_of(result.root / IMAGE)), "", False, 2, 0, 0, False)
    assert verify_image_label(given)[1].tolist() == [pytest.approx([1, 0.5, 0.5, 0.2, 0.2])]


def test_a_repair_is_reported(tmp_path: Path) -> None:
    assert (
        f"coordinates clipped to the image: in 1 label files ({FIRST})"
        in read(tmp_path, with_line("0 0.52 0.5 1.02 0.9")).guesses
    )


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("2 0.5 0.5 0.1 0.1", "class 2; those of 0 to 1 are named"),
        ("-1 0.5 0.5 0.1 0.1", "class -1"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5"),
        ("0 1.5 0.5 0.1 0.1", "1.5 is not between 0 and 1"),
        ("0 -0.5 0.5 0.1 0.1", "-0.5 is not between 0 and 1"),
        ("0 0.5 0.5 -0.05 0.1", "a width or height of -0.05"),
        ("0 nan 0.5 0.1 0.1", "not finite"),
        ("0 0.5 0.5", "3 columns"),
        ("0 0.5 0.5 0.1 0.1 0.9", "6 columns"),
        ("cat 0.5 0.5 0.1 0.1", "only numbers are read"),
        ("tall 0.5 0.5 0.1 0.1", "tall is 0"),
        ("0,0.5,0.5,0.1,0.1", "separate by spaces"),
        ("0 0,5 0,5 0,1 0,1", "decimals with a point"),
        ("0 32 30 14 20", "divide x and width by the image's width"),
        ("8 8 60 8 60 40 8 40 tall 0", "convert_dota_to_yolo_obb"),
        ("0 .5 .5 .1 .1 .1 .1 2 .2 .2 1", "kpt_shape"),
    ],
)
def test_one_broken_label_is_left_out_and_named(tmp_path: Path, text: str, advice: str) -> None:
    result = read(tmp_path, with_line(text))

    assert IMAGE not in result.images("train")
    assert len(result.images("train")) == 7
    assert advice in result.report.message
    assert f"{FIRST}: line 1" in result.report.message


@pytest.mark.parametrize(
    "text", ["9 0.5 0.5 0.1 0.1", "0,0.5,0.5,0.1,0.1", "tall 0.5 0.5 0.1 0.1", "0 32 30 14 20", "0 0.5 0.5"]
)
def test_many_broken_labels_refuse_the_dataset_and_all_are_counted(tmp_path: Path, text: str) -> None:
    with pytest.raises(DatasetInvalidError, match=r"12 of 12 are broken.*; 12 label files"):
        read(tmp_path, everywhere(text))


def test_all_kinds_of_faults_are_named_at_once(tmp_path: Path) -> None:
    faults = ["9 .5 .5 .1 .1", "0 2 .5 .1 .1", "0 .5 .5", "a b c d e", "0,1,1,1,1", "0 40 40 9 9"]
    files = good() | {f"labels/train/{number}.txt": text.encode() for number, text in enumerate(faults)}
    files["images/train/7.png"] = b"no image"

    with pytest.raises(DatasetInvalidError) as refusal:
        read(tmp_path, files)

    message = str(refusal.value)
    assert len(message) <= 500
    assert "images/train/7.png" in message
    assert all(f"labels/train/{number}.txt" in message for number in range(6))
    for fault in ("does not name", "outside", "columns", "words", "commas", "pixels", "broken image"):
        assert fault in message, fault


def test_classes_that_count_from_1_are_recognised(tmp_path: Path) -> None:
    files = good()
    for name in files:
        if name.startswith("labels/"):
            number = int(files[name].split()[0]) + 1
            files[name] = f"{number} 0.5 0.5 0.1 0.1".encode()

    with pytest.raises(DatasetInvalidError, match="count from 1"):
        read(tmp_path, files)


@pytest.mark.parametrize(
    ("task", "text", "rows"),
    [
        ("segment", POLYGON, [[0, 0.1, 0.1, 0.5, 0.1, 0.5, 0.6, 0.1, 0.6]]),
        ("segment", "0 -.05 .1 .5 .1 .5 1.05", [[0, 0, 0.1, 0.5, 0.1, 0.5, 1]]),
        ("obb", POLYGON, [[0, 0.1, 0.1, 0.5, 0.1, 0.5, 0.6, 0.1, 0.6]]),
        ("pose", "0 .5 .5 .4 .4 .4 .4 2 1.05 .6 2", [[0, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4, 2, 1, 0.6, 2]]),
        ("pose", "0 .5 .5 .4 .4 .4 .4 2 1.2 .6 2", [[0, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4, 2, 0, 0, 0]]),
        ("pose", "0 .5 .5 .4 .4 .4 .4 2 -1 -1 0", [[0, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4, 2, 0, 0, 0]]),
    ],
)
def test_each_task_reads_its_own_labels(tmp_path: Path, task: str, text: str, rows: list[list[float]]) -> None:
    files = with_line(text, "segment" if task == "obb" else task)

    assert first(read(tmp_path, files, task)) == [pytest.approx(row) for row in rows]


@pytest.mark.parametrize(
    ("task", "text", "advice"),
    [
        ("segment", "0 0.5 0.5 0.1 0.1", "the model needs polygons"),
        ("obb", "0 0.5 0.5 0.1 0.1", "needs four corners"),
        ("pose", "0 .5 .5 .1 .1", "without keypoints"),
        ("pose", "0 .5 .5 .1 .1 .1 .1 2", "8 columns; 11 are needed"),
    ],
)
def test_labels_of_another_kind_than_the_models_are_named(tmp_path: Path, task: str, text: str, advice: str) -> None:
    with pytest.raises(DatasetInvalidError, match=advice):
        read(tmp_path, everywhere(text, "segment" if task == "obb" else task), task)


def test_a_model_that_detects_keeps_the_boxes_of_pose_labels(tmp_path: Path) -> None:
    result = read(tmp_path, good("pose"))

    assert len(first(result)[0]) == 5
    assert "keypoints" in result.guesses


@pytest.mark.parametrize(("kind", "named"), [("segment", "four corners"), ("polygon", "polygons")])
def test_boxes_around_other_labels_are_reported(tmp_path: Path, kind: str, named: str) -> None:
    files = good("segment") if kind == "segment" else everywhere("0 .1 .1 .5 .1 .3 .6")

    assert named in read(tmp_path, files).guesses


def test_flip_idx_of_words_is_read_as_numbers(tmp_path: Path) -> None:
    files = good("pose")
    files["data.yaml"] = files["data.yaml"].replace(b"[0, 1]", b"['1', '0']")

    assert read(tmp_path, files, "pose").data["flip_idx"] == [1, 0]


@pytest.mark.parametrize(
    ("key", "value", "advice"),
    [
        ("kpt_shape", "", "needs kpt_shape"),
        ("kpt_shape", "[2, 4]", "needs kpt_shape"),
        ("kpt_shape", "[many]", "list of whole numbers"),
        ("flip_idx", "left", r"as in flip_idx: \[0, 2, 1\]"),
        ("flip_idx", "[0, 5]", "flip_idx must hold each of 0 to 1 once"),
    ],
)
def test_a_pose_dataset_names_its_keypoints(tmp_path: Path, key: str, value: str, advice: str) -> None:
    yaml = {"kpt_shape": "[2, 3]", key: value}

    with pytest.raises(DatasetInvalidError, match=advice):
        read(tmp_path, with_line(good("pose")[FIRST], "pose", **yaml), "pose")


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/train/9.png", "labels/train/9.TXT"),
        ("images/train/9.png", "Labels/Train/9.txt"),
        ("Images/train/9.png", "Labels/train/9.txt"),
        ("images/train/e\u0301.png", "labels/train/\u00e9.txt"),
        ("images/train/\u00e9.png", "labels/train/e\u0301.txt"),
        ("images/train/d\u00e9 1.png", "labels/train/d%C3%A9%201.txt"),
        ("images/train/9.png", "images/train/9.txt"),
    ],
)
def test_label_files_are_found_however_they_are_spelled(tmp_path: Path, image: str, label: str) -> None:
    files = good() | {image: good()[IMAGE], label: b"1 0.5 0.5 0.25 0.25\n"}
    files["data.yaml"] = b"train: [images/train, Images/train]\nval: images/val\nnames: [tall, wide]"
    if not image.startswith("Images"):
        files["data.yaml"] = files["data.yaml"].replace(b"[images/train, Images/train]", b"images/train")

    result = read(tmp_path, files)

    assert result.rows(image) == [[1, 0.5, 0.5, 0.25, 0.25]]
    assert result.report.splits["train"].background == 0


def test_label_files_without_an_image_are_reported(tmp_path: Path) -> None:
    result = read(tmp_path, good() | {"labels/train/77.txt": LINE})

    assert "1 label files match no image (labels/train/77.txt)" in result.guesses
    assert {"kind": "label files without an image", "count": 1}.items() <= result.report.as_json()["problems"][
        0
    ].items()


def test_labels_in_another_place_than_ultralytics_looks_are_refused_with_the_place(tmp_path: Path) -> None:
    files = {
        name.replace("images/train", "train/img").replace("labels/train", "train/ann"): content
        for name, content in good().items()
    }
    files["data.yaml"] = b"train: train/img\nval: images/val\nnames: [tall, wide]"

    with pytest.raises(
        DatasetInvalidError, match=r"train/img/0.png are looked for at train/img/0.txt. Rename the folder"
    ):
        read(tmp_path, files)


def test_labels_whose_names_are_not_the_images_are_refused(tmp_path: Path) -> None:
    files = {name.replace("labels/train/", "labels/train/label_"): content for name, content in good().items()}

    with pytest.raises(DatasetInvalidError, match=r"labels/train/0.txt. Give them the image's name"):
        read(tmp_path, files)


def test_empty_label_files_are_background_but_not_all_of_them(tmp_path: Path) -> None:
    assert read(tmp_path / "a", with_line("")).report.splits["train"].background == 1

    with pytest.raises(DatasetInvalidError, match="all of them are empty"):
        read(tmp_path / "b", everywhere(""))


def test_images_without_labels_are_refused_with_the_place_of_labels(tmp_path: Path) -> None:
    files = {name: content for name, content in good().items() if not name.startswith("labels/")}

    with pytest.raises(DatasetInvalidError, match=r"none of its images has a label; labels/train/0.txt is missing"):
        read(tmp_path, files)


def test_a_val_of_background_only_is_accepted_with_a_warning(tmp_path: Path) -> None:
    files = {name: b"" if name.startswith("labels/val") else content for name, content in good().items()}

    assert "val: none of its 4 images has an object" in read(tmp_path, files).guesses


def test_the_report_counts_by_split_and_class(tmp_path: Path) -> None:
    files = with_line("") | {"images/val/copy.png": good()["images/train/1.png"]}

    report = read(tmp_path, files).report.as_json()

    assert report["splits"] == {
        "train": {"images": 8, "objects": 7, "background": 1, "classes": {"tall": 3, "wide": 4}},
        "val": {"images": 5, "objects": 4, "background": 1, "classes": {"tall": 2, "wide": 2}},
    }
    assert report["duplicates"] == [{"train": "images/train/1.png", "val": "images/val/copy.png"}]
    assert report["image_sizes"]["median"] == (64, 64)
    assert report["classes_in_one_split"] == {"train": [], "val": []}
    assert report["usable"]


def test_labels_are_looked_for_where_ultralytics_does() -> None:
    from ultralytics.data.utils import img2label_paths

    images = ["/d/images/train/images/1.png", "/d/train/1.png", "/d/images/a.b/c.d.jpg", "/images/x/labels/1.jpeg"]
    assert [str(label_of(Path(image))) for image in images] == img2label_paths(images)


def test_labels_follow_an_image_that_is_rewritten_in_another_format(tmp_path: Path) -> None:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.open(io.BytesIO(good()[IMAGE])).save(file, "JPEG2000")
    files = good() | {
        "images/train/9.jp2": file.getvalue(),
        "images/train/9.png": b"no image",
        "labels/train/9.txt": LINE,
    }

    result = read(tmp_path, files)

    assert "images/train/9.jp2.png" in result.images("train")
    assert result.rows("images/train/9.jp2.png") == [[0, 0.5, 0.5, 0.2, 0.2]]
