"""The time from an upload to the trainer's first callback, and the costs of create-job and of the contract."""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from functions.api import tokens
from functions.domain.states import State
from functions.launchers import launching
from functions.store import queries
from infra.local import digits
from tests.bench.bench_cold_start import HELLO, responds
from tests.bench.conftest import QUICK, Figure, by_turns, seconds_of, seconds_to
from tests.conftest import BUCKET, ROOT, api_headers, forget, served, served_and_up
from tests.integration import test_local_stack as local

TURNS = 3 if QUICK else 11
TIMES = 5 if QUICK else 30
TRAINER = ROOT / "trainer-images/trainer-timm"
#: large enough that an epoch takes seconds, like a small real dataset
TRAINING = {"MODEL_NAME": "test_resnet", "IMAGE_SIZE": "32", "EPOCHS": "1"} if QUICK else {
    "MODEL_NAME": "resnet18", "IMAGE_SIZE": "64", "EPOCHS": "3"
}  # fmt: skip
OVERHEAD_TURNS = 3 if QUICK else 7


def requester(address: str, method: str, path: str, body: Any = None) -> Callable[[], None]:
    """Return a function that sends a request over a new connection."""

    def send() -> None:
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
        content = json.dumps(body) if body is not None else None
        connection.request(method, path, content, {"Content-Type": "application/json", **api_headers()})
        assert connection.getresponse().status < 300
        connection.close()

    return send


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.usefixtures("database_url", "dataset", "no_trainer_left")
@pytest.mark.timeout(900)
def bench_create_job(tmp_path: Path, report: Callable[[Figure], None]) -> None:
    """Measure a job that waits for a slot, so that no process is started."""
    (tmp_path / "hello.py").write_text(HELLO)
    plan = {"calls": False, "seconds": 600}
    requested = {"framework": "stub", "model_name": "stub-1", "dataset_id": "digits", "hyperparameters": plan}
    with served_and_up("create_job") as address, served(tmp_path / "hello.py", "hello") as (_, hello):
        create, greet = requester(address, "POST", "/v1/jobs", requested), requester(hello, "GET", "/")
        seconds_to(lambda: responds(hello, "GET", "/", None, {}))
        create()  # it takes the slot
        measured, baseline = by_turns(
            TURNS,
            lambda: seconds_of(lambda: [create() for _ in range(TIMES)]) / TIMES,
            lambda: seconds_of(lambda: [greet() for _ in range(TIMES)]) / TIMES,
        )
    report(Figure("create-job on postgresql, warm", "hello-world, warm", "s", measured, baseline))


@pytest.mark.timeout(900)
def bench_upload_to_trainer_start(stack: Path, report: Callable[[Figure], None]) -> None:
    del stack
    local.up()

    def upload() -> float:
        dataset_id, began = f"d-{uuid4().hex[:8]}", time.time()
        local.upload(dataset_id, seconds=0)
        job = local.in_state("SUCCEEDED", dataset_id)
        return datetime.fromisoformat(job["started_at"]).timestamp() - began

    alone = partial(subprocess.run, [sys.executable, "-c", "import json, urllib.request"], check=True)
    upload()
    measured, baseline = by_turns(TURNS, upload, lambda: seconds_of(alone))
    report(
        Figure("upload to the trainer's first callback, local", "the trainer's own imports", "s", measured, baseline)
    )


@pytest.fixture
def stack(tmp_path: Path, environment: pytest.MonkeyPatch) -> Iterator[Path]:
    environment.setenv("STOKER_HOME", str(tmp_path / "home"))
    yield tmp_path / "home"
    local.run("stop")


@pytest.mark.usefixtures("sqlite")
@pytest.mark.timeout(3600)
def bench_overhead_of_the_contract(
    s3: Any,
    a_job: Callable[..., str],
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    report: Callable[[Figure], None],
) -> None:
    sync = ["uv", "sync", "--locked", "--no-dev", "--inexact", "--quiet", "--project", str(TRAINER)]
    subprocess.run(sync, check=True)
    digits.write_classes(tmp_path / "digits.zip")
    s3.upload_file(str(tmp_path / "digits.zip"), BUCKET, "datasets/digits.zip")
    job = queries.job(a_job(State.QUEUED))
    with served_and_up("front") as address:
        environment.setenv("BACKEND_BASE_URL", address)
        forget()
        variables = launching.environment(job, now=tokens.now()) | TRAINING | {
            "BATCH_SIZE": "64", "DEVICE": "cpu", "WORKERS": "0", "HYPERPARAMETERS": '{"pretrained": false}',
            "TRAINER": str(TRAINER), "BENCH_FILE": str(tmp_path / "turns"), "BENCH_TURNS": str(OVERHEAD_TURNS),
            "HOME": str(tmp_path),
        }  # fmt: skip
        script = [str(TRAINER / ".venv/bin/python"), str(ROOT / "tests/bench/fit_by_turns.py")]
        with (tmp_path / "output").open("wb") as output:
            code = subprocess.run(script, env=variables, cwd=tmp_path, stdout=output, stderr=output, check=False)
    assert code.returncode == 0, (tmp_path / "output").read_text()[-3000:]
    rows = [json.loads(line) for line in (tmp_path / "turns").read_text().splitlines()]
    name = f"a training of {TRAINING['MODEL_NAME']} with the contract"
    for kind in ("wall", "cpu"):
        ours, bare = ([row[kind] for row in rows if row["contract"] is with_it] for with_it in (True, False))
        report(Figure(f"{name}, {kind}", "the same without", "s", ours, bare, "<= 1.01"))
    walls, rests = ([row["wall"] - steps * row["steps"] for row in rows if row["contract"]] for steps in (0, 1))
    report(Figure(name, "its time without the contract's own steps", "s", walls, rests, "<= 1.01"))
