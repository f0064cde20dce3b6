"""Images that are in train and in val, by their content: a model knows them already when it is validated."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from dataset.report import FILES_LIMIT, Report


def compare(train: Iterable[Path], val: Sequence[Path], name: Callable[[Path], str], report: Report) -> None:
    """Note the duplicates in the report; only files whose size both splits have are read."""
    by_size = defaultdict[int, list[Path]](list)
    for image in train:
        by_size[image.stat().st_size].append(image)
    digests: dict[int, dict[bytes, Path]] = {}
    for image in val:
        size = image.stat().st_size
        if size not in by_size:
            continue
        if size not in digests:
            digests[size] = {_digest(path): path for path in by_size[size]}
        twin = digests[size].get(_digest(image))
        if twin is not None:
            report.duplicate_count += 1
            if len(report.duplicates) < FILES_LIMIT:
                report.duplicates.append({"train": name(twin), "val": name(image)})
    if report.duplicate_count:
        text = f"{report.duplicate_count} of the {len(val)} images of val are in train, too"
        report.guess("duplicates", f"{text}, such as {report.duplicates[0]['val']}: its metrics are too good")


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, hashlib.blake2b).digest()
