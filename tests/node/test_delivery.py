"""Uploads while something is down, and uploads that are notified again and again: one job."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from infra.node.layout import NODE, apply, ctr, kubectl
from tests.node.conftest import STOKER, ZIP, eventually, get, report, uploaded

CREATE_JOB = ("-l", "serving.knative.dev/service=create-job")
#: the functions that an upload passes through
ON_THE_WAY = ("-l", "serving.knative.dev/service in (uploads, create-job)")
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def upload(bucket: Any) -> Callable[[], str]:
    """Return a function that uploads a new dataset."""

    def put() -> str:
        name = f"delivery-{time.time_ns()}"
        metadata = {"stoker-framework": "stub", "stoker-model": "stub", "stoker-epochs": "1"}
        bucket.put_object(Bucket=STOKER, Key=f"datasets/{name}.zip", Body=ZIP, Metadata=metadata)
        return name

    return put


@pytest.fixture
def jobs(api: httpx.Client) -> Callable[[str], list[dict[str, Any]]]:
    """Return a function that lists a dataset's jobs."""

    def read(dataset_id: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = api.get("/v1/jobs", params={"dataset_id": dataset_id}).json()["jobs"]
        return rows

    return read


@pytest.fixture
def database() -> Iterator[str]:
    """Return the database's container, frozen and thawed by the test, and thawed after it."""
    (pod,) = get("pods", "-l", "app.kubernetes.io/name=postgres")
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    yield container
    if "PAUSED" in ctr("tasks", "list"):
        ctr("tasks", "resume", container)


@pytest.fixture
def deaf_subscriber() -> Iterator[str]:
    """Subscribe an address that answers 404 to the jobs that succeed; yields the address."""
    address = "http://front.stoker.svc.cluster.local:8080/v1/nobody-listens-here"
    trigger = {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": {"name": "deaf", "namespace": STOKER},
        "spec": {
            "broker": "stoker",
            "filters": [{"exact": {"type": "dev.stoker.job.succeeded"}}],
            "subscriber": {"uri": address},
            "delivery": {"retry": 1, "backoffPolicy": "linear", "backoffDelay": "PT1S"},
        },
    }
    apply(json.dumps(trigger))
    kubectl("wait", "--for=condition=Ready", "trigger/deaf", "-n", STOKER, "--timeout=60s")
    yield address
    kubectl("delete", "trigger", "deaf", "-n", STOKER)


def is_running(pod: dict[str, Any]) -> bool:
    return bool(pod["status"]["phase"] == "Running")


def is_pending(pod: dict[str, Any]) -> bool:
    return bool(pod["status"]["phase"] == "Pending")


def succeeded(rows: list[dict[str, Any]]) -> bool:
    return bool(rows) and all(row["state"] == "SUCCEEDED" for row in rows)


def test_the_database_is_down_when_an_upload_is_notified(
    upload: Callable[[], str], jobs: Callable[[str], list[dict[str, Any]]], database: str
) -> None:
    kubectl("delete", "pods", *ON_THE_WAY, "-n", STOKER)
    ctr("tasks", "pause", database)
    name = upload()
    # The event itself starts create-job, which cannot write it down.
    eventually(lambda: [one for one in get("pods", *CREATE_JOB) if is_running(one)], within_seconds=120)
    ctr("tasks", "resume", database)
    began = time.time()
    eventually(lambda: succeeded(jobs(name)), within_seconds=180)

    assert len(jobs(name)) == 1
    report(f"database down when notified: the job had succeeded {time.time() - began:.0f} s after it was back")


def test_the_functions_are_down_when_an_upload_is_notified(
    upload: Callable[[], str], jobs: Callable[[str], list[dict[str, Any]]]
) -> None:
    kubectl("cordon", NODE)  # nothing can be started any more
    try:
        kubectl("delete", "pods", *ON_THE_WAY, "-n", STOKER)
        name = upload()
        # Whoever delivers it has called a function by now, in vain.
        eventually(lambda: [one for one in get("pods", *ON_THE_WAY) if is_pending(one)], within_seconds=120)
        assert not [one for one in get("pods", *ON_THE_WAY) if is_running(one)]
    finally:
        kubectl("uncordon", NODE)
    began = time.time()
    eventually(lambda: succeeded(jobs(name)), within_seconds=240)

    assert len(jobs(name)) == 1
    report(
        f"uploads and create-job down when notified: the job had succeeded {time.time() - began:.0f} s after it could start"
    )


def test_an_upload_that_is_delivered_twenty_times_at_once_is_one_job(
    upload: Callable[[], str], jobs: Callable[[str], list[dict[str, Any]]], api: httpx.Client
) -> None:
    name = upload()
    (job,) = eventually(lambda: jobs(name), within_seconds=60)
    with ThreadPoolExecutor(20) as callers:
        answers = list(callers.map(lambda _: api.post("/v1/uploads", json=uploaded(name)).status_code, range(20)))

    assert set(answers) == {202}
    eventually(lambda: succeeded(jobs(name)), within_seconds=120)
    assert [one["id"] for one in jobs(name)] == [job["id"]]


def test_events_refused_by_a_subscriber_are_stored_and_listed(
    deaf_subscriber: str, submit: Callable[..., str], ended: Callable[..., dict[str, Any]], api: httpx.Client
) -> None:
    job_id = submit(epochs=1)
    assert ended(job_id)["state"] == "SUCCEEDED"
    began = time.time()

    def stored() -> list[dict[str, Any]]:
        rows = api.get("/v1/rejected-events", params={"limit": 500}).json()["events"]
        return [row for row in rows if job_id in row["body"] and deaf_subscriber in row["reason"]]

    (row,) = eventually(stored, within_seconds=120)

    assert row["reason"] == f"not delivered to {deaf_subscriber}: 404"
    report(f"an event that nobody took was among the rejected ones {time.time() - began:.0f} s after the job's end")
