"""A local stack with trainers for the console, and a browser to look at it."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx
from playwright.sync_api import Browser, sync_playwright

from tests.fixtures.environment import BUCKET, ROOT, eventually

BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")

#: the defaults of the trainer `preset`
DECLARATION = {"tasks": ["train", "check"], "fields": [{"name": "epochs", "type": "integer", "default": 100}]}


class Site:
    """A running stack: its address, a token, and ways to make what the console shows."""

    def __init__(self, home: Path, address: str, token: str) -> None:
        self.home, self.address, self.token = home, address, token
        lines = (home / "local.env").read_text().splitlines()
        pairs = [shlex.split(line, comments=True) for line in lines]
        self.variables = dict(pair[0].split("=", 1) for pair in pairs if pair)
        self._http = httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def close(self) -> None:
        self._http.close()

    def call(self, method: str, path: str, **options: Any) -> Any:
        response = self._http.request(method, path, **options)
        assert response.is_success, response.text
        return response.json() if response.content else None

    def put(self, key: str, content: bytes, metadata: Mapping[str, str] | None = None) -> None:
        client = boto3.client(
            "s3",
            endpoint_url=self.variables["MINIO_ENDPOINT"],
            aws_access_key_id=self.variables["MINIO_ACCESS_KEY"],
            aws_secret_access_key=self.variables["MINIO_SECRET_KEY"],
            region_name="us-east-1",
        )
        client.put_object(Bucket=BUCKET, Key=key, Body=content, Metadata=dict(metadata or {}))
        client.close()

    def submit(self, dataset: str = "digits", spec: Mapping[str, Any] | None = None, **plan: Any) -> str:
        """Start a job of the planned trainer on a dataset, and return its id."""
        fields = {"framework": "planned", "model_name": "yolo11n.yaml", "dataset_id": dataset, "hyperparameters": plan}
        job: dict[str, Any] = self.call("POST", "/v1/jobs", json=fields | dict(spec or {}))
        return str(job["id"])

    def wait_for(self, job_id: str, *states: str, epoch: int | None = None) -> None:
        """Wait until a job is in one of these states, and has reached an epoch."""

        def arrived() -> bool:
            job = self.call("GET", f"/v1/jobs/{job_id}")
            return job["state"] in states and (epoch is None or (job["epoch"] or 0) >= epoch)

        eventually(arrived, within_seconds=180, every_seconds=0.1)


@contextmanager
def site_running(home: Path, settings: Mapping[str, str] | None = None) -> Iterator[Site]:
    """Run a stack in a folder, opened as ``./taskw console`` opens it; ``settings``: more variables for it."""
    home.mkdir(parents=True, exist_ok=True)
    trainers = home / "console-trainers.json"
    planned = [sys.executable, str(ROOT / "tests/console/trainer.py")]
    softmax = [sys.executable, str(ROOT / "examples/trainer-softmax/train.py")]
    commands = {"planned": {"train": planned, "predict": planned}, "softmax": {"train": softmax}}
    registry: dict[str, Any] = {name: {"command": command} for name, command in commands.items()}
    registry["preset"] = {"command": {"train": planned, "check": planned}, "declaration": DECLARATION}
    trainers.write_text(json.dumps(registry))
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "STOKER_PORTS") if name in os.environ}
    environment = {
        **kept,
        "STOKER_HOME": str(home),
        "TRAINERS": str(trainers),
        "LOCAL_JOB_LIMIT": "4",
        "STOP_GRACE_SECONDS": "2",
        **(settings or {}),
    }
    run = [sys.executable, "-m"]
    opened = subprocess.run(
        [*run, "infra.local.console"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    try:
        assert opened.returncode == 0, opened.stdout + opened.stderr
        address, _, token = opened.stdout.split()[-1].partition("/#token=")
        site = Site(home, address, token)
        site.put("datasets/digits.zip", b"PK\5\6" + bytes(18), {"stoker-framework": "nobody"})
        yield site
        site.close()
    finally:
        subprocess.run([*run, "infra.local.stack", "stop"], cwd=ROOT, env=environment, capture_output=True, check=False)


@contextmanager
def browser_running() -> Iterator[Browser]:
    """Run a browser without a window."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert program, "no Chromium: run `sh console/browser.sh`, or install the package chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
