"""Other formats than YOLO's own: recognised by their content, and their labels written as YOLO's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reading import LINE, Files, Read, read
from small_datasets import SIDE, draw

from utils import DatasetInvalidError

NAMES = ["tall", "wide"]


def images(folder: str, numbers: range, suffix: str = ".png") -> Files:
    return {f"{folder}/{number}{suffix}": draw(number)[0] for number in numbers}


def corners(number: int) -> tuple[float, float, float, float]:
    """Return the box of an image in pixels: left, top, right, bottom."""
    _, _, (x, y, width, height) = draw(number)
    return (x - width / 2) * SIDE, (y - height / 2) * SIDE, (x + width / 2) * SIDE, (y + height / 2) * SIDE


def yolo_line(number: int) -> bytes:
    _, kind, box = draw(number)
    return " ".join([str(kind), *(f"{value:.6f}" for value in box)]).encode()


def assert_boxes(result: Read, splits: tuple[int, int] = (8, 4)) -> None:
    """Check the box of each image against its pixels."""
    assert result.names == NAMES
    assert (len(result.images("train")), len(result.images("val"))) == splits
    for image in (*result.images("train"), *result.images("val")):
        _, kind, box = draw(int(Path(image).stem))
        assert result.rows(image) == [pytest.approx([kind, *box], abs=1e-5)]


def coco(numbers: range, folder: str = "", **changes: Any) -> dict[str, Any]:
    """Return the annotations of some images, with ids that are no class numbers."""
    annotations = []
    for number in numbers:
        left, top, right, bottom = corners(number)
        polygon = [left, top, right, top, right, bottom, left, bottom]
        annotations.append(
            {
                "id": number,
                "image_id": number + 7,
                "category_id": 3 + 4 * (number % 2),
                "bbox": [left, top, right - left, bottom - top],
                "segmentation": [polygon],
                "keypoints": [left, top, 2, right, bottom, 1],
                "iscrowd": 0,
            }
            | changes
        )
    sizes = {"width": SIDE, "height": SIDE}
    return {
        "images": [{"id": number + 7, "file_name": f"{folder}{number}.png", **sizes} for number in numbers],
        "annotations": annotations,
        "categories": [
            {"id": 3, "name": "tall", "supercategory": "things", "keypoints": ["left_top", "right_top"]},
            {"id": 7, "name": "wide", "supercategory": "things", "keypoints": ["left_top", "right_top"]},
            {"id": 0, "name": "things", "supercategory": "none"},
        ],
    }


def roboflow_coco(**changes: Any) -> Files:
    files = images("train", range(8)) | images("valid", range(1000, 1004))
    files["train/_annotations.coco.json"] = json.dumps(coco(range(8), **changes)).encode()
    files["valid/_annotations.coco.json"] = json.dumps(coco(range(1000, 1004), **changes)).encode()
    return files


def original_coco() -> Files:
    files = images("train2017", range(8)) | images("val2017", range(1000, 1004))
    files["annotations/instances_train2017.json"] = json.dumps(coco(range(8))).encode()
    files["annotations/instances_val2017.json"] = json.dumps(coco(range(1000, 1004))).encode()
    files["annotations/person_keypoints_train2017.json"] = files["annotations/instances_train2017.json"]
    return files


def voc_xml(number: int, size: int = SIDE) -> bytes:
    left, top, right, bottom = corners(number)
    return f"""<?xml version="1.0"?>
    <annotation><folder>JPEGImages</folder><filename>{number}.jpg</filename>
    <size><width>{size}</width><height>{size}</height><depth>3</depth></size>
    <object><name>{NAMES[number % 2]}</name><difficult>0</difficult>
    <bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>
    </annotation>""".encode()


def voc_with_image_sets() -> Files:
    files = images("VOC2012/JPEGImages", range(8)) | images("VOC2012/JPEGImages", range(1000, 1004))
    for name in list(files):
        number = int(Path(name).stem)
        files[f"VOC2012/Annotations/{number}.xml"] = voc_xml(number)
    files["VOC2012/ImageSets/Main/train.txt"] = b"\n".join(b"%d" % number for number in range(8))
    files["VOC2012/ImageSets/Main/val.txt"] = b"\r\n".join(b"%d" % number for number in range(1000, 1004))
    return files


def voc_in_split_folders() -> Files:
    files = images("Train", range(8)) | images("Test", range(90, 92)) | images("Validation", range(1000, 1004))
    for name in list(files):
        path = Path(name)
        files[f"{path.parent}/{path.stem}.xml"] = voc_xml(int(path.stem), size=0)  # as some tools write it
    return files


def labelme(number: int, kind: str = "rectangle") -> bytes:
    left, top, right, bottom = corners(number)
    points = [[left, top], [right, bottom]]
    if kind == "polygon":
        points = [[left, top], [right, top], [right, bottom], [left, bottom]]
    shapes = [{"label": NAMES[number % 2], "points": points, "shape_type": kind, "group_id": None}]
    return json.dumps(
        {
            "version": "5",
            "shapes": shapes,
            "imagePath": f"..\\raw\\{number}.png",
            "imageHeight": SIDE,
            "imageWidth": SIDE,
        }
    ).encode()


def labelme_in_folders(kind: str = "rectangle") -> Files:
    files = images("train", range(8)) | images("val", range(1000, 1004))
    return files | {f"{name[:-4]}.json": labelme(int(Path(name).stem), kind) for name in files}


def darknet(valid: str = "data/valid.txt", prefix: str = "data/") -> Files:
    files = images("obj_train_data", range(8)) | images("obj_valid_data", range(1000, 1004))
    files |= {f"{name[:-4]}.txt": yolo_line(int(Path(name).stem)) for name in files}
    for split, folder in (("train", "obj_train_data"), ("valid", "obj_valid_data")):
        names = [name for name in files if name.startswith(folder) and name.endswith(".png")]
        files[f"{split}.txt"] = "\n".join(prefix + name for name in names).encode()
    files["obj.names"] = b"tall\nwide\n"
    data = f"classes= 2\r\ntrain  = {prefix}train.txt\r\nvalid = {valid}\r\nnames = {prefix}obj.names\r\nbackup = b/"
    return files | {"obj.data": data.encode()}


def roboflow_darknet() -> Files:
    files = images("train", range(8)) | images("valid", range(1000, 1004))
    files |= {f"{name[:-4]}.txt": yolo_line(int(Path(name).stem)) for name in files}
    return files | {"train/_darknet.labels": b"tall\nwide", "valid/_darknet.labels": b"tall\nwide"}


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (roboflow_coco, "coco"),
        (original_coco, "coco"),
        (voc_with_image_sets, "voc"),
        (voc_in_split_folders, "voc"),
        (labelme_in_folders, "labelme"),
        (lambda: labelme_in_folders("polygon"), "labelme"),
        (darknet, "darknet"),
        (lambda: darknet(prefix="data\\"), "darknet"),
        (roboflow_darknet, "yolo"),
    ],
    ids=["Roboflow COCO", "COCO", "VOC", "VOC in folders", "labelme", "polygons", "CVAT", "Darknet", "_darknet.labels"],
)
def test_other_formats_are_read_as_boxes(tmp_path: Path, files: Callable[[], Files], name: str) -> None:
    result = read(tmp_path, files())

    assert_boxes(result)
    assert result.report.format == name
    assert result.guesses


@pytest.mark.parametrize(
    "files",
    [
        lambda: (
            {f"images/{n}.png": draw(n)[0] for n in range(10)}
            | {"annotations/instances_default.json": json.dumps(coco(range(10))).encode()}
        ),
        lambda: (
            {f"x/{n}.png": draw(n)[0] for n in range(10)}
            | {"result.json": json.dumps(coco(range(10), folder="../../data/upload/1/x/")).encode()}
        ),
        lambda: {f"{n}.png": draw(n)[0] for n in range(10)} | {f"{n}.xml": voc_xml(n) for n in range(10)},
        lambda: {f"{n}.png": draw(n)[0] for n in range(10)} | {f"{n}.json": labelme(n) for n in range(10)},
        lambda: (
            {f"{n}.png": draw(n)[0] for n in range(10)}
            | {f"{n}.txt": yolo_line(n) for n in range(10)}
            | {"classes.txt": b"tall\r\nwide\r\n"}
        ),
        lambda: (
            {f"images/{n}.png": draw(n)[0] for n in range(10)}
            | {f"labels/{n}.txt": yolo_line(n) for n in range(10)}
            | {"notes.json": b'{"categories": [{"id": 1, "name": "wide"}, {"id": 0, "name": "tall"}], "info": {}}'}
        ),
        lambda: (
            {f"images/{n}.png": draw(n)[0] for n in range(10)}
            | {f"labels/{n}.txt": yolo_line(n) for n in range(10)}
            | {"data.yaml": b"names: [tall, wide]\n"}
        ),
    ],
    ids=["CVAT COCO", "Label Studio COCO", "labelImg VOC", "labelme", "labelImg", "Label Studio", "names only"],
)
def test_one_set_is_split_by_the_seed(tmp_path: Path, files: Callable[[], Files]) -> None:
    result = read(tmp_path, files())

    assert_boxes(result, (8, 2))
    assert "there is no val: 2 of the 10 images" in result.guesses


def test_polygons_of_coco_are_read_for_a_model_that_segments(tmp_path: Path) -> None:
    result = read(tmp_path, roboflow_coco(), "segment")

    left, top, right, bottom = (value / SIDE for value in corners(3))
    assert result.rows("train/3.png") == [
        pytest.approx([1, left, top, right, top, right, bottom, left, bottom], abs=1e-5)
    ]


def test_the_parts_of_an_object_of_coco_are_joined(tmp_path: Path) -> None:
    parts = [[1, 1, 9, 1, 9, 9], [20, 20, 30, 20, 30, 30]]

    (row,) = read(tmp_path, roboflow_coco(segmentation=parts), "segment").rows("train/0.png")

    assert len(row) > 1 + 2 * 6
    assert (min(row[1:]), max(row[1:])) == pytest.approx((1 / SIDE, 30 / SIDE), abs=1e-5)


def test_keypoints_of_coco_are_read_for_a_pose_model(tmp_path: Path) -> None:
    result = read(tmp_path, roboflow_coco(), "pose")

    left, top, right, bottom = (value / SIDE for value in corners(3))
    assert result.rows("train/3.png")[0][5:] == pytest.approx([left, top, 2, right, bottom, 1], abs=1e-5)
    assert (result.data["kpt_shape"], result.data["flip_idx"]) == ([2, 3], [1, 0])


def test_bitmap_masks_of_coco_that_cannot_be_read_do_not_matter_for_boxes(tmp_path: Path) -> None:
    files = roboflow_coco(segmentation={"counts": "abc", "size": [SIDE, SIDE]})

    assert_boxes(read(tmp_path / "a", files))
    with pytest.raises(DatasetInvalidError, match="12 annotations that cannot be read"):
        read(tmp_path / "b", files, "segment")


def test_crowds_of_coco_are_no_objects(tmp_path: Path) -> None:
    files = roboflow_coco()
    content = json.loads(files["train/_annotations.coco.json"])
    content["annotations"][0] |= {"iscrowd": 1, "segmentation": {"counts": [1], "size": [SIDE, SIDE]}}
    files["train/_annotations.coco.json"] = json.dumps(content).encode()

    assert read(tmp_path, files, "segment").report.splits["train"].background == 1


def test_coco_may_name_the_folders_of_another_machine(tmp_path: Path) -> None:
    files = images("images", range(8))
    annotations = coco(range(8), "../../label-studio/data/media/upload/1/")

    assert_boxes(read(tmp_path, files | {"result.json": json.dumps(annotations).encode()}), splits=(6, 2))


def test_images_of_coco_that_the_archive_lacks_are_named(tmp_path: Path) -> None:
    files = roboflow_coco()
    del files["train/3.png"]

    result = read(tmp_path, files)

    assert len(result.images("train")) == 7
    assert "train/_annotations.coco.json: 3.png" in result.report.message


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ({"a.json": b'[{"data": {"image": "x.png"}, "annotations": []}]'}, "Label Studio's JSON, name no image.*add"),
        ({"via.json": b'{"a.png123": {"filename": "a.png", "regions": []}}'}, "VIA's JSON, hold no objects"),
        ({"labels.csv": b"image,label"}, "labels.csv is no table of boxes.*model to classify"),
        ({"a.parquet": b""}, "Parquet is not read: export"),
        ({"WIDER_x/wider_face_split/a.txt": b"1.jpg"}, "WIDER FACE.*datum convert"),
        ({"gt/gt.txt": b"1,1,3,4,5,6,1,1,1"}, "MOT's tracks.*datum convert"),
        ({"b/leftImg8bit/a.png": draw(1)[0], "b/gtFine/a.png": draw(2)[0]}, "gtFine/ seems to hold masks"),
        ({"film.mp4": b""}, "videos are not read: export their frames"),
        ({"inner.zip": b""}, "there is an archive in it: upload that one"),
        ({"a.txt": LINE}, "nothing names their classes: add data.yaml"),
        ({"tall/1.png": draw(1)[0], "wide/2.png": draw(2)[0]}, "folders of classes use a model to classify"),
        ({"classes.txt": b"", "a.txt": LINE}, "name no classes"),
        ({}, "no labels: add labels"),
        ({"masks/a.png": draw(1)[0]}, "masks/ seems to hold masks.*convert_segment_masks_to_yolo_seg"),
    ],
)
def test_unsupported_formats_are_named_with_the_fix(tmp_path: Path, change: Files, advice: str) -> None:
    with pytest.raises(DatasetInvalidError, match=advice):
        read(tmp_path, {"a.png": draw(1)[0]} | change)


@pytest.mark.parametrize(("task", "files"), [("segment", voc_with_image_sets), ("pose", labelme_in_folders)])
def test_formats_without_what_the_model_needs_are_refused(
    tmp_path: Path, task: str, files: Callable[[], Files]
) -> None:
    with pytest.raises(DatasetInvalidError, match=r"boxes only|not read as keypoints"):
        read(tmp_path, files(), task)


@pytest.mark.parametrize(
    ("files", "name"), [(roboflow_coco, "coco"), (voc_in_split_folders, "voc")], ids=["COCO", "VOC"]
)
def test_a_description_without_its_labels_gives_way_to_other_labels(
    tmp_path: Path, files: Callable[[], Files], name: str
) -> None:
    result = read(tmp_path, files() | {"data.yaml": b"train: train\nval: valid\nnames: [a, b]"})

    assert_boxes(result)
    assert result.report.format == name
    assert "data.yaml was not used" in result.guesses


def test_two_kinds_of_labels_are_refused_and_both_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalidError, match="COCO JSON and as Pascal VOC: leave only one"):
        read(tmp_path, original_coco() | {"a.xml": voc_xml(0)})


def test_labels_without_their_images_are_refused(tmp_path: Path) -> None:
    files = {name: content for name, content in original_coco().items() if name.endswith(".json")}

    with pytest.raises(DatasetInvalidError, match="labels as COCO JSON, but no images: add them"):
        read(tmp_path, files)


def test_a_name_that_two_images_share_but_for_the_suffix_is_a_problem(tmp_path: Path) -> None:
    files = images("", range(0)) | {f"{n}.png": draw(n)[0] for n in range(10)} | {"3.jpg": draw(3)[0]}
    annotations = coco(range(10))
    annotations["images"].append({"id": 99, "file_name": "3.jpg", "width": SIDE, "height": SIDE})

    result = read(tmp_path, files | {"a.json": json.dumps(annotations).encode()})

    assert "differ in the suffix only" in result.report.message


HOSTILE_XML = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd"><!ENTITY a "aaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotation><filename>&x;</filename><object><name>&b;</name></object></annotation>"""


def test_entities_in_xml_are_not_resolved(tmp_path: Path) -> None:
    files = voc_with_image_sets() | {"VOC2012/Annotations/0.xml": HOSTILE_XML}

    result = read(tmp_path, files)

    assert "VOC2012/JPEGImages/0.png" not in result.images("train")
    assert "0.xml: EntitiesForbidden" in result.report.message
    assert "root:" not in json.dumps(result.report.as_json())


@pytest.mark.parametrize(
    "changes",
    [
        {"segmentation": [[1, 2, 3, 4, 5]]},
        {"segmentation": [[1, 2, 3, 4]], "bbox": None},
        {"segmentation": 5},
        {"category_id": [1]},
        {"bbox": [float("nan"), 1, 2, 3]},
        {"bbox": "no box", "segmentation": []},
    ],
)
def test_annotations_of_coco_that_cannot_be_read_are_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    task = "segment" if "segmentation" in changes else "detect"

    with pytest.raises(DatasetInvalidError, match=r"12 of 12 are broken.*remove them.*train/0\.png"):
        read(tmp_path, roboflow_coco(**changes), task)


@pytest.mark.parametrize("ids", [str, lambda number: [number]])
def test_ids_of_coco_may_be_anything(tmp_path: Path, ids: Callable[[int], Any]) -> None:
    files = roboflow_coco()
    for name in ("train/_annotations.coco.json", "valid/_annotations.coco.json"):
        content = json.loads(files[name])
        for image in content["images"]:
            image["id"] = ids(image["id"])
        for annotation in content["annotations"]:
            annotation["image_id"] = ids(annotation["image_id"])
        files[name] = json.dumps(content).encode()

    assert_boxes(read(tmp_path, files))


def test_xml_in_an_older_encoding_is_read(tmp_path: Path) -> None:
    text = voc_xml(0).decode().replace('version="1.0"', 'version="1.0" encoding="euc-kr"').replace("tall", "고양이")

    result = read(tmp_path, voc_with_image_sets() | {"VOC2012/Annotations/0.xml": text.encode("euc-kr")})

    assert result.names == ["tall", "wide", "고양이"]


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"images": 5, "annotations": {}, "categories": null}', b"\xff"])
def test_json_that_is_no_dataset_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DatasetInvalidError):
        read(tmp_path, images("a", range(4)) | {"a.json": content})


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "C:\\Windows\\win.ini"])
def test_names_in_annotations_lead_nowhere_outside(tmp_path: Path, name: str) -> None:
    annotations = coco(range(4))
    annotations["images"][0]["file_name"] = name

    result = read(tmp_path, images("a", range(4)) | {"a.json": json.dumps(annotations).encode()})

    assert sorted(result.images("train") + result.images("val")) == ["a/1.png", "a/2.png", "a/3.png"]
