"""Bitmap masks as polygons: run lengths (RLE) of COCO and CVAT, and images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dataset.limits import limit

FEWEST = 3  # corners of a polygon
CONTINUES, SIGN, BITS = 0x20, 0x10, 5  # of a character of compressed run lengths


def of_run_lengths(segmentation: Mapping[str, Any]) -> list[float]:
    """Return the outline of COCO's run lengths, in pixels; empty if it is too small. Raises: ValueError, KeyError."""
    height, width = map(int, segmentation["size"])
    counts = segmentation["counts"]
    counts = decompressed(counts) if isinstance(counts, str) else [int(count) for count in counts]
    return outline(mask(counts, width, height).T)  # they run down the columns


def mask(counts: Sequence[int], rows: int, columns: int) -> Any:
    """Return a mask of alternating run lengths, the first of which is outside. Raises: ValueError."""
    if rows * columns > limit("DATASET_PIXEL_LIMIT") or min(counts, default=0) < 0 or sum(counts) != rows * columns:
        raise ValueError("run lengths that do not match the size of the mask")
    return np.repeat(np.arange(len(counts), dtype=np.uint32) % 2, counts).reshape(rows, columns)


def outline(pixels: Any, left: float = 0, top: float = 0) -> list[float]:
    """Return one polygon around all parts of a mask, whose corner is at left, top; empty if it is too small."""
    import cv2  # noqa: PLC0415 -- after ``yolo.prepare``

    array = np.ascontiguousarray(pixels, np.uint8)
    contours, _ = cv2.findContours(array, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    parts = [np.add(contour.reshape(-1, 2), (left, top)) for contour in contours if len(contour) >= FEWEST]
    return merged([part.reshape(-1).astype(float).tolist() for part in parts])


def merged(polygons: list[list[float]]) -> list[float]:
    """Return one polygon for an object of several parts, as ultralytics' converter does."""
    if len(polygons) <= 1:
        return polygons[0] if polygons else []
    from ultralytics.data.converter import merge_multi_segment  # noqa: PLC0415 -- after ``yolo.prepare``

    parts = merge_multi_segment(polygons)
    return [float(number) for part in parts for point in part for number in point]


def decompressed(text: str) -> list[int]:
    """Return the run lengths: 5 bits a character, the lowest first; from the third on, less the last but one."""
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        value |= (bits & (CONTINUES - 1)) << shift
        shift += BITS
        if bits & CONTINUES:
            continue
        if bits & SIGN:
            value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))  # noqa: PLR2004
        value = shift = 0
    return counts
