"""Archives as files: on disk, or in storage and read while they are downloaded, in several ranges at a time."""

import io
import threading
from functools import partial
from pathlib import Path
from typing import BinaryIO

import requests

from storage import CHUNK_BYTES, ChangedError, etag_of
from utils import OVERWRITTEN, Contract, DatasetInvalidError, StorageError

RANGE_BYTES, CONNECTIONS = 16 << 20, 8
CHECK_SECONDS = 0.5


class Archive(io.FileIO):
    """An archive that is a whole file."""

    def __init__(self, path: Path, mode: str = "r") -> None:
        super().__init__(path, mode)
        self.path, self.size = path, path.stat().st_size

    def wait_for(self, start: int, stop: int) -> None:
        """Wait until other processes can read these bytes from the file at ``path``."""


class Download(Archive):
    """An archive that is being downloaded into a file; reading bytes that have not arrived yet waits for them.

    Raises:
        DatasetInvalidError: there is no such object, or it is not the version that the job is for.
        StorageError: the storage cannot be reached, or the object is overwritten meanwhile.
    """

    def __init__(self, contract: Contract, key: str, path: Path, etag: str = "") -> None:
        self._contract, self.key = contract, key
        self._is_pinned, self.etag = bool(etag), etag
        with self._contract.storage.insist(self._response, f"GET {key}", check=contract.check) as response:
            size, self.etag = int(response.headers["Content-Length"]), etag_of(response)  # all that is needed of it
        super().__init__(path, "w+")
        self.truncate(size)
        self.size, starts = size, list(range(0, size, RANGE_BYTES))
        # The last range first: a zip archive's directory is at its end.
        self._waiting, self._missing = [*reversed(starts[:-1]), *starts[-1:]], set(starts)
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._threads = list[threading.Thread]()

    def wait_for(self, start: int, stop: int) -> None:
        """Wait for the bytes. Raises the error of a failed download."""
        if not self._threads:  # the download starts with the first read
            count = min(CONNECTIONS, len(self._missing))
            self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
            for thread in self._threads:
                thread.start()
        needed = range(start // RANGE_BYTES * RANGE_BYTES, min(stop, self.size), RANGE_BYTES)
        with self._changed:
            while not self._missing.isdisjoint(needed):
                if self._error:
                    raise self._error
                self._changed.wait(CHECK_SECONDS)
                self._contract.check()

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, waiting for bytes that have not arrived."""
        position = self.tell()
        self.wait_for(position, self.size if size is None or size < 0 else position + size)
        return super().read(size) or b""

    def close(self) -> None:
        """Stop downloading."""
        if not self.closed:
            self._waiting.clear()
        super().close()

    def _work(self) -> None:
        """Download one range after another; several threads do."""
        try:
            while (start := self._next()) is not None:
                stop = min(start + RANGE_BYTES, self.size)
                with self.path.open("r+b") as file:  # of its own: this one may be closed
                    file.seek(start)
                    receive = partial(self._receive, file, stop)
                    self._contract.storage.insist(receive, f"GET {self.key}", check=self._contract.check)
                with self._changed:
                    self._missing.remove(start)
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 -- raised by the thread that waits
            with self._changed:
                self._error = error
                self._waiting.clear()
                self._changed.notify_all()

    def _next(self) -> int | None:
        with self._changed:
            return self._waiting.pop() if self._waiting else None

    def _receive(self, file: BinaryIO, stop: int) -> None:
        """Write the bytes from the file's position; after a failure, resume at the position that was reached."""
        with self._response(file.tell(), stop - 1) as response:
            if response.status_code != requests.codes.partial and (file.tell(), stop) != (0, self.size):
                raise requests.HTTPError("the storage sends no ranges")
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                self._contract.check()

    def _response(self, first: int = 0, last: int | None = None) -> requests.Response:
        try:
            response = self._contract.storage.get(self.key, self.etag, first, last)
        except ChangedError as error:
            if self._is_pinned:
                raise DatasetInvalidError(OVERWRITTEN.format(self.key)) from None
            raise StorageError(f"{error} while it was downloaded") from None
        if response is None:
            raise DatasetInvalidError(f"there is no dataset at {self.key}")
        return response


def opened(contract: Contract) -> Archive:
    """Return the dataset's version that the job is for. Raises: DatasetInvalidError, StorageError."""
    key, path = f"datasets/{contract.settings.dataset_id}.zip", contract.scratch / "dataset.zip"
    local: Path | None = getattr(contract, "local_dataset", None)
    if local is not None:  # a check without a job
        path.symlink_to(local)  # the reader removes the archive
        return Archive(path)
    return Download(contract, key, path, contract.settings.dataset_etag)
