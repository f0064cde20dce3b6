"""The functions are restarted in mid-training: the job continues, and can still be watched, cancelled and finished."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from functions.launchers.local import Local
from tests.conftest import api_headers, eventually, free_ports, served_and_up

pytestmark = [pytest.mark.usefixtures("database_url", "dataset", "no_trainer_left"), pytest.mark.timeout(180)]


class Functions:
    """All functions at one address that stays, in a process that does not."""

    def __init__(self) -> None:
        self.port = free_ports(1)[0]
        self.address = f"http://127.0.0.1:{self.port}"
        self.serving = ExitStack()
        self.start()

    def start(self) -> None:
        self.serving.enter_context(served_and_up("front", {"BACKEND_BASE_URL": self.address}, port=self.port))

    def kill(self) -> None:
        """Leave them no time for anything: it is SIGKILL that ``served`` ends with."""
        self.serving.close()

    def call(self, method: str, path: str, **body: Any) -> Any:
        answer = httpx.request(method, f"{self.address}{path}", json=body or None, headers=api_headers(), timeout=30)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def job(self, job_id: str) -> Any:
        return self.call("GET", f"/v1/jobs/{job_id}")


@pytest.fixture
def functions() -> Iterator[Functions]:
    made = Functions()
    yield made
    made.kill()


def submitted(functions: Functions, **plan: Any) -> str:
    requested = {"framework": "stub", "model_name": "stub-1", "dataset_id": "digits", "attempt_limit": 1}
    job_id: str = functions.call("POST", "/v1/jobs", **requested, hyperparameters=plan)["id"]
    eventually(lambda: functions.job(job_id)["state"] == "RUNNING")
    return job_id


def test_a_job_is_cancelled_after_a_restart_and_its_trainer_leaves(functions: Functions) -> None:
    job_id = submitted(functions, seconds=600)
    functions.kill()
    assert Local().list() == {job_id}

    functions.start()
    assert functions.job(job_id)["state"] == "RUNNING"
    assert functions.call("POST", f"/v1/jobs/{job_id}/cancel")["state"] == "CANCELLED"
    eventually(lambda: not Local().list())


def test_a_job_that_ends_while_the_functions_are_down_is_finished_after_their_restart(functions: Functions) -> None:
    job_id = submitted(functions, epochs=2, seconds=0.5)
    functions.kill()
    functions.start()

    job = eventually(lambda: job if (job := functions.job(job_id))["state"] == "SUCCEEDED" else None)
    assert job["metrics"] == {"score": 1.0}


def test_sweep_detects_a_trainer_that_was_killed_while_the_functions_were_down(functions: Functions) -> None:
    job_id = submitted(functions, seconds=600, deaf=True)
    functions.kill()
    Local().stop(job_id)
    for process in trainers(job_id):
        os.kill(process, signal.SIGKILL)
    eventually(lambda: not Local().list())
    functions.start()
    functions.call("POST", "/v1/sweep")
    functions.call("POST", "/v1/sweep")

    assert (functions.job(job_id)["state"], functions.job(job_id)["reason"]) == ("FAILED", "lost")


def trainers(job_id: str) -> list[int]:
    """Return the pids of this job's trainer."""
    import psutil

    results = []
    for process in psutil.process_iter(["cmdline"]):
        try:
            if process.environ().get("JOB_ID") == job_id and process.cmdline()[:1] == [sys.executable]:
                results.append(process.pid)
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return results
