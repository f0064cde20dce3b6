"""Formats in which tools name each image with its objects: CVAT, CreateML, VIA, Supervisely, Datumaro, …"""

import base64
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from reading import Files, read
from small_datasets import SIDE, draw
from test_formats import NAMES, assert_boxes, coco, corners, images, original_coco, roboflow_coco

from dataset.formats import masks
from utils import DatasetInvalidError

TRAIN, VAL = range(8), range(1000, 1004)


def in_files(name: str, content: Callable[[range], Any]) -> Files:
    """Return images of both splits, and a file of annotations for each."""
    files = images("train", TRAIN) | images("valid", VAL)
    return files | {
        f"train/{name}": json.dumps(content(TRAIN)).encode(),
        f"valid/{name}": json.dumps(content(VAL)).encode(),
    }


def box(number: int) -> tuple[float, float, float, float]:
    """Return left, top, width and height in pixels."""
    left, top, right, bottom = corners(number)
    return left, top, right - left, bottom - top


def polygon(number: int) -> list[tuple[float, float]]:
    left, top, right, bottom = corners(number)
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def createml(numbers: range) -> Any:
    def entry(number: int) -> Any:
        left, top, width, height = box(number)
        middle = {"x": left + width / 2, "y": top + height / 2, "width": width, "height": height}
        return {"image": f"{number}.png", "annotations": [{"label": NAMES[number % 2], "coordinates": middle}]}

    return [entry(number) for number in numbers]


def via(numbers: range, shape: str = "rect", **attributes: Any) -> Any:
    def entry(number: int) -> Any:
        values: dict[str, Any] = {"name": shape} | dict(zip(("x", "y", "width", "height"), box(number), strict=True))
        if shape == "polygon":
            xs, ys = zip(*polygon(number), strict=True)
            values = {"name": "polygon", "all_points_x": xs, "all_points_y": ys}
        region = {"shape_attributes": values, "region_attributes": {"kind": NAMES[number % 2]} | attributes}
        return {"filename": f"{number}.png", "size": 5, "regions": [region], "file_attributes": {}}

    return {f"{number}.png5": entry(number) for number in numbers}


def supervisely(kind: str) -> Files:
    files: Files = {"meta.json": json.dumps({"classes": [{"title": name} for name in NAMES]}).encode()}
    for split, numbers in (("train", TRAIN), ("val", VAL)):
        for number in numbers:
            left, top, width, height = box(number)
            shape: dict[str, Any] = {"points": {"exterior": [[left, top], [left + width, top + height]]}}
            if kind == "polygon":
                shape = {"points": {"exterior": polygon(number), "interior": []}}
            if kind == "bitmap":
                file = io.BytesIO()
                Image.new("1", (int(width) + 1, int(height) + 1), 1).save(file, "PNG")  # outlines run through pixels
                data = base64.b64encode(zlib.compress(file.getvalue())).decode()
                shape = {"bitmap": {"data": data, "origin": [left, top]}}
            objects = [{"classTitle": NAMES[number % 2], "geometryType": kind} | shape]
            files[f"{split}/img/{number}.png"] = draw(number)[0]
            content = {"size": {"height": SIDE, "width": SIDE}, "objects": objects, "tags": []}
            files[f"{split}/ann/{number}.png.json"] = json.dumps(content).encode()
    return files


def datumaro(numbers: range, kind: str = "bbox") -> Any:
    def entry(number: int) -> Any:
        left, top, width, height = box(number)
        shape: dict[str, Any] = {"bbox": [left, top, width, height]}
        if kind == "polygon":
            shape = {"points": [value for point in polygon(number) for value in point]}
        if kind == "mask":
            shape = {"rle": rle(number)}
        annotation = {"type": kind, "label_id": number % 2} | shape
        return {"id": str(number), "annotations": [annotation, {"type": "caption"}], "image": {"path": f"{number}.png"}}

    labels = {"labels": [{"name": name} for name in NAMES]}
    return {"categories": {"label": labels}, "items": [entry(number) for number in numbers]}


def rle(number: int) -> Any:
    """Return COCO's run lengths, down the columns, of a mask whose outline is the box."""
    left, top, width, height = (round(value) for value in box(number))
    counts = [left * SIDE + top]
    for _ in range(width + 1):
        counts += [height + 1, SIDE - height - 1]
    counts[-1] = SIDE * SIDE - sum(counts[:-1])
    return {"counts": counts, "size": [SIDE, SIDE]}


def fiftyone() -> Files:
    def labels(numbers: range) -> Any:
        return {str(number): [{"label": number % 2, "bounding_box": [n / SIDE for n in box(number)]}]
                for number in numbers}  # fmt: skip

    files = images("data", range(10))
    return files | {"labels.json": json.dumps({"classes": NAMES, "labels": labels(range(10))}).encode()}


def bdd(numbers: range) -> Any:
    def entry(number: int) -> Any:
        shape = dict(zip(("x1", "y1", "x2", "y2"), corners(number), strict=True))
        lane = {"category": "lane", "poly2d": []}
        return {"name": f"{number}.png", "labels": [{"category": NAMES[number % 2], "box2d": shape}, lane]}

    return [entry(number) for number in numbers]


def label_studio(kind: str = "rectangle", *, is_short: bool = False) -> Files:
    tasks = []
    for number in range(10):
        value: dict[str, Any] = dict(
            zip(("x", "y", "width", "height"), (n / SIDE * 100 for n in box(number)), strict=True)
        )
        if kind == "polygon":
            value = {"points": [[x / SIDE * 100, y / SIDE * 100] for x, y in polygon(number)]}
        value |= {"rotation": 0, f"{kind}labels": [NAMES[number % 2]]}
        sizes = {"original_width": SIDE, "original_height": SIDE}
        image = f"/data/local-files/?d=upload%2F{number}.png"
        result = [{"value": value, "type": f"{kind}labels"} | sizes, {"type": "relation"}]
        task = {"id": number, "data": {"image": image, "source": "web/a"}, "annotations": [{"result": result}]}
        tasks.append({"id": number, "image": image, "label": [value | sizes]} if is_short else task)
    return images("images", range(10)) | {"result.json": json.dumps(tasks).encode()}


def cvat(kind: str = "box", rotation: float = 0) -> Files:
    def element(number: int) -> str:
        left, top, right, bottom = corners(number)
        points = ";".join(f"{x},{y}" for x, y in polygon(number))
        shape = f'xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}" rotation="{rotation}"'
        if kind == "polygon":
            shape = f'points="{points}"'
        if kind == "ellipse":
            middle = f'cx="{(left + right) / 2}" cy="{(top + bottom) / 2}"'
            shape = f'{middle} rx="{(right - left) / 2}" ry="{(bottom - top) / 2}"'
        if kind == "mask":
            width, height = round(right - left) + 1, round(bottom - top) + 1
            shape = f'rle="0, {width * height}" left="{left:.0f}" top="{top:.0f}" width="{width}" height="{height}"'
        return f'<{kind} label="{NAMES[number % 2]}" occluded="0" {shape}></{kind}><tag label="night"></tag>'

    def image(number: int, subset: str) -> str:
        start = f'<image id="{number}" name="{number}.png" subset="{subset}" width="{SIDE}" height="{SIDE}">'
        return f"{start}{element(number)}</image>"

    elements = [image(n, "Train") for n in TRAIN] + [image(n, "Validation") for n in VAL]
    start = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>'
    xml = f"{start}{''.join(elements)}</annotations>"
    return images("images", TRAIN) | images("images", VAL) | {"annotations.xml": xml.encode()}


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (lambda: in_files("_annotations.createml.json", createml), "createml"),
        (lambda: in_files("via_region_data.json", via), "via"),
        (lambda: in_files("via.json", lambda numbers: {"_via_img_metadata": via(numbers, "polygon")}), "via"),
        (lambda: supervisely("rectangle"), "supervisely"),
        (lambda: supervisely("polygon"), "supervisely"),
        (lambda: supervisely("bitmap"), "supervisely"),
        (lambda: in_files("default.json", datumaro), "datumaro"),
        (lambda: in_files("default.json", lambda numbers: datumaro(numbers, "mask")), "datumaro"),
        (lambda: in_files("det.json", bdd), "bdd100k"),
        (cvat, "cvat"),
        (lambda: cvat("polygon"), "cvat"),
        (lambda: cvat("ellipse"), "cvat"),
        (lambda: cvat("mask"), "cvat"),
    ],
)
def test_exports_of_tools_are_read_as_boxes(tmp_path: Path, files: Callable[[], Files], name: str) -> None:
    result = read(tmp_path, files())

    assert_boxes(result)
    assert result.report.format == name
    assert result.guesses


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (fiftyone, "fiftyone"),
        (label_studio, "label studio"),
        (lambda: label_studio("polygon"), "label studio"),
        (lambda: label_studio(is_short=True), "label studio"),
    ],
    ids=["FiftyOne", "Label Studio", "polygons", "JSON_MIN"],
)
def test_exports_in_one_file_are_split_by_the_seed(tmp_path: Path, files: Callable[[], Files], name: str) -> None:
    result = read(tmp_path, files())

    assert_boxes(result, (8, 2))
    assert result.report.format == name


@pytest.mark.parametrize(
    "files",
    [
        lambda: supervisely("polygon"),
        lambda: supervisely("bitmap"),
        lambda: in_files("via.json", lambda numbers: via(numbers, "polygon")),
        lambda: in_files("default.json", lambda numbers: datumaro(numbers, "polygon")),
        lambda: in_files("default.json", lambda numbers: datumaro(numbers, "mask")),
        lambda: cvat("polygon"),
        lambda: cvat("mask"),
        lambda: roboflow_coco_masks(is_text=False),
        lambda: roboflow_coco_masks(is_text=True),
    ],
    ids=["Supervisely", "bitmap", "VIA", "Datumaro", "mask", "CVAT", "CVAT mask", "COCO mask", "compressed"],
)
def test_polygons_and_masks_are_read_for_a_model_that_segments(tmp_path: Path, files: Callable[[], Files]) -> None:
    result = read(tmp_path, files(), "segment")

    for image in (*result.images("train"), *result.images("val")):
        _, kind, (x, y, width, height) = draw(int(Path(image).stem))
        ((number, *points),) = result.rows(image)
        edges = [min(points[::2]), max(points[::2]), min(points[1::2]), max(points[1::2])]
        assert number == kind
        assert edges == pytest.approx([x - width / 2, x + width / 2, y - height / 2, y + height / 2], abs=1e-5)


def roboflow_coco_masks(*, is_text: bool) -> Files:
    files = roboflow_coco()
    for name in [name for name in files if name.endswith(".json")]:
        content = json.loads(files[name])
        for annotation, image in zip(content["annotations"], content["images"], strict=True):
            mask = rle(int(Path(image["file_name"]).stem))
            annotation["segmentation"] = mask | ({"counts": compressed(mask["counts"])} if is_text else {})
        files[name] = json.dumps(content).encode()
    return files


def compressed(counts: list[int]) -> str:
    """Return run lengths as pycocotools writes them."""
    text = ""
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        is_more = True
        while is_more:
            bits, value = value & 0x1F, value >> 5
            is_more = value != -1 if bits & 0x10 else value != 0
            text += chr((bits | (0x20 if is_more else 0)) + 48)
    return text


def test_run_lengths_are_compressed_as_pycocotools_does() -> None:
    counts = [642, 24, 40, 24, 40, 24, 3302]

    assert compressed(counts) == "Rd0h0X1000nU3"
    assert masks.decompressed("Rd0h0X1000nU3") == counts


def test_boxes_of_cvat_may_be_turned(tmp_path: Path) -> None:
    result = read(tmp_path, cvat(rotation=90), "obb")

    _, kind, (x, y, width, height) = draw(3)
    ((number, *points),) = result.rows("images/3.png")
    assert number == kind
    edges = [min(points[::2]), max(points[::2]), min(points[1::2]), max(points[1::2])]
    assert edges == pytest.approx([x - height / 2, x + height / 2, y - width / 2, y + width / 2], abs=1e-5)


def test_images_that_no_annotation_names_are_reported(tmp_path: Path) -> None:
    result = read(tmp_path, cvat() | {"images/extra.png": draw(5)[0]})

    assert "images/extra.png" not in (*result.images("train"), *result.images("val"))
    assert "images/extra.png: not used" in result.report.message
    assert "1 image that no annotation names" in result.report.message


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        ({"annotations.xml": b"<annotations><track><box/></track></annotations>"}, "CVAT for video.*export it as"),
        ({"annotations.xml": b"<annotations><image"}, "annotations.xml cannot be read"),
        ({"a.json": b'{"samples": [{"filepath": "data/a.png"}]}'}, "FiftyOne's own dataset.*YOLOv5Dataset"),
        (
            {"a.json": json.dumps(via(range(2), label_of_a="x")).encode()},
            "attributes kind, label_of_a: call the one with the class",
        ),
        ({"a.json": json.dumps(createml(range(50, 52))).encode()}, r"a\.json: 50\.png: not in the archive"),
        (
            {
                "a.json": json.dumps(
                    coco(range(2)) | {"annotations": [{"id": 1, "image_id": 7, "caption": "x"}]}
                ).encode()
            },
            "COCO's JSON without boxes.*one folder for each class",
        ),
        (
            {"a.json": json.dumps(coco(range(2)) | {"annotations": [{"image_id": 7, "segments_info": []}]}).encode()},
            "panoptic segments.*instances_train.json",
        ),
    ],
)
def test_unsupported_exports_of_tools_are_named_with_the_fix(tmp_path: Path, files: Files, advice: str) -> None:
    with pytest.raises(DatasetInvalidError, match=advice):
        read(tmp_path, {f"{number}.png": draw(number)[0] for number in range(2)} | files)


def test_masks_of_a_brush_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalidError, match="export the project as COCO with Images"):
        read(tmp_path, label_studio("brush"))


def test_an_object_that_cannot_be_read_leaves_out_its_image(tmp_path: Path) -> None:
    files = in_files("a.json", createml)
    content = json.loads(files["train/a.json"])
    content[0]["annotations"][0]["coordinates"]["x"] = None
    files["train/a.json"] = json.dumps(content).encode()

    result = read(tmp_path, files)

    assert "train/0.png" not in result.images("train")
    assert "1 annotation that cannot be read (train/0.png: an object" in result.report.message


def test_of_all_files_of_coco_the_one_with_the_objects_is_read(tmp_path: Path) -> None:
    files = original_coco()
    for split in ("train", "val"):
        content = json.loads(files[f"annotations/instances_{split}2017.json"])
        files[f"annotations/stuff_{split}2017.json"] = json.dumps(content).encode()
        files[f"annotations/image_info_{split}2017.json"] = json.dumps(content | {"annotations": []}).encode()
        for annotation in content["annotations"]:
            del annotation["bbox"], annotation["segmentation"]
        files[f"annotations/captions_{split}2017.json"] = json.dumps(content).encode()

    result = read(tmp_path, files)

    assert_boxes(result)
    assert "stuff_train2017.json annotate the same images, and were not used" in result.guesses


def test_crowds_are_objects_if_there_is_nothing_else(tmp_path: Path) -> None:
    result = read(tmp_path, roboflow_coco(iscrowd=1))

    assert_boxes(result)
    assert "all annotations are crowds" in result.guesses


def table(numbers: range, header: str, row: str, separator: str = ",") -> bytes:
    rows = [row.format(*(round(value, 3) for value in corners(n)), n=n, name=NAMES[n % 2], side=SIDE) for n in numbers]
    return "\n".join([header, *rows] if header else rows).replace(",", separator).encode()


ROBOFLOW = ("filename,width,height,class,xmin,ymin,xmax,ymax", "{n}.png,{side},{side},{name},{0},{1},{2},{3}")


def tables(header: str, row: str, separator: str = ",") -> Files:
    files = images("train", TRAIN) | images("valid", VAL)
    return files | {
        "train/_annotations.csv": table(TRAIN, header, row, separator),
        "valid/_annotations.csv": table(VAL, header, row, separator),
    }


def kitti(number: int) -> bytes:
    left, top, right, bottom = corners(number)
    pose = "2.8 2.6 12.3 0.4 1.4 69.4 -1.5"
    care = f"DontCare -1 -1 -10 1 1 9 9 {pose.replace('2', '-1')}"
    return f"{NAMES[number % 2]} 0 0 -1.5 {left} {top} {right} {bottom} {pose}\n{care}\n".encode()


def dota(number: int) -> bytes:
    points = " ".join(f"{value}" for point in polygon(number) for value in point)
    return f"imagesource:GoogleEarth\ngsd:0.1\n{points} {NAMES[number % 2]} 0\n".encode()


def in_text(content: Callable[[int], bytes], pictures: str, labels: str) -> Files:
    files = images(f"train/{pictures}", TRAIN) | images(f"val/{pictures}", VAL)
    return files | {
        f"{Path(name).parent.parent}/{labels}/{Path(name).stem}.txt": content(int(Path(name).stem)) for name in files
    }


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (lambda: tables(*ROBOFLOW), "table"),
        (
            lambda: tables("Filename,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId", "{n}.png,{0},{1},{2},{3},{name}", ";"),
            "table",
        ),
        (lambda: tables("", "/home/me/{n}.png,{0},{1},{2},{3},{name}"), "table"),
        (lambda: in_text(kitti, "image_2", "label_2"), "kitti"),
        (lambda: in_text(dota, "images", "labelTxt"), "dota"),
    ],
    ids=["Roboflow", "GTSRB", "no header", "KITTI", "DOTA"],
)
def test_tables_and_text_in_pixels_are_read_as_boxes(tmp_path: Path, files: Callable[[], Files], name: str) -> None:
    result = read(tmp_path, files())

    assert_boxes(result)
    assert result.report.format == name


@pytest.mark.parametrize(("content", "folder"), [(kitti, "label_2"), (dota, "labelTxt")], ids=["KITTI", "DOTA"])
def test_the_name_of_a_class_may_have_several_words(
    tmp_path: Path, content: Callable[[int], bytes], folder: str
) -> None:
    files = in_text(lambda number: content(number).replace(b"wide", b"traffic light"), "images", folder)

    result = read(tmp_path, files)

    assert result.names == ["tall", "traffic light"]
    left, top, right, bottom = (value / SIDE for value in corners(3))
    box = [1, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    assert result.rows("train/images/3.png") == [pytest.approx(box, abs=1e-5)]


def test_the_xml_of_the_old_labelme_is_named(tmp_path: Path) -> None:
    xml = b"<annotation><object><name>a</name><polygon><pt><x>1</x><y>1</y></pt></polygon></object></annotation>"

    with pytest.raises(DatasetInvalidError, match="old LabelMe: convert them"):
        read(tmp_path, {f"{n}.png": draw(n)[0] for n in range(4)} | {f"{n}.xml": xml for n in range(4)})


def test_the_corners_of_dota_are_read_for_an_obb_model(tmp_path: Path) -> None:
    result = read(tmp_path, in_text(dota, "images", "labelTxt"), "obb")

    ((kind, *points),) = result.rows("train/images/3.png")
    assert kind == 1
    assert points == pytest.approx([value / SIDE for point in polygon(3) for value in point], abs=1e-5)


def test_a_table_may_hold_shares_of_the_size_and_no_classes(tmp_path: Path) -> None:
    files = {f"{number}.png": draw(number)[0] for number in range(10)}
    rows = [",".join([str(n), *(str(value / SIDE) for value in corners(n))]) for n in range(10)]
    files["train.csv"] = "\n".join(["ImageID,XMin,YMin,XMax,YMax", *rows]).encode()

    result = read(tmp_path, files)

    left, top, right, bottom = (value / SIDE for value in corners(3))
    assert result.names == ["object"]
    assert result.rows("3.png") == [
        pytest.approx([0, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top], abs=1e-5)
    ]
    assert "all objects are of one class" in result.guesses
    assert "shares of the images' sizes" in result.guesses


def test_a_row_without_a_box_is_an_image_without_objects_or_a_problem(tmp_path: Path) -> None:
    files = tables(*ROBOFLOW)
    files["train/_annotations.csv"] += b"\nextra.png,64,64,,,,,\nbroken.png,64,64,tall,a,b,c,d"
    files |= {"train/extra.png": draw(5)[0], "train/broken.png": draw(6)[0]}

    result = read(tmp_path, files)

    assert result.report.splits["train"].background == 1
    assert "train/broken.png: row 10 of the table has no box" in result.report.message


def test_a_table_beside_other_labels_is_not_used(tmp_path: Path) -> None:
    result = read(tmp_path, roboflow_coco() | {"labels.csv": table(TRAIN, *ROBOFLOW)})

    assert_boxes(result)
    assert result.report.format == "coco"
