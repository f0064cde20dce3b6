"""Images: which suffixes and formats are read, and the check of each one."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from dataset.limits import limit
from dataset.report import Report

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}
#: images that are not supported: an error names them, instead of skipping them silently
FOREIGN_SUFFIXES = {".gif", ".heic", ".heif", ".avif", ".dng", ".jp2", ".svg", ".psd"}
FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")


class Rules(NamedTuple):
    """What a framework can read."""

    pixel_limit: int
    smallest_side: int = 1
    wide_tiff: bool = True  # TIFF of 32 bits a sample


class Inspected(NamedTuple):
    """What the check of one image says; an empty problem means that it can be used."""

    width: int = 0
    height: int = 0
    problem: str = ""


def rules(*, smallest_side: int = 1, wide_tiff: bool = True) -> Rules:
    """Return a framework's rules within the limits of the environment. Raises: ConfigInvalidError."""
    return Rules(limit("DATASET_PIXEL_LIMIT"), smallest_side, wide_tiff)


def check_images(images: Iterable[Path], root: Path, rules: Rules, report: Report, check: Callable[[], None]) -> None:
    """Decode each image once. Raises: DatasetInvalidError."""
    Image.init()  # else Pillow has not registered the rarer formats
    Image.MAX_IMAGE_PIXELS = None  # our own limit's message names the file
    paths = list(images)
    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as pool:
        try:
            for path, image in zip(paths, pool.map(partial(inspect, rules=rules), paths), strict=True):
                check()
                if image.problem:
                    report.refuse("broken images", image.problem, str(path.relative_to(root)))
                report.check()
                report.image_size(image.width, image.height)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def inspect(path: Path, rules: Rules) -> Inspected:
    """Decode an image at a small scale; this function may run in another thread or process."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if width * height > rules.pixel_limit:
                return Inspected(width, height, f"{width}x{height} pixels are more than {rules.pixel_limit}")
            if min(width, height) < rules.smallest_side:
                problem = f"{width}x{height} pixels; a side needs {rules.smallest_side} or more"
                return Inspected(width, height, problem)
            image.draft("RGB", (64, 64))  # a JPEG is read completely, but decoded at a small scale
            image.load()
            if image.format == "TIFF" and image.mode in {"F", "I"} and not rules.wide_tiff:
                return Inspected(width, height, "a TIFF of 32 bits a sample; use 8 or 16")
            return Inspected(width, height)
    # ultralytics replaces Image.open by a function that raises ImportError for an unknown image, to ask for a plug-in.
    except (UnidentifiedImageError, ImportError):
        return Inspected(problem=f"not an image of these formats: {', '.join(FORMATS)}")
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        return Inspected(problem=f"broken or truncated: {error}")
