"""JSON files with annotations: which tool wrote each of them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from dataset.contents import Contents
from utils import DatasetInvalidError

LIMIT_BYTES = 2_000_000_000
PROBED = 50  # entries that tell the kind
PANOPTIC, LABELS = "COCO's JSON of panoptic segments", "COCO's JSON without boxes"
#: what to do with the formats that are not read
ADVICE = {
    PANOPTIC: "add the JSON of its instances, such as instances_train.json",
    LABELS: "it has captions, or labels of whole images: add boxes, or sort the images into one folder for each class "
    "and use a model to classify (yolo11n-cls.yaml)",
    "FiftyOne's own dataset": "export it with dataset_type=fiftyone.types.YOLOv5Dataset",
    "VIA 3's JSON": "export it as COCO, or use VIA 2",
}
#: by the keys of its JSON
KEYS = {
    "coco": {"images", "annotations", "categories"},
    "labelme": {"shapes"},
    "Supervisely's JSON": {"objects", "size"},
    "Datumaro's JSON": {"items", "categories"},
    "FiftyOne's JSON": {"classes", "labels"},
    "FiftyOne's own dataset": {"samples"},
    "VIA's JSON": {"_via_img_metadata"},
    "VIA 3's JSON": {"file", "metadata", "view"},
}


class JsonFile(NamedTuple):
    """A file and what it holds."""

    path: Path
    kind: str
    data: Any


def read(contents: Contents) -> list[JsonFile]:
    """Return the JSON files of a known kind. Raises: DatasetInvalidError, if one cannot be read."""
    files = []
    for path in contents.named(".json"):
        if path.stat().st_size > LIMIT_BYTES:
            raise DatasetInvalidError(f"{contents.name(path)} is larger than {LIMIT_BYTES} bytes")
        try:
            data = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            contents.report.skip("JSON files that cannot be read", contents.name(path), str(error))
            continue
        kind = kind_of(data)
        if kind:
            files.append(JsonFile(path, kind, data))
    return files


def kind_of(data: Any) -> str:
    """Return the format of a JSON file; empty if it is none that is known."""
    if isinstance(data, list):
        return _kind_of_list(data)
    keys = data.keys() if isinstance(data, dict) else set()
    known = next((kind for kind, needed in KEYS.items() if needed <= keys), "")
    if known == "coco":
        return _kind_of_coco(data)
    if known == "FiftyOne's JSON" and not isinstance(data["labels"], dict):
        return ""
    values = list(data.values())[:PROBED] if isinstance(data, dict) else []
    is_via = any(isinstance(one, dict) and {"filename", "regions"} <= one.keys() for one in values)
    return known or ("VIA's JSON" if is_via else "")


def _kind_of_list(data: list[Any]) -> str:
    keys: set[str] = set().union(*(one.keys() for one in data[:PROBED] if isinstance(one, dict)))
    if {"image", "annotations"} <= keys or {"imagefilename", "annotation"} <= keys:
        return "CreateML's JSON"
    if {"name", "labels"} <= keys:
        return "BDD100K's JSON"
    return "Label Studio's JSON" if "data" in keys or {"image", "label"} <= keys else ""


def _kind_of_coco(data: dict[str, Any]) -> str:
    """Return COCO's JSON without objects by another name: captions, panoptic segments, or images only."""
    annotations = [one for one in data["annotations"] if isinstance(one, dict)] if data["annotations"] else []
    if not annotations or any("bbox" in one or "segmentation" in one for one in annotations):
        return "coco"
    return PANOPTIC if any("segments_info" in one for one in annotations) else LABELS
