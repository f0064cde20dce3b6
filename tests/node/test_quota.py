"""A namespace's quota that is used up: a job waits with a message, and continues when there is quota."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infra.node.layout import kubectl
from tests.node.conftest import TRAINERS, eventually, report

pytestmark = pytest.mark.timeout(600)
JOBS = "count/jobs.batch"


@pytest.fixture
def no_room() -> Iterator[Callable[[], None]]:
    """Use up the quota for Jobs; yields a function that restores it."""
    held = json.loads(kubectl("get", "resourcequota", "trainers", "-n", TRAINERS, "-o", "json"))["spec"]["hard"]

    def allow(jobs: str) -> None:
        patch = json.dumps({"spec": {"hard": {JOBS: jobs}}})
        kubectl("patch", "resourcequota", "trainers", "-n", TRAINERS, "--type=merge", "-p", patch)

    allow("0")
    try:
        yield lambda: allow(held[JOBS])
    finally:
        allow(held[JOBS])


def test_a_job_waits_for_its_namespaces_quota_and_goes_on(
    no_room: Callable[[], None],
    submit: Callable[..., str],
    job: Callable[[str], dict[str, Any]],
    ended: Callable[..., dict[str, Any]],
) -> None:
    waiting = submit()
    eventually(lambda: "exceeded quota" in (job(waiting)["message"] or ""), within_seconds=120)
    report(f"waits: {job(waiting)['state']}: {job(waiting)['message']}")
    began = time.time()
    no_room()

    assert ended(waiting)["state"] == "SUCCEEDED"
    report(f"SUCCEEDED {time.time() - began:.0f} s after there was room")
