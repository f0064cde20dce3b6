"""YOLO datasets: a data.yaml that names folders or lists of images, with labels beside them or below labels/."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from dataset import images, labels
from dataset.images import FOREIGN_SUFFIXES
from dataset.images import SUFFIXES as IMAGE_SUFFIXES
from dataset.report import Report
from utils import DatasetInvalidError

YAML_LIMIT_BYTES = 1_000_000
CLASS_LIMIT = 100_000


def read(
    folder: Path,
    report: Report,
    check: Callable[[], None],
    rules: images.Rules,
    *,
    task: str,
) -> Path:
    """Return the ``data`` argument of ``YOLO.train``: a data.yaml that we wrote, or a folder of classes.

    Raises:
        DatasetInvalidError: the message names the file, and the line if there is one.
    """
    root = _root(folder)
    if task == "classify":
        images.check_images(_classes(root), root, rules, report, check)
        return root
    data = _read_yaml(root)
    images_of = {split: list(_images(root, data, split)) for split in ("train", "val")}
    paths = sorted({path for paths in images_of.values() for path in paths})
    images.check_images(paths, root, rules, report, check)
    labels.check(images_of, root, labels.Rules.of(data, task), report, check)
    return _write_yaml(root, data)


def is_wanted(path: PurePosixPath) -> bool:
    """Return whether a file of the archive is unpacked."""
    suffix = path.suffix.lower()
    is_data = path.name in {"data.yaml", "data.yml"} and len(path.parts) <= 2  # noqa: PLR2004 -- the root, or one folder
    return is_data or suffix == ".txt" or suffix in IMAGE_SUFFIXES | FOREIGN_SUFFIXES


def _root(folder: Path) -> Path:
    inside = list(folder.iterdir())
    has_data = any((folder / name).exists() for name in ("data.yaml", "data.yml", "train"))
    return inside[0] if len(inside) == 1 and inside[0].is_dir() and not has_data else folder


def _classes(root: Path) -> list[Path]:
    """Return the images of train/<class>/…, val/<class>/… ."""
    val = next((root / name for name in ("val", "validation", "valid", "test") if (root / name).is_dir()), None)
    if not (root / "train").is_dir() or val is None:
        raise DatasetInvalidError("a dataset to classify needs the folders train/<class>/ and val/<class>/")
    names = {path.name for path in (root / "train").iterdir() if path.is_dir()}
    if len(names) < 2:  # noqa: PLR2004
        raise DatasetInvalidError(f"train/ has {len(names)} classes (folders); two or more are needed")
    unknown = sorted(path.name for path in val.iterdir() if path.is_dir() and path.name not in names)
    if unknown:
        raise DatasetInvalidError(f"{val.name}/{unknown[0]}: a class that train/ does not have")
    images = []
    for split in (root / "train", val):
        paths = list(_images_below(split))
        if not paths:
            raise DatasetInvalidError(f"{split.name}/ holds no images")
        images += paths
    empty = sorted(name for name in names if not any(_images_below(root / "train" / name)))
    if empty:
        raise DatasetInvalidError(f"train/{empty[0]}/ holds no images")
    return images


def _read_yaml(root: Path) -> dict[str, Any]:
    path = next((root / name for name in ("data.yaml", "data.yml") if (root / name).is_file()), None)
    if path is None:
        raise DatasetInvalidError("data.yaml is missing, in the archive's root or its only folder")
    if path.stat().st_size > YAML_LIMIT_BYTES:
        raise DatasetInvalidError(f"data.yaml is larger than {YAML_LIMIT_BYTES} bytes")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DatasetInvalidError(f"data.yaml cannot be read: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(data, dict):
        raise DatasetInvalidError("data.yaml must hold names, train and val")
    data.setdefault("val", data.get("validation"))
    data["names"] = _names(data)
    data["path"] = _base(root, data.get("path"))
    for split in ("train", "val"):
        if not data.get(split):
            raise DatasetInvalidError(f"data.yaml: {split} is missing: name the folder of its images")
    return data


def _names(data: dict[str, Any]) -> dict[int, str]:
    names, count = data.get("names"), data.get("nc")
    if names is None and isinstance(count, int) and 0 < count <= CLASS_LIMIT:
        names = [f"class_{number}" for number in range(count)]
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise DatasetInvalidError("data.yaml: names is missing: list the classes")
    if len(names) > CLASS_LIMIT or set(names) != set(range(len(names))):
        raise DatasetInvalidError(f"data.yaml: names must number the classes from 0 to {len(names) - 1}")
    if any(not isinstance(name, str | int | float) or len(str(name)) > 200 for name in names.values()):  # noqa: PLR2004
        raise DatasetInvalidError("data.yaml: each of names must be a short word")
    if count is not None and count != len(names):
        raise DatasetInvalidError(f"data.yaml: nc is {count!r}, but names lists {len(names)} classes")
    return {number: str(names[number]) for number in range(len(names))}


def _base(root: Path, path: Any) -> Path:
    """Return the folder that train and val are relative to: ``path:`` if it is in the archive, else the root."""
    if path is None or path == "":
        return root
    base = _inside(root, root, str(path), "data.yaml: path")
    return base if base.is_dir() else root


def _inside(root: Path, base: Path, name: str, what: str) -> Path:
    path = Path(os.path.normpath(base / name))
    if name.startswith("../") and not path.exists():  # Roboflow exports ../train/images for train/images
        path = Path(os.path.normpath(base / name.removeprefix("../")))
    if Path(name).is_absolute() or not path.is_relative_to(root):
        raise DatasetInvalidError(f"{what}: {name!r} points outside the archive")
    return path


def _images(root: Path, data: dict[str, Any], split: str) -> Iterator[Path]:
    folders = data[split] if isinstance(data[split], list) else [data[split]]
    count = 0
    for name in folders:
        if not isinstance(name, str):
            raise DatasetInvalidError(f"data.yaml: {split} must be the name of a folder, or a list of them")
        path = _inside(root, data["path"], name, f"data.yaml: {split}")
        if not path.exists():
            raise DatasetInvalidError(f"data.yaml: {split}: {name!r} is not in the archive")
        for image in _images_below(path) if path.is_dir() else _listed(root, path):
            count += 1
            yield image
    if not count:
        raise DatasetInvalidError(f"data.yaml: {split}: there are no images in {', '.join(folders)}")


def _listed(root: Path, path: Path) -> Iterator[Path]:
    name = path.relative_to(root)
    if path.suffix != ".txt":
        raise DatasetInvalidError(f"{name}: neither a folder nor a .txt list of images")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetInvalidError(f"{name}: not UTF-8") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            image = _inside(root, path.parent if line.startswith("./") else root, line.strip(), f"{name}:{number}")
            if not image.is_file():
                raise DatasetInvalidError(f"{name}:{number}: {line.strip()!r} is not in the archive")
            yield image


def _images_below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        suffix = path.suffix.lower()
        if suffix in FOREIGN_SUFFIXES:
            raise DatasetInvalidError(
                f"{path.name}: {suffix} images are not supported; use {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        if suffix in IMAGE_SUFFIXES and path.is_file():
            yield path


def _write_yaml(root: Path, data: dict[str, Any]) -> Path:
    """Write a data.yaml with the checked fields only."""
    checked = {name: data[name] for name in ("names", "train", "val", "kpt_shape", "flip_idx") if name in data}
    for split in ("train", "val"):
        folders = data[split] if isinstance(data[split], list) else [data[split]]
        checked[split] = [str(_inside(root, data["path"], name, split)) for name in folders]
    path = root / "stoker.yaml"
    path.write_text(yaml.safe_dump(checked, allow_unicode=True), encoding="utf-8")
    return path
