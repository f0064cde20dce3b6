"""Small synthetic datasets: bright rectangles on dark ground, tall or wide, the same every time."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 40


def draw(number: int, kind: int) -> bytes:
    """Return a PNG of a class: 0 is tall, 1 is wide, 2 is square."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 40, (SIDE, SIDE, 3), dtype=np.uint8)
    width, height = ((8, 26), (26, 8), (16, 16))[kind]
    left, top = (int(n) for n in random.integers(2, SIDE - 28, 2))
    pixels[top : top + height, left : left + width] = (220, 60, 60)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def dataset(train: int = 12, val: int = 6, kinds: int = 2) -> dict[str, bytes]:
    """Return the files of a good dataset."""
    names = ("tall", "wide", "square")
    return {
        f"{split}/{names[number % kinds]}/{number}.png": draw(number, number % kinds)
        for split, numbers in (("train", range(train)), ("val", range(1000, 1000 + val)))
        for number in numbers
    }


def flat(each: int = 10) -> dict[str, bytes]:
    """Return the files of a good dataset without train/ and val/."""
    names = ("tall", "wide")
    return {f"{names[number % 2]}/{number}.png": draw(number, number % 2) for number in range(2 * each)}


def zipped(files: Mapping[str, bytes], path: Path) -> Path:
    """Write a zip archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path
