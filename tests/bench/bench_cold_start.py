"""Cold start: from the start of the process to the first response; for a function, to its first committed write."""

import compileall
import http.client
import json
import sysconfig
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from functions.domain.states import State
from tests.bench.conftest import QUICK, Figure, by_turns, seconds_to
from tests.conftest import ROOT, api_headers, callback_headers, served

TURNS = 3 if QUICK else 9
_LOOK_SECONDS = 0.005
Calls = dict[str, Callable[[], tuple[Any, ...]]]
HELLO = "import functions_framework\n\n\n@functions_framework.http\ndef hello(request):\n    return 'hello'\n"


def responds(address: str, method: str, path: str, body: Any, headers: Mapping[str, str]) -> bool:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
    try:
        connection.request(
            method,
            path,
            json.dumps(body) if body is not None else None,
            {"Content-Type": "application/json", **headers},
        )
        status = connection.getresponse().status
    except OSError:
        time.sleep(_LOOK_SECONDS)
        return False
    finally:
        connection.close()
    assert 200 <= status < 300, status
    return True


def cold(source: Path, target: str, *request: Any) -> tuple[float, float]:
    with served(source, target) as (process, address):
        took = seconds_to(lambda: responds(address, *request))
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        return took, sum(one.memory_info().rss for one in family) / 2**20


@pytest.fixture
def calls(
    database_url: str, a_job: Callable[..., str], dataset: str, environment: pytest.MonkeyPatch, tmp_path: Path
) -> Calls:
    del database_url, dataset
    trainers = {"stub": {"command": {"train": ["true"]}}}
    (tmp_path / "trainers.json").write_text(json.dumps(trainers))
    environment.setenv("TRAINERS", str(tmp_path / "trainers.json"))
    running = a_job(State.RUNNING)
    beat = {"epoch": 1, "metrics": {"loss": 0.5}}
    requested = {"framework": "stub", "model_name": "stub-1", "dataset_id": "digits"}
    return {
        "heartbeat": lambda: ("POST", f"/v1/jobs/{running}/heartbeat", beat, callback_headers(running)),
        "event": lambda: ("POST", f"/v1/jobs/{running}/event", {"type": "log"}, callback_headers(running)),
        "done": lambda: _done(a_job(State.RUNNING)),
        "cancel": lambda: ("POST", f"/v1/jobs/{a_job(State.RUNNING)}/cancel", None, api_headers()),
        "jobs": lambda: ("GET", f"/v1/jobs/{running}", None, api_headers()),
        "create_job": lambda: ("POST", "/v1/jobs", requested, api_headers()),
        "sweep": lambda: ("POST", "/v1/sweep", None, api_headers()),
    }


def _done(job_id: str) -> tuple[Any, ...]:
    return "POST", f"/v1/jobs/{job_id}/done", {"status": "SUCCEEDED"}, callback_headers(job_id)


@pytest.mark.timeout(900)
def bench_cold_start_of_each_function(
    calls: Calls, database_url: str, tmp_path: Path, report: Callable[[Figure], None]
) -> None:
    # Compile as in the image, and the libraries of both: PYTHONDONTWRITEBYTECODE may be set here.
    for folder in (ROOT / "functions", Path(sysconfig.get_path("purelib"))):
        compileall.compile_dir(folder, quiet=2, workers=0)
    hello = tmp_path / "hello.py"
    hello.write_text(HELLO)
    store = database_url.partition(":")[0]
    memory: dict[str, list[float]] = {}

    def measure(name: str, source: Path, request: Callable[[], tuple[Any, ...]]) -> float:
        took, used = cold(source, name, *request())
        memory.setdefault(name, []).append(used)
        return took

    for name, request in calls.items():
        measured, baseline = by_turns(
            TURNS,
            partial(measure, name, ROOT / f"functions/{name}.py", request),
            partial(measure, "hello", hello, lambda: ("GET", "/", None, {})),
        )
        report(Figure(f"cold start of {name} on {store}", "hello-world", "s", measured, baseline, "<= 1.5"))
        report(Figure(f"memory of {name} on {store}", "hello-world", "MiB", memory[name], memory["hello"][-TURNS:]))
