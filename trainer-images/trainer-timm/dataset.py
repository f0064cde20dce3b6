"""Untrusted datasets: a zip of class folders, downloaded, unpacked and checked before the training.

Either ``train/<class>/…`` and ``val/<class>/…``, or ``<class>/…`` alone, of which a share is used for validation.
"""

import os
import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from archive import limit, unpack
from utils import Contract, DatasetInvalidError

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
#: images that are not supported: an error names them, instead of skipping them silently
FOREIGN_SUFFIXES = {".gif", ".heic", ".heif", ".avif", ".dng", ".jp2", ".svg", ".psd"}
FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
VALIDATION = ("val", "validation", "valid", "test")
FEWEST = 2
Sample = tuple[Path, int]


class Data(NamedTuple):
    """Images with the index of their class, and the names of the classes."""

    train: list[Sample]
    val: list[Sample]
    classes: list[str]


def fetch(contract: Contract, *, val_share: float) -> Data:
    """Return the dataset, checked.

    Raises:
        DatasetInvalidError: the message names the file or folder.
    """
    folder = unpacked(contract)
    data = listed(folder, val_share=val_share, seed=contract.settings.seed)
    check_images(contract, (path for path, _ in (*data.train, *data.val)), folder)
    return data


def unpacked(contract: Contract) -> Path:
    """Download and unpack the images of the dataset. Raises: DatasetInvalidError."""
    archive, folder = contract.download_dataset(), contract.scratch / "dataset"
    skipped = unpack(archive, folder, _wanted, contract.check)
    archive.unlink()
    folder.mkdir(exist_ok=True)
    if skipped:
        contract.event("log", f"{skipped} files of the dataset are not images and were skipped")
    return folder


def _wanted(path: PurePosixPath) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES | FOREIGN_SUFFIXES


def listed(folder: Path, *, val_share: float, seed: int) -> Data:
    """Return the samples in an unpacked folder: the same list for the same seed. Raises: DatasetInvalidError."""
    root = _root(folder)
    val = next((root / name for name in VALIDATION if (root / name).is_dir()), None)
    if (root / "train").is_dir():
        if val is None:
            raise DatasetInvalidError(
                f"there is a folder train/, but none of {', '.join(f'{name}/' for name in VALIDATION)}"
            )
        classes = _classes(root / "train")
        unknown = sorted(path.name for path in val.iterdir() if path.is_dir() and path.name not in classes)
        if unknown:
            raise DatasetInvalidError(f"{val.name}/{unknown[0]}: a class that train/ does not have")
        samples = _samples(val, classes)
        if not samples:
            raise DatasetInvalidError(f"{val.name}/ holds no images in folders of classes")
        return Data(_samples(root / "train", classes, each=1), samples, classes)
    classes = _classes(root)
    return _split(_samples(root, classes, each=FEWEST), classes, val_share=val_share, seed=seed)


def _root(folder: Path) -> Path:
    """Return the folder of the classes: the archive's root, or its only folder, unless that is a class itself."""
    inside = list(folder.iterdir())
    is_wrapped = len(inside) == 1 and inside[0].name != "train" and all(path.is_dir() for path in inside[0].glob("*"))
    return inside[0] if is_wrapped and inside[0].is_dir() else folder


def _classes(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(names) < FEWEST:
        raise DatasetInvalidError(
            f"{len(names)} classes (folders of images); {FEWEST} or more are needed: train/<class>/ and val/<class>/"
        )
    return names


def _samples(folder: Path, classes: list[str], *, each: int = 0) -> list[Sample]:
    samples = []
    for number, name in enumerate(classes):
        files = [path for path in sorted((folder / name).rglob("*")) if path.is_file()]
        foreign = [path for path in files if path.suffix.lower() in FOREIGN_SUFFIXES]
        if foreign:
            raise DatasetInvalidError(
                f"{foreign[0].relative_to(folder)}: {foreign[0].suffix} images are not supported; "
                f"use {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        if len(files) < each:
            raise DatasetInvalidError(f"{name}/ holds {len(files)} images; {each} or more are needed")
        samples += [(path, number) for path in files]
    return samples


def _split(samples: list[Sample], classes: list[str], *, val_share: float, seed: int) -> Data:
    """Split off a share of each class, at least one image, for validation."""
    train, val = [], []
    for number in range(len(classes)):
        mine = [sample for sample in samples if sample[1] == number]
        random.Random(f"{seed}/{number}").shuffle(mine)  # noqa: S311 -- a reproducible choice
        count = min(max(round(len(mine) * val_share), 1), len(mine) - 1)
        val += mine[:count]
        train += mine[count:]
    return Data(sorted(train), sorted(val), classes)


def check_images(contract: Contract, images: Iterable[Path], root: Path) -> None:
    """Decode each image once. Raises: DatasetInvalidError."""
    limit_pixels = limit("DATASET_PIXEL_LIMIT", 100_000_000)
    Image.init()  # else Pillow has not registered the rarer formats
    Image.MAX_IMAGE_PIXELS = None  # our own limit's message names the file
    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as pool:
        try:
            for _ in pool.map(lambda path: _check_image(path, root, limit_pixels), images):
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
            image.draft("RGB", (64, 64))  # a JPEG is read completely, but decoded at a small scale
            image.convert("RGB")
    except UnidentifiedImageError as error:
        raise DatasetInvalidError(f"{name}: not an image of these formats: {', '.join(FORMATS)}") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DatasetInvalidError(f"{name}: broken or truncated: {error}") from error
