"""The progress of a transfer: one line that is drawn again a few times a second, or nothing for scripts."""

import sys
import threading
import time
from types import TracebackType
from typing import Self

from client import show
from client.output import fit, width
from client.watch import bar

_DRAW_SECONDS = 0.5
_BAR_WIDTH = 20


class TransferBar:
    """Counts bytes from several threads, and shows them with speed and time left."""

    def __init__(self, what: str, total_bytes: int, *, is_quiet: bool) -> None:
        self._what, self._total = what, total_bytes
        self._lock = threading.Lock()
        self._done = self._moved = 0
        self._began = time.monotonic()
        self._drawn_at = 0.0
        self._is_shown = sys.stderr.isatty() and not is_quiet
        self._is_quiet = is_quiet
        #: set when the transfer is given up: its threads stop at their next chunk
        self.is_stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._is_shown and self._drawn_at:
            print(f"\r\x1b[2K{self._line()}", file=sys.stderr, flush=True)

    def add(self, count: int, *, is_old: bool = False) -> None:
        """Count bytes; ``is_old``: they were transferred earlier, so that they do not count for the speed."""
        with self._lock:
            self._done += count
            self._moved += 0 if is_old else count
            now = time.monotonic()
            if self._is_shown and now - self._drawn_at >= _DRAW_SECONDS:
                self._drawn_at = now
                print(f"\r\x1b[2K{self._line()}", end="", file=sys.stderr, flush=True)

    def _line(self) -> str:
        done = self._done / self._total if self._total else 1.0
        seconds = time.monotonic() - self._began
        speed = self._moved / seconds if seconds > 1 else 0
        left = f"{show.duration((self._total - self._done) / speed)} left" if speed and done < 1 else ""
        words = [
            self._what,
            bar(min(done, 1.0), _BAR_WIDTH),
            f"{done:.0%} of {show.size(self._total)}",
            f"{show.size(int(speed))}/s" if speed else "",
            left,
        ]
        return fit("  ".join(word for word in words if word), (width() or 80) - 1)
