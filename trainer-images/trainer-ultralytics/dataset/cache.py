"""Unpacked datasets that the jobs of a node share: in DATASET_CACHE_DIR, of DATASET_CACHE_BYTES at most.

An entry is a folder that is written under a temporary name and then renamed, so it appears atomically. A job
holds a shared lock (flock) on the entry that it uses; removing an entry requires an exclusive lock. A job sees an
entry's images as links in a folder of its own, and gets copies of all other files: it never writes to the
entry. All content is compared with the checksums of the entry's manifest before it is used.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from dataset import download
from dataset.download import Download
from dataset.images import Inspected, Inspections, Levels, Rules, inspect_unpacked, is_image
from dataset.limits import limit
from dataset.processes import spread
from dataset.report import Report
from dataset.unpacking import unpack
from storage import CHUNK_BYTES
from utils import Contract

Wanted = Callable[[PurePosixPath], bool]
FILES, MANIFEST, BYTES, NEW, OLD = "files", "manifest.json", "bytes", ".new-", ".old-"
ABANDONED_SECONDS = 3_600.0  # a temporary folder that is older and not locked is left over from a crash
BATCH_FILES = 64  # for a process at a time
_REPORTED = ("bytes", "files", "skipped", "skipped_names", "guesses")  # what unpacking notes in a report
#: settings that do not change what an entry holds
_OWN = {"DATASET_ID", "DATASET_ETAG", "DATASET_CACHE_DIR", "DATASET_CACHE_BYTES", "DATASET_BROKEN_SHARE"}
_locks = list[int]()  # descriptors of the entries in use: the locks end with this process
log = logging.getLogger("dataset")


class File(NamedTuple):
    """A file of an entry: its path in the archive, and what is known of an image."""

    path: str
    size_bytes: int
    checksum: int
    inspected: Sequence[Any] | None = None


class DamagedError(Exception):
    """An entry differs from its manifest."""


def unpacked(contract: Contract, wanted: Wanted, rules: Rules, report: Report) -> tuple[Path, Inspections]:
    """Return the job's own folder with the wanted files of its dataset, and the inspected images.

    Raises:
        DatasetInvalidError: the message names the entry.
    """
    contract.phase("downloading and unpacking the dataset")
    folder = contract.scratch / "dataset"
    folder.mkdir(exist_ok=True)
    archive = download.opened(contract)  # which also decides whether the job may read the dataset
    known = None
    if os.environ.get("DATASET_CACHE_DIR") and isinstance(archive, Download) and archive.etag:
        with archive:
            known = _shared(contract, archive, folder, wanted, rules, report)
        archive = archive if known is not None else download.opened(contract)
    if known is None:
        known = unpack(archive, folder, wanted, report, contract.check, partial(inspect_unpacked, rules=rules))
    archive.path.unlink()
    contract.phase("checking the dataset")
    return folder, known


def _shared(  # noqa: PLR0913, PLR0917 -- as above
    contract: Contract, archive: Download, folder: Path, wanted: Wanted, rules: Rules, report: Report
) -> Inspections | None:
    """Return the inspected images of a dataset in the cache, adding it if needed; None if the cache is unusable."""
    cache = Path(os.environ["DATASET_CACHE_DIR"])
    place = urlsplit(contract.storage.link(archive.key))
    entry = cache / _digest(
        [place.netloc, place.path, archive.etag, f"{wanted.__module__}.{wanted.__qualname__}", rules]
    )
    limit_bytes = limit("DATASET_CACHE_BYTES")
    new = entry.with_name(f"{NEW}{uuid.uuid4().hex}")
    try:
        known = _used(entry, folder, report, contract.check)
        if known is None and archive.size <= limit_bytes:
            make_room(cache, limit_bytes - archive.size)
            new.mkdir(parents=True)
            lock = _lock(new, fcntl.LOCK_EX)
            inspect = partial(_inspect_new, rules=rules)
            files = unpack(archive, new / FILES, wanted, report, contract.check, inspect)
            _complete(new, files, report)
            with suppress(OSError):  # another job was quicker
                new.rename(entry)
            make_room(cache, limit_bytes)
            os.close(lock)
            known = _used(entry, folder, report, contract.check)
    except OSError as error:  # such as a full disk, or a folder that may not be written
        log.warning("DATASET_CACHE_DIR cannot be used: %s", error)
        known = None
    finally:
        shutil.rmtree(new, ignore_errors=True)
    if known is None:  # start again, without the cache
        report.__init__(report.dataset, report.framework, report.task)  # type: ignore[misc]
        shutil.rmtree(folder)
        folder.mkdir()
    return known


def _digest(identity: list[Any]) -> str:
    """Return an entry's name: a digest of the object's version, the wanted files, and the code that reads them."""
    modules = sorted(Path(__file__).parent.glob("*.py"))  # another release makes entries of its own
    sources = [hashlib.sha256(module.read_bytes()).hexdigest() for module in modules]
    settings = sorted(item for item in os.environ.items() if item[0].startswith("DATASET_") and item[0] not in _OWN)
    text = json.dumps([identity, sources, settings], default=sorted)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


# using an entry


def _used(entry: Path, folder: Path, report: Report, check: Callable[[], None]) -> Inspections | None:
    """Lock an entry and fill the job's folder from it; return None if no usable entry exists."""
    try:
        lock = _lock(entry, fcntl.LOCK_SH)
        if os.fstat(lock).st_ino != entry.stat().st_ino:  # it was removed between these lines
            return None
    except (FileNotFoundError, BlockingIOError):
        return None
    try:
        known = _linked(entry, folder, report, check)
    except (DamagedError, FileNotFoundError, ValueError) as error:
        log.warning("the cache's copy of the dataset is damaged, and is removed: %s", error)
        shutil.rmtree(folder)
        folder.mkdir()
        with suppress(OSError):  # another job uses it, too
            _remove(entry, lock)
        return None
    with suppress(OSError):  # of another user
        os.utime(entry / BYTES)  # the last use
    _locks.append(lock)
    return known


def _linked(entry: Path, folder: Path, report: Report, check: Callable[[], None]) -> Inspections:
    digest, _, manifest = (entry / MANIFEST).read_bytes().partition(b"\n")
    if hashlib.sha256(manifest).hexdigest().encode() != digest:
        raise DamagedError(MANIFEST)
    content = json.loads(manifest)
    files = [File(*values) for values in content["files"]]
    for parent in sorted({os.path.dirname(file.path) for file in files}):  # noqa: PTH120 -- of many
        (folder / parent).mkdir(parents=True, exist_ok=True)
    batches = (files[start : start + BATCH_FILES] for start in range(0, len(files), BATCH_FILES))
    for _ in spread(partial(_link_some, entry / FILES, folder), batches, check):
        pass
    _restore(report, content["report"])
    return {file.path: _inspected(*file.inspected) for file in files if file.inspected}


def _link_some(source: Path, folder: Path, files: list[File]) -> None:
    """Compare files with their checksums; link to images, and copy what a job may change."""
    for file in files:
        path, target, checksum = source / file.path, folder / file.path, 0
        is_copied = not is_image(path)
        with path.open("rb") as content, (target if is_copied else Path(os.devnull)).open("wb") as copy:
            while chunk := content.read(CHUNK_BYTES):
                checksum = zlib.crc32(chunk, checksum)
                copy.write(chunk)
        if checksum != file.checksum or path.stat().st_size != file.size_bytes:
            raise DamagedError(file.path)
        if not is_copied:
            target.symlink_to(path)


def _inspected(width: int, height: int, problem: str, frames: int, levels: Any, *more: Any) -> Inspected:
    return Inspected(width, height, problem, frames, levels and Levels(*levels), *more)


# making one


def _inspect_new(path: str, content: bytes | None, rules: Rules) -> tuple[int, int, Inspected | None]:
    """Return a file's entry in the manifest, and make the file read-only."""
    with open(path, "rb") as file:  # noqa: PTH123 -- as it comes
        checksum = 0 if content is None else zlib.crc32(content)
        while content is None and (chunk := file.read(CHUNK_BYTES)):
            checksum = zlib.crc32(chunk, checksum)
        os.fchmod(file.fileno(), 0o444)
        return os.fstat(file.fileno()).st_size, checksum, inspect_unpacked(path, content, rules)


def _complete(new: Path, inspected: Mapping[str, Any], report: Report) -> None:
    """Write the manifest of a new entry."""
    files = [(name, *values) for name, values in inspected.items()]
    noted = {name: getattr(report, name) for name in _REPORTED}
    manifest = json.dumps({"files": files, "report": noted}).encode()
    (new / MANIFEST).write_bytes(hashlib.sha256(manifest).hexdigest().encode() + b"\n" + manifest)
    (new / BYTES).write_text(str(len(manifest) + sum(file[1] for file in files)))


def _restore(report: Report, noted: dict[str, Any]) -> None:
    for name, value in noted.items():
        setattr(report, name, Counter(value) if name == "skipped" else value)


# keeping it small


def make_room(cache: Path, limit_bytes: int) -> None:
    """Remove leftovers of crashes, and the least recently used entries until the others fit."""
    now, entries = time.time(), list[tuple[float, int, Path]]()
    for path in cache.iterdir() if cache.is_dir() else ():
        with suppress(OSError, ValueError):  # others remove entries, too
            if not path.name.startswith((NEW, OLD)):
                entries.append(((path / BYTES).stat().st_mtime, int((path / BYTES).read_text()), path))
            elif now - path.stat().st_mtime > ABANDONED_SECONDS:
                _remove(path, _lock(path, fcntl.LOCK_EX))
    total_bytes = sum(size_bytes for _, size_bytes, _ in entries)
    for _, size_bytes, path in sorted(entries):
        if total_bytes <= limit_bytes:
            return
        with suppress(OSError):  # in use
            _remove(path, _lock(path, fcntl.LOCK_EX))
            total_bytes -= size_bytes


def _remove(path: Path, lock: int) -> None:
    """Remove an entry unless another job uses it. Raises: BlockingIOError."""
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    old = path.with_name(f"{OLD}{uuid.uuid4().hex}")
    path.rename(old)
    os.close(lock)
    shutil.rmtree(old, ignore_errors=True)


def _lock(path: Path, kind: int) -> int:
    """Lock a folder until the returned descriptor is closed. Raises: FileNotFoundError, BlockingIOError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
