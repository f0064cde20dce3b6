"""Run the trainers, and the bare tools beside them, as processes of this machine."""

import json
import os
import signal
import statistics
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from .standin import StandIn

ROOT = Path(__file__).parents[2]
END_SECONDS = 60.0


@dataclass
class Run:
    """A trainer's run: its exit code, and the stand-in that received its callbacks."""

    job_id: str
    code: int
    seconds: float
    output: str
    standin: StandIn

    @property
    def done(self) -> dict[str, Any]:
        """The body of ``done``; empty if it was not sent."""
        calls = self.standin.received(self.job_id, "done")
        return calls[-1].body if calls else {}

    def system(self) -> dict[str, float]:
        """Return the trainer's system metrics: maxima of bytes, means of others."""
        columns: dict[str, list[float]] = {}
        for call in self.standin.received(self.job_id, "heartbeat"):
            for name, value in call.body.get("metrics", {}).items():
                if name.startswith("system/"):
                    columns.setdefault(name, []).append(value)
        return {
            name: max(column) if name.endswith("_bytes") else round(statistics.mean(column), 1)
            for name, column in sorted(columns.items())
        }

    def epoch_ends(self) -> list[float]:
        """Return the times at which the epochs were reported."""
        ends: dict[int, float] = {}
        for call in self.standin.received(self.job_id, "heartbeat"):
            if call.body.get("epoch"):
                ends.setdefault(int(call.body["epoch"]), call.at)
        return [at for _, at in sorted(ends.items())]

    def require(self, code: int = 0) -> "Run":
        """Return the run. Raises: AssertionError: it ended in another way; the message has the end of its output."""
        if self.code != code:
            raise AssertionError(f"exit code {self.code} instead of {code}: {self.output[-1500:]}")
        return self


@dataclass
class Machine:
    """The device, the folders and the interpreters."""

    device: str
    work: Path
    standin: StandIn
    pythons: Mapping[str, str]
    utilisation: list[float] = field(default_factory=list)

    @property
    def is_gpu(self) -> bool:
        """Whether a GPU is measured."""
        return self.device != "cpu"

    def environment(self) -> dict[str, str]:
        """Return the variables of a process that a trainer or a bare tool runs in."""
        kept = {
            name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES") if name in os.environ
        }
        packages = {"PYTHONPATH": os.environ["PACKAGES"]} if os.environ.get("PACKAGES") else {}
        return kept | packages | {"HOME": str(self.work / "home"), "PYTHONUNBUFFERED": "1"}

    def put(self, dataset_id: str, path: Path) -> None:
        """Store a dataset."""
        self.standin.object(f"datasets/{dataset_id}.zip").write_bytes(path.read_bytes())

    def train(
        self,
        trainer: str,
        variables: Mapping[str, Any],
        *,
        job_id: str = "",
        until: Callable[[str], bool] | None = None,
        limit_seconds: float = 300,
    ) -> Run:
        """Run a trainer to its end, or send it SIGTERM once ``until`` is true of its job."""
        job_id = job_id or f"job{uuid.uuid4().hex[:8]}"
        output = self.work / f"{job_id}-{time.monotonic_ns()}.log"
        fixed = {
            "JOB_ID": job_id, "TRACE_ID": uuid.uuid4().hex, "BACKEND_BASE_URL": self.standin.url, "CALLBACK_TOKEN": "token",
            "STORAGE_TYPE": "presigned", "DEVICE": self.device, "HEARTBEAT_SECONDS": "1", "GRACE_SECONDS": "20",
            "SCRATCH_DIR": str(self.work / "scratch"),
        }  # fmt: skip
        environment = self.environment() | fixed | {name: str(value) for name, value in variables.items()}
        command = [self.pythons[trainer], str(ROOT / f"trainer-images/trainer-{trainer}/train.py")]
        began = time.monotonic()
        with output.open("wb") as file:
            process = subprocess.Popen(command, env=environment, cwd=self.work, stdout=file, stderr=file)
        try:
            while process.poll() is None and time.monotonic() - began < limit_seconds:
                if until is not None and until(job_id):
                    process.send_signal(signal.SIGTERM)
                    until = None
                time.sleep(0.05)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(END_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        seconds = time.monotonic() - began
        return Run(job_id, process.returncode, seconds, output.read_text(errors="replace"), self.standin)

    def bare(self, trainer: str, script: str, arguments: Sequence[str]) -> str:
        """Run a script of this folder in a trainer's environment; return the last line that it prints."""
        command = [self.pythons[trainer], str(Path(__file__).with_name(script)), *arguments]
        ended = subprocess.run(
            command, env=self.environment(), cwd=self.work, capture_output=True, text=True, timeout=300, check=False
        )
        if ended.returncode:
            raise AssertionError(f"{script}: exit code {ended.returncode}: {(ended.stdout + ended.stderr)[-1500:]}")
        return ended.stdout.strip().splitlines()[-1]

    def object(self, key: str) -> Path:
        """Return the file of an object. Raises: AssertionError: there is none."""
        path = self.standin.object(key)
        if not path.exists():
            raise AssertionError(f"{key} was not stored")
        return path

    @contextmanager
    def utilised(self) -> Iterator[list[float]]:
        """Sample the GPU's utilisation in percent, as ``nvidia-smi`` tells it; nothing on a CPU."""
        samples: list[float] = []
        if not self.is_gpu:
            yield samples
            return
        query = [
            "nvidia-smi",
            f"--id={self.device}",
            "--query-gpu=utilization.gpu",
            "--format=csv,noheader,nounits",
            "-lms",
            "200",
        ]
        process = subprocess.Popen(query, stdout=subprocess.PIPE, text=True)

        def read() -> None:
            samples.extend(float(line) for line in process.stdout or () if line.strip().isdecimal())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield samples
        finally:
            process.terminate()
            process.wait()
            reader.join(5)


def images_per_second(ends: Sequence[float], images: int) -> float:
    """Return the images of one epoch by the median time from one epoch's end to the next."""
    return round(images / statistics.median(later - earlier for earlier, later in pairwise(ends)), 2)


def parsed(line: str) -> dict[str, Any]:
    """Return a line of JSON."""
    content: dict[str, Any] = json.loads(line)
    return content
