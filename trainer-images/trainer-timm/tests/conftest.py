"""Real parts: an S3 server, an HTTP server in the functions' place, and the trainer as a process of its own."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config
from functions import Functions, serve
from pictures import zipped

ROOT = Path(__file__).parent.parent
TOKEN = "callback-token-that-is-secret"
SECRET_KEY = "storage-key-that-is-secret"
BUCKET = "stoker"


def eventually(condition: Callable[[], Any], *, within_seconds: float = 60) -> Any:
    """Wait until the condition holds; return what it returned."""
    deadline = time.monotonic() + within_seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)
    return value


def free_ports(count: int) -> list[int]:
    """Return ports that are free, as are those 10000 above, which weed takes for gRPC: none of them is one of these."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20_000, 30_000)
        if port not in ports and is_free(port) and is_free(port + 10_000):
            ports.append(port)
    return ports


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@dataclass
class Bucket:
    """A bucket of the S3 server."""

    endpoint: str
    client: Any

    def put(self, key: str, content: bytes | Path) -> None:
        self.client.put_object(
            Bucket=BUCKET, Key=key, Body=content if isinstance(content, bytes) else content.read_bytes()
        )

    def get(self, key: str) -> bytes | None:
        try:
            return bytes(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        except self.client.exceptions.NoSuchKey:
            return None

    def keys(self, prefix: str) -> list[str]:
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return sorted(one["Key"] for one in found)

    def link(self, method: str, key: str) -> str:
        place = {"Bucket": BUCKET, "Key": key}
        return str(self.client.generate_presigned_url(f"{method.lower()}_object", Params=place, ExpiresIn=600))


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """A real S3 server."""
    names = ("s3.port", "master.port", "volume.port", "filer.port", "admin.port", "s3.port.iceberg", "metricsPort")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    weed = shutil.which("weed", path=str(Path(sys.executable).parent))
    assert weed, "run `uv sync` first"
    folder = tmp_path_factory.mktemp("weed")
    off = ["-webdav=false", "-admin.ui=false", "-master.telemetry=false"]
    command = [weed, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *off]
    keys = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "S3_BUCKET": BUCKET}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *(f"-{name}={port}" for name, port in ports.items())],
            env={"PATH": os.environ["PATH"], "HOME": str(folder)} | keys,
            stdout=log,
            stderr=log,
        )
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="AK",
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, signature_version="s3v4", retries={"total_max_attempts": 1}),
    )
    eventually(lambda: _answers(client), within_seconds=30)
    yield Bucket(endpoint, client)
    process.terminate()
    process.wait(20)


def _answers(client: Any) -> bool:
    try:
        client.put_object(Bucket=BUCKET, Key="probe", Body=b"x")
    except Exception:  # noqa: BLE001 -- not there yet
        return False
    return True


@pytest.fixture
def functions(bucket: Bucket) -> Iterator[Functions]:
    """The functions' side of the contract."""
    functions = Functions(bucket.link)
    server = serve(functions)
    yield functions
    server.shutdown()
    server.server_close()


@dataclass
class Trainer:
    """The trainer of one job, as a process."""

    bucket: Bucket
    functions: Functions
    folder: Path
    job_id: str = field(default_factory=lambda: f"t-{uuid.uuid4().hex[:8]}")
    trace_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def upload(self, files: dict[str, bytes]) -> None:
        self.bucket.put(f"datasets/{self.job_id}.zip", zipped(files, self.folder / "dataset.zip"))

    def start(
        self, variables: Mapping[str, str | None] | None = None, *, script: str = "train.py", **more: str | None
    ) -> subprocess.Popen[bytes]:
        given = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "SCRATCH_DIR": str(self.folder / "scratch"),
            "JOB_ID": self.job_id,
            "TRACE_ID": self.trace_id,
            "BACKEND_BASE_URL": self.functions.url,
            "CALLBACK_TOKEN": TOKEN,
            "DATASET_ID": self.job_id,
            "MODEL_NAME": "test_resnet",
            "STORAGE_TYPE": "minio",
            "STORAGE_BUCKET": BUCKET,
            "MINIO_ENDPOINT": self.bucket.endpoint,
            "MINIO_ACCESS_KEY": "AK",
            "MINIO_SECRET_KEY": SECRET_KEY,
            "EPOCHS": "2",
            "BATCH_SIZE": "4",
            "IMAGE_SIZE": "32",
            "DEVICE": "cpu",
            "WORKERS": "0",
            "HYPERPARAMETERS": '{"pretrained": false}',
            "OMP_NUM_THREADS": "2",
        }
        env = {name: value for name, value in {**given, **(variables or {}), **more}.items() if value is not None}
        with (self.folder / "output").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / script)], env=env, cwd=self.folder, stdout=output, stderr=output
            )
        self.processes.append(process)
        return process

    def run(
        self, variables: Mapping[str, str | None] | None = None, *, script: str = "train.py", **more: str | None
    ) -> int:
        return self.start(variables, script=script, **more).wait(90)

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    def stored(self, key: str) -> bytes | None:
        return self.bucket.get(key.format(id=self.job_id))


@pytest.fixture
def trainer(bucket: Bucket, functions: Functions, tmp_path: Path) -> Iterator[Trainer]:
    """A trainer that is not started yet."""
    trainer = Trainer(bucket, functions, tmp_path)
    yield trainer
    for process in trainer.processes:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    """A real MLflow server; yields its address."""
    port = free_ports(1)[0]
    store = [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/mlflow.db",
        "--artifacts-destination",
        str(tmp_path / "kept"),
    ]
    command = [str(Path(sys.executable).parent / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    with (tmp_path / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--workers", "1", *store], env=os.environ | quiet, stdout=log, stderr=log, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    eventually(lambda: _is_healthy(address), within_seconds=90)
    yield address
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(20)


def _is_healthy(address: str) -> bool:
    try:
        return requests.get(f"{address}/health", timeout=1).ok
    except requests.RequestException:
        return False
