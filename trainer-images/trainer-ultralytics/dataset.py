"""Untrusted datasets: downloaded, unpacked and checked before ultralytics reads them.

Nothing that ultralytics would execute reaches it: it runs ``download:`` in data.yaml as Python, and loads a ``.cache``
beside the labels as a pickle.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from PIL import Image, UnidentifiedImageError

import labels
from archive import limit, unpack
from utils import Contract, DatasetInvalidError

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}
#: images that are not supported: an error names them, instead of skipping them silently
FOREIGN_SUFFIXES = {".gif", ".heic", ".heif", ".avif", ".dng", ".jp2", ".svg", ".psd"}
FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
SMALLEST_PIXELS = 10  # of a side: ultralytics rejects smaller images
YAML_LIMIT_BYTES = 1_000_000
CLASS_LIMIT = 100_000


def fetch(contract: Contract, model: Any) -> Path:
    """Return the ``data`` argument of ``YOLO.train``: a data.yaml that we wrote, or a folder of classes.

    Raises:
        DatasetInvalidError: the message names the file, and the line if there is one.
    """
    folder = unpacked(contract, _wanted)
    root = _root(folder)
    if model.task == "classify":
        images = _classes(root)
        check_images(contract, images, root)
        return root
    data = _read_yaml(root)
    images_of = {split: list(_images(root, data, split)) for split in ("train", "val")}
    images = sorted({path for paths in images_of.values() for path in paths})
    check_images(contract, images, root)
    labels.check(contract, images_of, root, labels.Rules.of(data, model.task))
    return _write_yaml(root, data)


def unpacked(contract: Contract, wanted: Callable[[PurePosixPath], bool]) -> Path:
    """Download and unpack the dataset. Raises: DatasetInvalidError."""
    archive, folder = contract.download_dataset(), contract.scratch / "dataset"
    skipped = unpack(archive, folder, wanted, contract.check)
    archive.unlink()
    folder.mkdir(exist_ok=True)
    if skipped:
        contract.event("log", f"{skipped} files of the dataset are neither images nor labels and were skipped")
    return folder


def _wanted(path: PurePosixPath) -> bool:
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


def check_images(contract: Contract, images: Iterable[Path], root: Path) -> None:
    """Decode each image once. Raises: DatasetInvalidError."""
    limit_pixels = limit("DATASET_PIXEL_LIMIT", 100_000_000)
    Image.init()  # else Pillow has not registered the rarer formats
    Image.MAX_IMAGE_PIXELS = None  # our own limit's message names the file
    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as pool:
        try:
            for _ in pool.map(lambda path: _check_image(path, root, limit_pixels), images, chunksize=1):
                contract.check()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _check_image(path: Path, root: Path, limit_pixels: int) -> None:
    name = path.relative_to(root)
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if width * height > limit_pixels:
                raise DatasetInvalidError(f"{name}: {width}x{height} pixels are more than {limit_pixels}")
            if min(width, height) < SMALLEST_PIXELS:
                raise DatasetInvalidError(f"{name}: {width}x{height} pixels; a side needs {SMALLEST_PIXELS} or more")
            image.draft("RGB", (64, 64))  # a JPEG is read completely, but decoded at a small scale
            image.load()
            if image.format == "TIFF" and image.mode in {"F", "I"}:
                raise DatasetInvalidError(f"{name}: a TIFF of 32 bits a sample; use 8 or 16")
    # ultralytics replaces Image.open by a function that raises ImportError for an unknown image, to ask for a plug-in.
    except (UnidentifiedImageError, ImportError) as error:
        raise DatasetInvalidError(f"{name}: not an image of these formats: {', '.join(FORMATS)}") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DatasetInvalidError(f"{name}: broken or truncated: {error}") from error


def _write_yaml(root: Path, data: dict[str, Any]) -> Path:
    """Write a data.yaml with the checked fields only."""
    checked = {name: data[name] for name in ("names", "train", "val", "kpt_shape", "flip_idx") if name in data}
    for split in ("train", "val"):
        folders = data[split] if isinstance(data[split], list) else [data[split]]
        checked[split] = [str(_inside(root, data["path"], name, split)) for name in folders]
    path = root / "stoker.yaml"
    path.write_text(yaml.safe_dump(checked, allow_unicode=True), encoding="utf-8")
    return path
