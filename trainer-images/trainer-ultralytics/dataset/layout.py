"""The common form of all formats: classes, the images of each split, and labels as YOLO's text files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dataset.splits import Splits
from dataset.text_labels import TextLabels


@dataclass
class Layout:
    """A dataset for YOLO."""

    format: str
    names: list[str]
    splits: Splits
    #: the file with an image's labels, or None; ultralytics looks for it at ``labels.label_of``
    labels_of: Callable[[Path], Path | None]
    #: the name of an image's labels, for messages
    source_of: Callable[[Path], str]
    kpt_shape: list[int] | None = None
    flip_idx: list[int] | None = None
    channels: int = 3
    #: the numbers of ``names`` that are no classes: no label may have them
    unused: frozenset[int] = frozenset()
    #: the label files as the archive has them; None if they were converted
    text_labels: TextLabels | None = None
