"""Datasets of scikit-learn's handwritten digits, drawn on the machine that is measured."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Pixels = Any  # an array of numpy, whose types differ between the versions here and there


def write_classes(path: Path, digits: Path, *, count: int, side: int) -> None:
    """Write a zip of ``{train,val}/{digit}/`` with one digit per image; ``count`` for training, a quarter for val."""
    with np.load(digits) as loaded, zipfile.ZipFile(path, "w") as archive:
        images, targets = loaded["images"], loaded["target"]
        for number in range(count + count // 4):
            split, index = "train" if number < count else "val", number % len(images)
            content = _jpeg(_scaled(images[index], side, np.random.default_rng(number)))
            archive.writestr(f"{split}/{targets[index]}/{number:05}.jpg", content)


def write_boxes(path: Path, digits: Path, *, count: int, side: int) -> None:
    """Write a zip in YOLO's layout, with three digits in each image."""
    with np.load(digits) as loaded, zipfile.ZipFile(path, "w") as archive:
        images, targets = loaded["images"], loaded["target"]
        for number in range(count + count // 4):
            split, random = "train" if number < count else "val", np.random.default_rng(number)
            pixels, labels, size = random.integers(0, 40, (side, side), dtype=np.uint8), [], side // 3
            for place in range(3):
                index = int(random.integers(len(images)))
                top, left = int(random.integers(side - size)), place * size
                pixels[top : top + size, left : left + size] = _scaled(images[index], size, random)
                box = (
                    f"{(left + size / 2) / side:.4f} {(top + size / 2) / side:.4f} {size / side:.4f} {size / side:.4f}"
                )
                labels.append(f"{targets[index]} {box}")
            archive.writestr(f"images/{split}/{number:05}.jpg", _jpeg(pixels))
            archive.writestr(f"labels/{split}/{number:05}.txt", "\n".join(labels))
        archive.writestr("data.yaml", f"train: images/train\nval: images/val\nnames: {list('0123456789')}\n")


def _scaled(digit: Pixels, side: int, random: np.random.Generator) -> Pixels:
    image = Image.fromarray((digit * 15).astype(np.uint8)).resize((side, side))
    return np.clip(np.asarray(image, dtype=np.int16) + random.integers(-8, 8, (side, side)), 0, 255).astype(np.uint8)


def _jpeg(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(file, "JPEG", quality=85)
    return file.getvalue()
