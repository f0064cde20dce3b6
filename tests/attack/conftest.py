"""The server under attack: all functions behind one address, as on a laptop, with its log."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import httpx
import psutil
import pytest

from tests.conftest import BUCKET, ROOT, SECRET, eventually, is_up, migrate, s3_client, served


class Server(NamedTuple):
    """One server under attack."""

    address: str
    process: psutil.Process
    log: Path

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.address.removeprefix("http://").partition(":")
        return host, int(port)

    @property
    def memory_bytes(self) -> int:
        """Resident memory of its process."""
        return int(self.process.memory_info().rss)

    def logged(self) -> str:
        """Return its log."""
        return self.log.read_text(errors="replace")


@contextmanager
def attacked(folder: Path, s3: str, **environment: str) -> Iterator[Server]:
    """Serve all functions on SQLite and a real S3 server, to be attacked, with the dataset ``digits``.

    Afterwards it must still answer, and have kept its secrets.
    """
    s3_client(s3).put_object(Bucket=BUCKET, Key="datasets/digits.zip", Body=b"digits")
    trainers, log = folder / "trainers.json", folder / "server.log"
    trainers.write_text(json.dumps({"stub": {"command": {"train": ["true"], "predict": ["true"]}}}))
    settings = {
        "DATABASE_URL": f"sqlite:///{folder}/stoker.db",
        "JWT_SECRETS": f"test:{SECRET}",
        "TRAINERS": str(trainers),
        "LOCAL_RUNS_DIR": str(folder / "runs"),
        "STORAGE_BUCKET": BUCKET,
        "MINIO_ENDPOINT": s3,
        "MINIO_ACCESS_KEY": "test-key",
        "MINIO_SECRET_KEY": "test-secret-key",
    } | environment
    if settings["DATABASE_URL"].startswith("sqlite"):
        migrate(settings["DATABASE_URL"])
    with log.open("wb") as output, _served(settings, output) as server:
        yield server._replace(log=log)
        assert httpx.get(f"{server.address}/healthz", timeout=60).status_code == 200
    logged = log.read_text(errors="replace")
    assert "Traceback" not in logged
    assert SECRET not in logged
    assert "test-secret-key" not in logged


@contextmanager
def _served(settings: dict[str, str], output: IO[bytes]) -> Iterator[Server]:
    with served(ROOT / "functions/front.py", "front", settings, output=output) as (process, address):
        eventually(lambda: is_up(address), within_seconds=60)
        yield Server(address, psutil.Process(process.pid), Path(os.devnull))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, s3_server: str) -> Iterator[Server]:
    """Start one server for all tests of a file."""
    with attacked(tmp_path_factory.mktemp("attacked"), s3_server) as server:
        yield server
