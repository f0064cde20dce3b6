"""Images of a dataset as people see them: 8 bits, of a moderate size, as JPEG."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dataset.images import FORMATS, Levels, decode, is_wide, prepare

LONGEST_SIDE, QUALITY = 640, 80


def opened(path: Path, levels: Levels | None = None) -> Image.Image:
    """Return an image in RGB. Without ``levels``: upright, and samples of over 8 bits are scaled to their range."""
    if levels is not None:
        return decode(path, "RGB", levels)
    prepare()
    with Image.open(path, formats=FORMATS) as image:
        own = _range(image) if is_wide(image) else Levels()
    return ImageOps.exif_transpose(decode(path, "RGB", own))


def _range(image: Image.Image) -> Levels:
    values = np.asarray(image, dtype=np.float64)
    finite = values[np.isfinite(values)]
    black, white = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 0.0)
    return Levels(float(black), float(max(white, black + 1)))


def jpeg(image: Image.Image, longest_side: int = LONGEST_SIDE, quality: int = QUALITY) -> bytes:
    """Return an image as JPEG; larger ones are scaled down."""
    small = image.copy()
    small.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=quality, optimize=True)
    return file.getvalue()
