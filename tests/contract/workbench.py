"""The workbench: the real functions on SQLite, a real S3 server, and the trainer as a separate process."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jwt
import msgspec

from infra.local import digits
from tests.conftest import BUCKET, SECRET, api_headers, migrate, s3_client, s3_running, served_and_up
from tests.contract.proxy import Call, Faults, Pipe, Proxy, no_faults, pipe_running, proxy_running

#: must be in no log
STORAGE_SECRET = "test-secret-key"
DATASETS: dict[str, Callable[[Path], None]] = {
    "digits": digits.write_classes,
    "strewn": lambda path: digits.write_strewn(path, count=24),
}


class Trainer(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The trainer under test, read from a JSON file: how to start it, and with which model and dataset."""

    #: started with the contract's variables; paths are relative to the JSON file
    command: list[str]
    model_name: str
    #: digits (classification), strewn (detection), or the path of a zip
    dataset: str = "digits"
    epochs: int = 6
    #: further variables of the contract, such as BATCH_SIZE
    variables: dict[str, str] = {}
    storage: str = "presigned"
    #: time limit of one run
    seconds: float = 120.0


def read(path: Path) -> Trainer:
    """Return the trainer that a file describes. Raises: msgspec.ValidationError."""
    trainer = msgspec.json.decode(path.read_bytes(), type=Trainer)
    command = [str(path.parent / word) if (path.parent / word).exists() else word for word in trainer.command]
    return msgspec.structs.replace(trainer, command=command)


def of_image(trainer: Trainer, engine: str, image: str) -> Trainer:
    """Return the trainer with a command that starts its image by docker, podman or nerdctl."""
    return msgspec.structs.replace(
        trainer, command=[engine, "run", "--rm", "--network=host", "--env-file=@ENV@", image]
    )


@dataclass
class Run:
    """One run of a trainer, and its results."""

    job_id: str
    trace_id: str
    token: str
    proxy: Proxy
    output: str = ""
    exit_code: int | None = None
    began_at: float = field(default_factory=time.monotonic)
    signalled_at: float | None = None
    ended_at: float = 0.0
    job: dict[str, Any] = field(default_factory=dict)
    #: the objects below the job's own prefixes, by key, and the keys of other new objects
    stored: dict[str, bytes] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)

    @property
    def calls(self) -> list[Call]:
        """All calls, in order."""
        return self.proxy.calls

    @property
    def beats(self) -> list[Call]:
        """The heartbeats with an epoch."""
        return self.proxy.beats

    @property
    def dones(self) -> list[Call]:
        """The ``done`` calls."""
        return self.proxy.named("done")


@dataclass
class Workbench:
    """The services that all runs share."""

    trainer: Trainer
    functions_url: str
    storage: Any
    pipe: Pipe
    folder: Path

    def new_job(self, **fields: Any) -> dict[str, Any]:
        """Create a job. Its own launch runs a command that does nothing; the kit starts the trainer itself."""
        body = {"framework": "kit", "model_name": self.trainer.model_name, "dataset_id": "kit", **fields}
        response = httpx.post(f"{self.functions_url}/v1/jobs", json=body, headers=api_headers(), timeout=60)
        response.raise_for_status()
        return dict(response.json())

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job's JSON."""
        response = httpx.get(f"{self.functions_url}/v1/jobs/{job_id}", headers=api_headers(), timeout=60)
        return dict(response.json())

    def cancel(self, job_id: str) -> None:
        """Cancel a job."""
        url = f"{self.functions_url}/v1/jobs/{job_id}/cancel"
        httpx.post(url, headers=api_headers(), timeout=60).raise_for_status()

    @contextmanager
    def started(
        self, job: Mapping[str, Any], fault: Faults = no_faults, *, is_old_token: bool = False, **variables: str
    ) -> Iterator[tuple[Run, "subprocess.Popen[bytes]"]]:
        """Start the trainer for a job; collect its results when the block ends."""
        self.pipe.is_cut = False
        with proxy_running(self.functions_url, fault) as proxy:
            token = _token(job["id"], is_old=is_old_token)
            run = Run(job["id"], job["trace_id"], token, proxy)
            before = set(self.keys())
            environment = self._environment(run, variables)
            scratch = self.folder / f"scratch-{uuid4().hex[:8]}"
            scratch.mkdir()
            output = scratch / "output"
            command = self._command(environment, scratch)
            base = {"PATH": os.environ["PATH"], "HOME": str(scratch), "TMPDIR": str(scratch)}
            with output.open("wb") as file:
                process = subprocess.Popen(
                    command, env=base | environment, cwd=scratch, stdout=file, stderr=file, start_new_session=True
                )
            try:
                yield run, process
                run.exit_code = process.wait(max(self.trainer.seconds - (time.monotonic() - run.began_at), 1))
            except subprocess.TimeoutExpired:
                run.exit_code = None
            finally:
                run.ended_at = time.monotonic()
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                self.pipe.is_cut = False
            self._collect(run, output, before)

    def _command(self, environment: Mapping[str, str], scratch: Path) -> list[str]:
        listed = scratch / "environment"
        listed.write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
        return [word.replace("@ENV@", str(listed)) for word in self.trainer.command]

    def _environment(self, run: Run, variables: Mapping[str, str]) -> dict[str, str]:
        credentials = {
            "MINIO_ENDPOINT": self.pipe.url,
            "MINIO_ACCESS_KEY": "test-key",
            "MINIO_SECRET_KEY": STORAGE_SECRET,
        }
        return {
            "JOB_ID": run.job_id,
            "TRACE_ID": run.trace_id,
            "ATTEMPT_LIMIT": "3",
            "BACKEND_BASE_URL": run.proxy.url,
            "CALLBACK_TOKEN": run.token,
            "TASK": "train",
            "DATASET_ID": "kit",
            "DATASET_ETAG": self.etag(f"datasets/{variables.get('DATASET_ID', 'kit')}.zip"),
            "MODEL_NAME": self.trainer.model_name,
            "EPOCHS": str(self.trainer.epochs),
            "SEED": "1",
            "HEARTBEAT_SECONDS": "1",
            "STORAGE_TYPE": self.trainer.storage,
            "STORAGE_BUCKET": BUCKET,
            **(credentials if self.trainer.storage == "minio" else {}),
            **self.trainer.variables,
            **variables,
        }

    def etag(self, key: str) -> str:
        """Return an object's ETag, without quotes."""
        return str(self.storage.head_object(Bucket=BUCKET, Key=key)["ETag"]).strip('"')

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys in the bucket."""
        pages = self.storage.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def _collect(self, run: Run, output: Path, before: set[str]) -> None:
        run.output = output.read_text(errors="replace")
        run.job = self.job(run.job_id)
        for key in self.keys():
            if key.split("/")[0] in {"checkpoints", "results", "logs"} and key.split("/")[1] == f"job-{run.job_id}":
                run.stored[key] = self.storage.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            elif key not in before:
                run.strange.append(key)


def _token(job_id: str, *, is_old: bool) -> str:
    """Return a valid callback token; an old one is past half of its lifetime, so that the functions renew it."""
    now = datetime.now(UTC)
    issued, expires = (
        (now - timedelta(hours=5), now + timedelta(hours=1)) if is_old else (now, now + timedelta(hours=6))
    )
    claims = {"iss": "stoker", "aud": "callback", "job_id": job_id, "iat": issued, "exp": expires}
    return jwt.encode(claims, SECRET, "HS256", headers={"kid": "test"})


@contextmanager
def workbench_running(trainer: Trainer, folder: Path) -> Iterator[Workbench]:
    """Start the services, and upload the trainer's dataset."""
    trainers = folder / "trainers.json"
    trainers.write_text(json.dumps({"kit": {"command": {"train": ["true"]}}}))
    with s3_running(folder / "s3") as s3, pipe_running(s3) as pipe:
        settings = {
            "DATABASE_URL": f"sqlite:///{folder}/stoker.db",
            "JWT_SECRETS": f"test:{SECRET}",
            "TRAINERS": str(trainers),
            "LOCAL_RUNS_DIR": str(folder / "runs"),
            "LOCAL_JOB_LIMIT": "100",
            "STORAGE_BUCKET": BUCKET,
            # Presigned links use this address: the TCP proxy's, so that the kit can cut them off.
            "MINIO_ENDPOINT": pipe.url,
            "MINIO_ACCESS_KEY": "test-key",
            "MINIO_SECRET_KEY": STORAGE_SECRET,
        }
        migrate(settings["DATABASE_URL"])
        storage = s3_client(s3)
        storage.put_object(Bucket=BUCKET, Key="datasets/kit.zip", Body=_dataset(trainer, folder).read_bytes())
        storage.put_object(Bucket=BUCKET, Key="datasets/broken.zip", Body=b"this is no zip archive")
        with served_and_up("front", settings) as address:
            yield Workbench(trainer, address, storage, pipe, folder)
        storage.close()


def _dataset(trainer: Trainer, folder: Path) -> Path:
    if trainer.dataset not in DATASETS:
        return Path(trainer.dataset)
    path = folder / "dataset.zip"
    DATASETS[trainer.dataset](path)
    return path
