"""A real S3 server."""

import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

SECRET_KEY = "storage-key-that-is-secret"
BUCKET = "stoker"


def eventually(condition: Callable[[], Any], *, within_seconds: float = 240) -> Any:
    """Wait until the condition holds; return what it returned."""
    deadline = time.monotonic() + within_seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)
    return value


def free_ports(count: int) -> list[int]:
    """Return free ports of this test process whose +10000 (gRPC of weed) is free, too."""
    first = 20_000 + 1_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(first, first + 1_000)
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
        objects = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return sorted(one["Key"] for one in objects)

    def etag(self, key: str) -> str:
        return str(self.client.head_object(Bucket=BUCKET, Key=key)["ETag"]).strip('"')

    def links(self, method: str, key: str, parts: int = 0, upload_id: str = "") -> dict[str, Any]:
        upload: dict[str, Any] = {"Bucket": BUCKET, "Key": key}
        sign = self.client.generate_presigned_url
        if not parts:
            return {"url": sign(f"{method.lower()}_object", Params=upload)}
        upload["UploadId"] = upload_id or self.client.create_multipart_upload(**upload)["UploadId"]
        return {
            "urls": [sign("upload_part", Params=upload | {"PartNumber": number}) for number in range(1, parts + 1)],
            "complete_url": sign("complete_multipart_upload", Params=upload),
            "abort_url": sign("abort_multipart_upload", Params=upload),
            "upload_id": upload["UploadId"],
        }


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """A real S3 server."""
    names = ("s3.port", "master.port", "volume.port", "filer.port", "admin.port", "metricsPort")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    weed = shutil.which("weed", path=str(Path(sys.executable).parent))
    assert weed, "run `uv sync` first"
    folder = tmp_path_factory.mktemp("weed")
    off = ["-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false", "-master.telemetry=false"]
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
    eventually(lambda: _is_up(client), within_seconds=30)
    yield Bucket(endpoint, client)
    process.terminate()
    process.wait(20)


def _is_up(client: Any) -> bool:
    try:
        client.put_object(Bucket=BUCKET, Key="probe", Body=b"x")
    except Exception:  # noqa: BLE001 -- not there yet
        return False
    return True
