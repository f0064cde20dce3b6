"""Text files with objects in pixels: KITTI's boxes, and DOTA's four corners."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dataset import text
from dataset.contents import Contents
from dataset.delimited import is_number
from dataset.formats import shapes
from dataset.formats.shapes import Annotated, Shape
from dataset.layout import Layout
from utils import DatasetInvalidError

KITTI, DOTA = "KITTI's text files", "DOTA's text files"
PROBED = 20
LIMIT_BYTES = 50_000_000
DOTA_NUMBERS = 8  # four corners, before the class and the difficulty
KITTI_NUMBERS = {14, 15}  # box and pose, after the class; results have a score, too
DOTA_HEAD = ("imagesource:", "gsd:")
IGNORED = "DontCare"  # of KITTI


def find(contents: Contents) -> dict[str, list[Path]]:
    """Return the text files of each format, if the first ones that hold anything are of one."""
    paths = contents.named(".txt")
    kinds = {kind for path in paths[:PROBED] if (kind := _kind_of(path))}
    return dict.fromkeys(kinds, paths)


def _kind_of(path: Path) -> str:
    with path.open("rb") as file:
        lines = [file.readline(1_000).decode("utf-8", "replace") for _ in range(3)]
    if lines[0].startswith(DOTA_HEAD):
        return DOTA
    words = lines[0].split()
    if len(words) > DOTA_NUMBERS + 1 and not is_number(words[-2]) and all(map(is_number, words[:DOTA_NUMBERS])):
        return DOTA
    name, numbers = _named(words)
    return KITTI if name and len(numbers) in KITTI_NUMBERS and all(map(is_number, numbers)) else ""


def _named(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Return the words before the first number, such as "traffic light", and the others."""
    first = next((place for place, word in enumerate(words) if is_number(word)), len(words))
    return " ".join(words[:first]), words[first:]


def read(kind: str, paths: Sequence[Path], contents: Contents, task: str) -> Layout:
    """Write the labels of all files; return the dataset. Raises: DatasetInvalidError."""
    if task not in {"detect", "obb"} or (task, kind) == ("obb", KITTI):
        held = "boxes" if kind == KITTI else "four corners"
        raise DatasetInvalidError(f"{kind} hold {held} only, and the model is for {task}: use one to detect (yolo11n)")
    return shapes.layout(kind, _annotated(kind, paths, contents), contents, task)


def _annotated(kind: str, paths: Sequence[Path], contents: Contents) -> Iterator[Annotated]:
    for path in paths:
        image = contents.with_stem(path)
        rows = [line.split() for line in text.read(path, contents.name(path), LIMIT_BYTES).text.splitlines()]
        rows = [row for row in rows if row and not row[0].startswith(DOTA_HEAD)]
        is_of_kind = not rows or _kind_of(path) == kind
        if image is None and not is_of_kind:
            continue  # a list, or a README
        name = contents.name(image) if image else path.with_suffix("").name
        try:
            objects = [shape for row in rows if (shape := _shape(kind, row)) is not None]
        except (ValueError, IndexError):
            yield Annotated(path, name, [], problem="a row that cannot be read")
            continue
        yield Annotated(path, name, objects)


def _shape(kind: str, row: Sequence[str]) -> Shape | None:
    if kind == DOTA:
        name = " ".join(row[DOTA_NUMBERS:-1])
        return Shape(name, [float(word) for word in row[:DOTA_NUMBERS]], is_box=False)
    name, numbers = _named(row)
    if len(numbers) not in KITTI_NUMBERS:
        raise ValueError(name)
    return None if name == IGNORED else Shape(name, [float(word) for word in numbers[3:7]])
