"""Images that are in train and in val, by their content: a model knows them already when it is validated."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from dataset.report import FILES_LIMIT, Report

SAMPLE_BYTES = 4_096  # of large files these decide whether all of it is read


def compare(train: Iterable[Path], val: Sequence[Path], name: Callable[[Path], str], report: Report) -> None:
    """Note the duplicates in the report; only files whose size both splits have are read, few of them completely."""
    sizes = Counter(image.stat().st_size for image in val)
    candidates = [image for image in train if image.stat().st_size in sizes]
    samples = {_sample(image) for image in val} if candidates else set[bytes]()
    by_content = {_digest(image): image for image in candidates if _sample(image) in samples}
    for image in val if by_content else ():
        twin = by_content.get(_digest(image))
        if twin is not None:
            report.duplicate_count += 1
            if len(report.duplicates) < FILES_LIMIT:
                report.duplicates.append({"train": name(twin), "val": name(image)})
    if report.duplicate_count:
        text = f"{report.duplicate_count} of the {len(val)} images of val are in train, too"
        report.guess("duplicates", f"{text}, such as {report.duplicates[0]['val']}: its metrics are too good")


def _sample(path: Path) -> bytes:
    """Return a digest of a file's beginning and size: most files differ in it."""
    file = os.open(path, os.O_RDONLY)
    try:
        start = os.pread(file, SAMPLE_BYTES, 0)
        return hashlib.blake2b(start, digest_size=16, salt=os.fstat(file).st_size.to_bytes(8)).digest()
    finally:
        os.close(file)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=16)).digest()
