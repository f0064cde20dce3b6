"""Two hundred jobs requested at once: how fast they are admitted beside a bare ``kubectl create``, and that none is lost."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from infra.node.layout import kubectl
from tests.node.conftest import TRAINERS, eventually, get, report

COUNT = 200


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_hundred_jobs_at_once_are_all_admitted_and_all_end(submit: Callable[..., str], api: httpx.Client) -> None:
    submit(dataset_id="here", epochs=1)  # create-job is awake: this is not about its cold start
    began = time.time()
    with ThreadPoolExecutor(32) as callers:
        ids = list(callers.map(lambda _: submit(epochs=1), range(COUNT)))
    took = time.time() - began
    there = {one["metadata"]["labels"]["stoker.dev/job-id"] for one in get("jobs.batch", namespace=TRAINERS)}

    assert set(ids) <= there
    bare = created_by_kubectl(ids[0])
    report(
        f"{COUNT} jobs admitted in {took:.1f} s: {COUNT / took:.1f} a second; kubectl create: {COUNT / bare:.1f} a second"
    )

    open_ones = set(ids)

    def all_succeeded() -> bool:
        for job_id in list(open_ones):
            state = api.get(f"/v1/jobs/{job_id}").json()["state"]
            assert state not in {"FAILED", "CANCELLED"}, job_id
            if state != "SUCCEEDED":
                return False
            open_ones.remove(job_id)
        return True

    eventually(all_succeeded, within_seconds=1200)
    report(f"all {COUNT} had SUCCEEDED after {time.time() - began:.0f} s")


def created_by_kubectl(like: str) -> float:
    """Return the seconds that ``kubectl create`` takes for as many Jobs, and the Secret of each; all suspended, so none runs."""
    (job,) = get("jobs.batch", "-l", f"stoker.dev/job-id={like}", namespace=TRAINERS)
    spec = {name: value for name, value in job["spec"].items() if name not in {"selector", "manualSelector"}}
    spec["template"]["metadata"] = {"labels": {"stoker.dev/role": "trainer", "stoker.dev/installation": "bare"}}
    items: list[dict[str, Any]] = []
    for number in range(COUNT):
        name = f"bare-{number}"
        pod = json.loads(json.dumps(spec["template"]["spec"]).replace(job["metadata"]["name"], name))
        template = spec["template"] | {"spec": pod}
        labels = {"bare": "yes", "stoker.dev/installation": "bare"}
        items.append(
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {"name": name, "labels": labels},
                "spec": spec | {"suspend": True, "template": template},
            }
        )
        items.append(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "labels": labels},
                "stringData": {"token": "x" * 400},
            }
        )
    began = time.time()
    kubectl("create", "-n", TRAINERS, "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    took = time.time() - began
    kubectl("delete", "jobs,secrets", "-l", "bare=yes", "-n", TRAINERS, "--wait=false")
    return took
