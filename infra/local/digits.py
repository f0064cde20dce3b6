"""Small datasets for demos and tests, from scikit-learn's handwritten digits: for detection and for classification."""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

IMAGES = 300
#: the rest is for validation, and shows digits that the training images do not show
_TRAIN_SHARE = 0.8
_TRAIN_DIGITS = 1400
_SIDE = 128  # pixels, of an image
_DIGIT_SIDES = (28, 49)  # pixels, of a digit: from, to
_DIGITS_LIMIT = 3
_CLASS_SIDE = 32  # pixels, of an image for classification
_NOISE = 40  # of 255
_PLACES_TRIED = 20
_BRIGHTEST = 16  # of a pixel of scikit-learn's digits
#: a fixed time in the archive, so that equal content gives equal bytes
_ZIP_TIME = (2026, 1, 1, 0, 0, 0)

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def write_classes(path: Path) -> None:
    """Write a zip of ``{train,val}/{digit}/`` with one digit per image, for classification."""
    digits = load_digits()
    with _whole_zip(path) as archive:
        for number, (image, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
            split = "train" if number < _TRAIN_DIGITS else "val"
            _add(archive, f"{split}/{digit}/{number:04}.png", _png(_scaled(image, _CLASS_SIDE)))


def write_strewn(path: Path, count: int = IMAGES, seed: int = 1) -> None:
    """Write a zip of small dark images with several digits each, for detection.

    Its layout is ``data.yaml``, ``images/{train,val}``, ``labels/{train,val}``.
    """
    random, digits = np.random.default_rng(seed), load_digits()
    with _whole_zip(path) as archive:
        for number in range(count):
            split = "train" if number < count * _TRAIN_SHARE else "val"
            pixels, labels = _draw(random, digits, split)
            _add(archive, f"images/{split}/{number:04}.png", _png(pixels))
            _add(archive, f"labels/{split}/{number:04}.txt", labels.encode())
        _add(archive, "data.yaml", _data_yaml().encode())


@contextmanager
def _whole_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Write an archive atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with zipfile.ZipFile(part, "w") as archive:
        yield archive
    part.replace(path)


def _data_yaml() -> str:
    names = ", ".join(f'"{digit}"' for digit in range(10))
    return f"path: .\ntrain: images/train\nval: images/val\nnames: [{names}]\n"


def _draw(random: np.random.Generator, digits: Any, split: str) -> tuple[Pixels, str]:
    """Return an image (128, 128) and its labels: class, centre and size, relative to the image."""
    pixels = random.integers(0, _NOISE, (_SIDE, _SIDE), dtype=np.uint8)
    boxes: list[tuple[int, int, int]] = []
    labels = []
    for _ in range(int(random.integers(1, _DIGITS_LIMIT + 1))):
        known = (0, _TRAIN_DIGITS) if split == "train" else (_TRAIN_DIGITS, len(digits.target))
        index, side = int(random.integers(*known)), int(random.integers(*_DIGIT_SIDES))
        place = _free_place(random, side, boxes)
        if place is None:
            continue
        x, y = place
        boxes.append((x, y, side))
        digit = _scaled(digits.images[index], side)
        pixels[y : y + side, x : x + side] = np.maximum(pixels[y : y + side, x : x + side], digit)
        centre, of_1 = ((x + side / 2) / _SIDE, (y + side / 2) / _SIDE), side / _SIDE
        labels.append(f"{digits.target[index]} {centre[0]:.6f} {centre[1]:.6f} {of_1:.6f} {of_1:.6f}\n")
    return pixels, "".join(labels)


def _free_place(random: np.random.Generator, side: int, boxes: list[tuple[int, int, int]]) -> tuple[int, int] | None:
    for _ in range(_PLACES_TRIED):
        x, y = (int(value) for value in random.integers(0, _SIDE - side, 2))
        if all(x + side < a or a + s < x or y + side < b or b + s < y for a, b, s in boxes):
            return x, y
    return None


def _scaled(digit: Any, side: int) -> Pixels:
    image = Image.fromarray((digit / _BRIGHTEST * 255).astype(np.uint8))
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _ZIP_TIME)
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)  # uncompressed: PNG is compressed already
