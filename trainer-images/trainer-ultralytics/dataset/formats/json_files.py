"""JSON files with annotations: which tool wrote each of them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from dataset.contents import Contents
from utils import DatasetInvalidError

LIMIT_BYTES = 2_000_000_000
#: what to do with the formats that are not read
ADVICE = {
    "Label Studio's JSON": "export it as YOLO with Images",
    "Supervisely's JSON": "export it as YOLO or COCO",
    "CreateML's JSON": "export it as YOLO or COCO",
    "VIA's JSON": "export it as COCO",
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
    first = data[0] if isinstance(data, list) and data else data
    keys = first.keys() if isinstance(first, dict) else set()
    if isinstance(data, list):
        if {"image", "annotations"} <= keys:
            return "CreateML's JSON"
        return "Label Studio's JSON" if "data" in keys or {"image", "label"} <= keys else ""
    if {"images", "annotations", "categories"} <= keys:
        return "coco"
    if "shapes" in keys:
        return "labelme"
    if {"objects", "size"} <= keys:
        return "Supervisely's JSON"
    is_via = "_via_img_metadata" in keys or any(isinstance(one, dict) and "regions" in one for one in data.values()) \
        if isinstance(data, dict) else False  # fmt: skip
    return "VIA's JSON" if is_via else ""
