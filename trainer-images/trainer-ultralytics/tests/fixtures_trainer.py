"""The trainer as a process of its own, and its side of the contract in this process."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fixtures_functions import Functions
from fixtures_storage import BUCKET, SECRET_KEY, Bucket
from small_datasets import zipped
from variables import VARIABLES

from utils import Contract, Settings

ROOT = Path(__file__).parent.parent
#: on a machine with much other work
END_SECONDS = 300
TOKEN = "callback-token-that-is-secret"


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
        defaults = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "SCRATCH_DIR": str(self.folder / "scratch"),
            "JOB_ID": self.job_id,
            "TRACE_ID": self.trace_id,
            "BACKEND_BASE_URL": self.functions.url,
            "CALLBACK_TOKEN": TOKEN,
            "DATASET_ID": self.job_id,
            "STORAGE_TYPE": "minio",
            "STORAGE_BUCKET": BUCKET,
            "MINIO_ENDPOINT": self.bucket.endpoint,
            "MINIO_ACCESS_KEY": "AK",
            "MINIO_SECRET_KEY": SECRET_KEY,
            "EPOCHS": "2",
            "BATCH_SIZE": "4",
            "DEVICE": "cpu",
            "WORKERS": "0",
            **VARIABLES,
            "OMP_NUM_THREADS": "1",  # the tests run in parallel
        }
        env = {name: value for name, value in {**defaults, **(variables or {}), **more}.items() if value is not None}
        with (self.folder / "output").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / script)], env=env, cwd=self.folder, stdout=output, stderr=output
            )
        self.processes.append(process)
        return process

    def run(
        self, variables: Mapping[str, str | None] | None = None, *, script: str = "train.py", **more: str | None
    ) -> int:
        return self.start(variables, script=script, **more).wait(END_SECONDS)

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


GOOD = {
    "JOB_ID": "j",
    "BACKEND_BASE_URL": "http://127.0.0.1:9",
    "CALLBACK_TOKEN": "t",
    "DATASET_ID": "d",
    "MODEL_NAME": "m",
    "STORAGE_TYPE": "presigned",
}


@pytest.fixture
def contract(bucket: Bucket, tmp_path: Path) -> Contract:
    """A trainer's side of the contract in this process: it has links, and its callbacks are not sent."""
    settings, problems = Settings.from_environ(GOOD)
    assert not problems
    contract = Contract(settings, tmp_path)
    contract.storage.presign = bucket.links
    return contract
