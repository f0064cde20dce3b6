"""Checkpoints on their way to storage: copied, and stored by a thread, so that no upload holds up the training."""

import math
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

EVERY_SECONDS = 60.0
GIVE_UP_SECONDS = 5.0  # for an upload that is no longer wanted
Version = tuple[int, int, int]


class Checkpoints:
    """One set of files at a time, each in its order: nothing older is stored after something newer.

    ``store`` stores one file under its name, says whether it has, and gives up when the function it gets says so.
    """

    def __init__(self, folder: Path, store: Callable[[Path, Callable[[], bool]], bool]) -> None:
        self._folder, self._store = folder, store
        self._stored: dict[str, Version | None] = {}
        self._storing: dict[str, Version | None] = {}
        self._stored_at = -math.inf
        self._thread, self._outdated = threading.Thread(), threading.Event()

    def save(self, paths: Sequence[Path], *, now: bool) -> bool:
        """Store what has changed, up to the first that fails.

        Without ``now``: once a minute at most, of copies, while the training goes on; returns whether it has begun.
        With ``now``: returns whether all is stored. What is on its way and still the same is waited for.
        """
        if not now and (self._thread.is_alive() or time.monotonic() - self._stored_at < EVERY_SECONDS):
            return False
        versions = {path: _version(path) for path in paths}
        if now:
            self._let_go_of_older(versions)
        changed = {path: version for path, version in versions.items() if version != self._stored.get(path.name, ())}
        self._storing, self._outdated = {path.name: version for path, version in changed.items()}, threading.Event()
        if now:
            return self._store_all(changed, self._outdated)
        try:
            copies = {self._copied(path): version for path, version in changed.items()}
        except OSError:  # such as no room for a copy: then the training waits
            self._forget_copies()
            return self._store_all(changed, self._outdated)
        if any(version != _version(path) for path, version in versions.items()):
            return False  # written while it was copied: the next call tries again
        self._thread = threading.Thread(target=self._store_copies, args=[copies, self._outdated], daemon=True)
        self._thread.start()
        return True

    def wait(self) -> None:
        """Wait for what is on its way, which takes no longer than ``store`` tries."""
        if self._thread.is_alive():
            self._thread.join()

    def _let_go_of_older(self, versions: dict[Path, Version | None]) -> None:
        known = self._stored | self._storing
        if all(version == known.get(path.name, ()) for path, version in versions.items()):
            self.wait()
        elif self._thread.is_alive():
            self._outdated.set()
            self._thread.join(GIVE_UP_SECONDS)  # a storage that hangs is not waited for: what is newer may get through
            self._thread = threading.Thread()

    def _copied(self, path: Path) -> Path:
        self._folder.mkdir(exist_ok=True)
        return Path(shutil.copyfile(path, self._folder / path.name))

    def _store_copies(self, copies: dict[Path, Version | None], outdated: threading.Event) -> None:
        self._store_all(copies, outdated)
        self._forget_copies()

    def _forget_copies(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _store_all(self, files: dict[Path, Version | None], outdated: threading.Event) -> bool:
        for file, version in files.items():
            if not self._store(file, outdated.is_set):
                return False
            self._stored[file.name] = version
        self._stored_at = time.monotonic()
        return True


def _version(path: Path) -> Version | None:
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size
