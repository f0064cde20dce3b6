"""Small synthetic datasets: bright rectangles on dark ground, in two sizes of classes, the same every time."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64


def draw(number: int) -> tuple[bytes, int, tuple[float, float, float, float]]:
    """Return a PNG, its class, and its box (x, y, width, height)."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 40, (SIDE, SIDE, 3), dtype=np.uint8)
    kind = number % 2
    width, height = (30, 14) if kind else (14, 30)
    left, top = (int(n) for n in random.integers(2, SIDE - 32, 2))
    pixels[top : top + height, left : left + width] = (220, 60, 60) if kind else (60, 60, 220)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    box = ((left + width / 2) / SIDE, (top + height / 2) / SIDE, width / SIDE, height / SIDE)
    return file.getvalue(), kind, box


def line(task: str, kind: int, box: tuple[float, float, float, float]) -> str:
    """Return one line of a label file."""
    x, y, width, height = box
    corners = [(x - width / 2, y - height / 2), (x + width / 2, y - height / 2)]
    corners += [(x + width / 2, y + height / 2), (x - width / 2, y + height / 2)]
    if task == "segment":
        return " ".join([str(kind), *(f"{n:.6f}" for corner in corners for n in corner)])
    words = [str(kind), *(f"{n:.6f}" for n in box)]
    if task == "pose":
        words += [f"{cx:.6f} {cy:.6f} 2" for cx, cy in (corners[0], corners[2])]
    return " ".join(words)


def dataset(task: str = "detect", train: int = 8, val: int = 4) -> dict[str, bytes]:
    """Return the files of a good dataset."""
    files: dict[str, bytes] = {}
    for split, numbers in (("train", range(train)), ("val", range(1000, 1000 + val))):
        for number in numbers:
            image, kind, box = draw(number)
            if task == "classify":
                files[f"{split}/{'wide' if kind else 'tall'}/{number}.png"] = image
            else:
                files[f"images/{split}/{number}.png"] = image
                files[f"labels/{split}/{number}.txt"] = line(task, kind, box).encode()
    if task != "classify":
        pose = "kpt_shape: [2, 3]\nflip_idx: [0, 1]\n" if task == "pose" else ""
        files["data.yaml"] = f"path: .\ntrain: images/train\nval: images/val\nnames: [tall, wide]\n{pose}".encode()
    return files


def zipped(files: Mapping[str, bytes], path: Path) -> Path:
    """Write a zip archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path
