"""The files below a folder."""

import os
from collections.abc import Iterator
from pathlib import Path


def below(folder: Path) -> Iterator[Path]:
    """Yield all files, those of a folder one after another and sorted."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        here = Path(parent)
        yield from (here / name for name in sorted(names))
