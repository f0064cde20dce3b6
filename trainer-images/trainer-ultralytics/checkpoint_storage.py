"""Checkpoints are stored while the training continues: from copies, so that it may overwrite its files meanwhile."""

import math
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

Version = tuple[int, int, int] | None  # inode, time and size of a file; None: there is no file
CHECKPOINT_SECONDS = 60.0
GIVE_WAY_SECONDS = 5.0


class Checkpoints:
    """Stores one set of files at a time, skipping unchanged files.

    ``store`` stores a file and returns whether it succeeded; it should give up once the passed function returns True.
    ``folder`` is for copies.
    """

    def __init__(self, store: Callable[[Path, Callable[[], bool]], bool], folder: Path) -> None:
        self._store, self._folder = store, folder
        self._stored, self._storing = dict[str, Version](), dict[str, Version]()
        self._stored_at = -math.inf
        self._thread, self._outdated = threading.Thread(), threading.Event()

    def save(self, paths: Iterable[Path]) -> bool:
        """Start storing files, unless an upload is running or one began in the last minute; return whether it started.

        If a file cannot be stored, the files after it are not stored either, and the next call tries again.
        """
        if self._thread.is_alive() or time.monotonic() - self._stored_at < CHECKPOINT_SECONDS:
            return False
        versions = _versions(paths)
        changed, is_outdated = self._begin(versions)
        try:
            copies = self._copied(changed)
        except OSError:  # such as no room for a copy: then the training waits
            return self._store_all(changed, is_outdated)
        if versions != _versions(versions):
            return False  # changed while it was copied: the next call tries again
        self._thread = threading.Thread(
            target=self._store_all, args=[copies, is_outdated], name="checkpoints", daemon=True
        )
        self._thread.start()
        return True

    def save_now(self, paths: Iterable[Path]) -> bool:
        """Store files at once; return whether all are stored."""
        versions, known = _versions(paths), self._stored | self._storing
        if any(version != known.get(path.name, ()) for path, version in versions.items()):
            self._outdated.set()  # an upload that hangs must not delay a newer file
        self.wait(GIVE_WAY_SECONDS if self._outdated.is_set() else None)
        return self._store_all(*self._begin(versions))

    def wait(self, seconds: float | None = None) -> None:
        """Wait for the running upload."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _begin(self, versions: dict[Path, Version]) -> tuple[dict[Path, Version], Callable[[], bool]]:
        """Return the changed files, and a function that tells whether newer files replace them."""
        changed = {path: version for path, version in versions.items() if version != self._stored.get(path.name, ())}
        self._storing, self._outdated = {path.name: version for path, version in changed.items()}, threading.Event()
        return changed, self._outdated.is_set

    def _copied(self, changed: dict[Path, Version]) -> dict[Path, Version]:
        """Return copies of the files. Raises: OSError."""
        self._folder.mkdir(exist_ok=True)
        return {Path(shutil.copyfile(path, self._folder / path.name)): changed[path] for path in changed}

    def _store_all(self, files: dict[Path, Version], is_outdated: Callable[[], bool]) -> bool:
        try:
            for path, version in files.items():
                if not self._store(path, is_outdated):
                    return False
                self._stored[path.name] = version
            self._stored_at = time.monotonic()
            return True
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)


def _versions(paths: Iterable[Path]) -> dict[Path, Version]:
    return {path: _version(path) for path in paths}


def _version(path: Path) -> Version:
    stat = path.stat() if path.exists() else None
    return stat and (stat.st_ino, stat.st_mtime_ns, stat.st_size)
