"""A cancel, while the job waits and while it runs: its checkpoint is stored within the grace, and nothing is left."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.node.conftest import STOKER, eventually, left_of, report

pytestmark = pytest.mark.timeout(300)


def test_cancel_while_it_waits(
    submit: Callable[..., str], job: Callable[[str], dict[str, Any]], api: httpx.Client
) -> None:
    job_id = submit(gpus=1)
    eventually(lambda: job(job_id)["state"] == "QUEUED", within_seconds=60)
    began = time.time()

    assert api.post(f"/v1/jobs/{job_id}/cancel").json()["state"] == "CANCELLED"
    eventually(lambda: left_of(job_id) == [], within_seconds=60)
    report(f"cancelled while QUEUED: nothing left after {time.time() - began:.1f} s")


def test_cancel_while_it_trains(
    submit: Callable[..., str], job: Callable[[str], dict[str, Any]], api: httpx.Client, bucket: Any
) -> None:
    job_id = submit(epochs=100_000)
    eventually(lambda: (job(job_id)["epoch"] or 0) >= 3, within_seconds=120)
    began = time.time()

    assert api.post(f"/v1/jobs/{job_id}/cancel").json()["state"] == "CANCELLED"
    eventually(lambda: left_of(job_id) == [], within_seconds=60)
    took = time.time() - began
    last = bucket.get_object(Bucket=STOKER, Key=f"checkpoints/job-{job_id}/last.pt")["Body"].read()
    log = bucket.get_object(Bucket=STOKER, Key=f"logs/job-{job_id}/attempt-1.log")["Body"].read()

    assert int(last) >= job(job_id)["epoch"]
    assert b"begins" in log
    assert took < 30  # the grace: SIGTERM was enough
    report(f"cancelled while RUNNING: checkpoint of epoch {int(last)} and log stored, nothing left after {took:.1f} s")
