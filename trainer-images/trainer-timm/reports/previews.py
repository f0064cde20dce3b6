"""Images of a dataset as people see them: 8 bits, of a moderate size, as JPEG."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dataset.images import FORMATS, Levels, decode, is_wide, prepare

LONGEST_SIDE, QUALITY = 640, 80


def opened(path: Path, levels: Levels | None = None) -> Image.Image:
    """Return an image in RGB, at most 640 pixels long.

    Without ``levels`` it is upright, and samples of more than 8 bits are scaled to their range.
    """
    if levels is not None:
        return _small(decode(path, "RGB", levels), LONGEST_SIDE)
    prepare()
    with Image.open(path, formats=FORMATS) as image:
        own = _range(image) if is_wide(image) else Levels()
    return _small(ImageOps.exif_transpose(decode(path, "RGB", own)), LONGEST_SIDE)


def _range(image: Image.Image) -> Levels:
    values = np.asarray(image, dtype=np.float64)
    finite = values[np.isfinite(values)]
    black, white = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 0.0)
    return Levels(float(black), float(max(white, black + 1)))


def _small(image: Image.Image, longest_side: int) -> Image.Image:
    image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    return image


def jpeg(image: Image.Image, longest_side: int = LONGEST_SIDE, quality: int = QUALITY) -> bytes:
    """Return an image as JPEG; larger ones are scaled down."""
    file = io.BytesIO()
    _small(image.copy(), longest_side).save(file, "JPEG", quality=quality, optimize=True)
    return file.getvalue()
