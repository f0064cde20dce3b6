"""Each way in which a trainer can fail, for real: the right reason, in how many seconds, and nothing left that holds a GPU.

The clock is the cluster's own: a PingSource sweeps once a minute, and an ApiServerSource tells of each Job at once.
All jobs are requested at once, and each test waits for its own.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from infra.node import daemons
from infra.node.layout import NODE, PROJECT, apply, kubectl, run
from tests.conftest import is_up
from tests.node.conftest import TRAINERS, address_of, eventually, freed, get, left_of, report

pytestmark = pytest.mark.timeout(600)

ILL: dict[str, dict[str, Any]] = {
    "out of memory": {"model_name": "hungry-400"},
    "exit 65": {"model_name": "exit-65"},
    "exit 78": {"model_name": "exit-78"},
    "exit 1": {"model_name": "exit-1"},
    "exit 0 without done": {"model_name": "exit-0"},
    "no such image": {"framework": "no-image"},
    "no GPU": {"gpus": 1, "longest_pending_seconds": 30},
    "ran too long": {"epochs": 100_000, "longest_running_seconds": 20},
    "Job deleted": {"epochs": 100_000},
}
REASONS = {
    "out of memory": "oom_host",
    "exit 65": "dataset_invalid",
    "exit 78": "config_invalid",
    "exit 1": "trainer_error",
    "exit 0 without done": "trainer_error",
    "no such image": "image_pull",
    "no GPU": "unschedulable",
    "ran too long": "deadline_running",
    "Job deleted": "lost",
}


@pytest.fixture(scope="module")
def ill(submit: Callable[..., str], job: Callable[[str], dict[str, Any]]) -> dict[str, tuple[str, float]]:
    """Ask for all of them; returns each one's id, and when its fault was there."""
    ids = {name: (submit(**fields), time.time()) for name, fields in ILL.items()}
    deleted = ids["Job deleted"][0]
    eventually(lambda: job(deleted)["state"] == "RUNNING", within_seconds=120)
    kubectl("delete", "jobs", "-l", f"stoker.dev/job-id={deleted}", "-n", TRAINERS)
    return ids | {"Job deleted": (deleted, time.time())}


@pytest.mark.parametrize("name", ILL)
def test_a_failure_has_its_reason_and_leaves_nothing_running(
    ill: dict[str, tuple[str, float]], ended: Callable[..., dict[str, Any]], name: str
) -> None:
    job_id, began = ill[name]
    row = ended(job_id)
    took = time.time() - began
    freed(job_id)

    assert (row["state"], row["reason"]) == ("FAILED", REASONS[name]), row
    if name in {"exit 65", "exit 78", "exit 1"}:  # of one that ends with 0, Kubernetes keeps no log
        assert row["message"].endswith(f"it last printed: ends with {name.removeprefix('exit ')}")
    report(f"{name}: {row['reason']} after {took:.0f} s: {row['message']}")


def pod_of(job_id: str) -> str | None:
    """Return the name of a job's pod that runs and is not on its way out."""
    pods = get("pods", "-l", f"stoker.dev/job-id={job_id}", namespace=TRAINERS)
    names = [
        one["metadata"]["name"]
        for one in pods
        if one["status"]["phase"] == "Running" and "deletionTimestamp" not in one["metadata"]
    ]
    return names[0] if names else None


def evict(pod: str) -> None:
    """Evict a pod, as a drain of its node does."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": TRAINERS}}
    kubectl("create", "--raw", f"/api/v1/namespaces/{TRAINERS}/pods/{pod}/eviction", "-f", "-", stdin=json.dumps(body))


def test_an_evicted_pod_resumes_from_its_checkpoint(
    submit: Callable[..., str], job: Callable[[str], dict[str, Any]], ended: Callable[..., dict[str, Any]]
) -> None:
    job_id = submit(epochs=200)
    eventually(lambda: (job(job_id)["epoch"] or 0) >= 3, within_seconds=120)
    began = time.time()
    evict(str(pod_of(job_id)))
    eventually(lambda: job(job_id)["attempt"] == 2, within_seconds=180)
    report(f"evicted: the second attempt began after {time.time() - began:.0f} s, at epoch {job(job_id)['epoch']}")

    row = ended(job_id)
    assert (row["state"], row["attempt"], row["epoch"]) == ("SUCCEEDED", 2, 200), row


@pytest.fixture
def one_gpu() -> Iterator[Callable[[int], None]]:
    """Let the node offer a GPU, which a stub does not use; yields a function that sets the number of GPUs."""

    def offer(gpus: int) -> None:
        quantities = {"nvidia.com/gpu": str(gpus)}
        status = {"status": {"capacity": quantities, "allocatable": quantities}}
        kubectl("patch", "node", NODE, "--subresource=status", "--type=merge", "-p", json.dumps(status))

    offer(1)
    yield offer
    offer(0)


def test_an_evicted_job_for_which_no_node_is_left_shows_why_it_waits(
    one_gpu: Callable[[int], None],
    submit: Callable[..., str],
    job: Callable[[str], dict[str, Any]],
    ended: Callable[..., dict[str, Any]],
) -> None:
    """As after a drain; but the functions, which start from zero on this same node, can still start."""
    job_id = submit(epochs=200, gpus=1)
    eventually(lambda: (job(job_id)["epoch"] or 0) >= 3, within_seconds=120)
    one_gpu(0)
    evict(str(pod_of(job_id)))
    began = time.time()
    # At first it waits for a pod to be made.
    waiting = eventually(
        lambda: "Insufficient nvidia.com/gpu" in ((row := job(job_id))["message"] or "") and row, within_seconds=180
    )
    report(f"evicted, and no GPU is left: {waiting['message']} after {time.time() - began:.0f} s")
    assert (waiting["state"], waiting["liveness"], waiting["attempt"]) == ("RUNNING", "waiting", 1)
    assert waiting["message"].startswith("waits for a node: ")

    one_gpu(1)
    row = ended(job_id)
    assert (row["state"], row["attempt"], row["message"]) == ("SUCCEEDED", 2, None), row


def test_a_deleted_pod_is_created_again(
    submit: Callable[..., str], job: Callable[[str], dict[str, Any]], ended: Callable[..., dict[str, Any]]
) -> None:
    """As after an eviction, that is no other launch: also where there is only one."""
    job_id = submit(epochs=200, attempt_limit=1)
    eventually(lambda: (job(job_id)["epoch"] or 0) >= 3, within_seconds=120)
    kubectl("delete", "pod", str(pod_of(job_id)), "-n", TRAINERS, "--wait=false")

    row = ended(job_id)
    assert (row["state"], row["attempt"]) == ("SUCCEEDED", 2), row


def test_one_of_several_nodes_that_is_evicted_fails_them_together(
    submit: Callable[..., str], job: Callable[[str], dict[str, Any]], ended: Callable[..., dict[str, Any]]
) -> None:
    job_id = submit(epochs=100_000, nodes=2)
    eventually(lambda: job(job_id)["state"] == "RUNNING" and pod_of(job_id), within_seconds=120)
    began = time.time()
    evict(str(pod_of(job_id)))
    row = ended(job_id)
    freed(job_id)

    assert (row["state"], row["reason"]) == ("FAILED", "evicted"), row
    report(f"evicted, one of two nodes: evicted after {time.time() - began:.0f} s")


def test_a_secret_deleted_before_its_pod_starts_is_created_again(
    submit: Callable[..., str], ended: Callable[..., dict[str, Any]]
) -> None:
    submit()  # create-job is awake: it cannot be started on a node that takes no pods
    kubectl("cordon", NODE)
    try:
        job_id = submit()
        words = ("-l", f"stoker.dev/job-id={job_id}", "-n", TRAINERS)
        eventually(lambda: get("secrets", *words[:2], namespace=TRAINERS), within_seconds=30)
        kubectl("delete", "secrets", *words)
    finally:
        kubectl("uncordon", NODE)
    began = time.time()
    row = ended(job_id)

    assert row["state"] == "SUCCEEDED", row
    report(f"Secret missing: made again, and the job had succeeded after {time.time() - began:.0f} s")


def test_no_job_fails_while_a_kubelet_is_briefly_unreachable(
    submit: Callable[..., str],
    job: Callable[[str], dict[str, Any]],
    ended: Callable[..., dict[str, Any]],
    api: httpx.Client,
) -> None:
    job_id = submit(epochs=400)
    eventually(lambda: (job(job_id)["epoch"] or 0) >= 3, within_seconds=120)
    daemons.stop("kubelet")
    began = time.time()
    try:
        ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        eventually(lambda: kubectl("get", "node", NODE, "-o", ready) == "Unknown", within_seconds=120)
        report(f"kubelet stopped: the node counts as away after {time.time() - began:.0f} s")
    finally:
        # In a process of its own, which the kubelet outlives.
        run(sys.executable, "-c", "from infra.node.machine import start_kubelet; start_kubelet()", cwd=PROJECT)
        # Its pods were taken out of their Services meanwhile.
        eventually(lambda: is_up(address_of("front")), within_seconds=120)
        # Kourier needs a moment for its routes: until then its Envoy responds 404.
        eventually(lambda: api.get(f"/v1/jobs/{job_id}").status_code == 200, within_seconds=120)
    row = ended(job_id, within_seconds=400)

    assert (row["state"], row["reason"]) == ("SUCCEEDED", None), row
    report(f"kubelet stopped and started: SUCCEEDED in attempt {row['attempt']}")


#: a node that exists only in the API server, like a machine whose power has failed
GHOST = """
apiVersion: v1
kind: Node
metadata: {name: ghost, labels: {nvidia.com/gpu.product: Ghost-80GB}}
spec: {taints: [{key: nvidia.com/gpu, effect: NoSchedule}]}
"""


@pytest.fixture
def ghost() -> Iterator[None]:
    """Add a node with eight GPUs of a separate type, which was Ready until now and never reports again."""
    apply(GHOST)
    quantities = {"cpu": "8", "memory": "64Gi", "ephemeral-storage": "100Gi", "pods": "10", "nvidia.com/gpu": "8"}
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
    status = {"status": {"capacity": quantities, "allocatable": quantities, "conditions": [ready]}}
    kubectl("patch", "node", "ghost", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    yield
    kubectl("delete", "node", "ghost", "--wait=false")


@pytest.mark.slow
@pytest.mark.usefixtures("ghost")
def test_a_node_that_is_lost_is_named_as_the_reason(
    submit: Callable[..., str], ended: Callable[..., dict[str, Any]]
) -> None:
    job_id, began = submit(gpus=2, gpu_type="Ghost-80GB"), time.time()
    eventually(
        lambda: [
            pod
            for pod in get("pods", "-l", f"stoker.dev/job-id={job_id}", namespace=TRAINERS)
            if pod["spec"].get("nodeName") == "ghost"
        ],
        within_seconds=60,
    )
    row = ended(job_id, within_seconds=500)

    assert (row["state"], row["reason"]) == ("FAILED", "node_lost"), row
    report(f"node lost: node_lost after {time.time() - began:.0f} s: {row['message']}")


def test_no_job_is_left_without_a_row(api: httpx.Client) -> None:
    """An orphan: a Job with Stoker's labels but without a row in the store."""
    stranger = "0123456789abcdef"
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"stoker-{stranger}-1", "namespace": TRAINERS, "labels": {"app.kubernetes.io/managed-by": "stoker", "stoker.dev/installation": "stoker", "stoker.dev/job-id": stranger}},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": 600,
            "ttlSecondsAfterFinished": 60,
            "template": {
                "metadata": {"labels": {"stoker.dev/installation": "stoker", "stoker.dev/job-id": stranger, "stoker.dev/role": "trainer"}},
                "spec": {
                    "restartPolicy": "Never",
                    "serviceAccountName": "trainer",
                    "priorityClassName": "stoker-trainers",
                    "automountServiceAccountToken": False,
                    "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
                    "volumes": [{"name": "scratch", "emptyDir": {}}],
                    "containers": [
                        {
                            "name": "trainer",
                            "image": "stoker.local/trainer-stub:1",
                            "command": ["sleep", "500"],
                            "resources": {"limits": {"memory": "64Mi", "ephemeral-storage": "64Mi"}},
                            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                        }
                    ],
                },
            },
        },
    }  # fmt: skip
    assert api.get(f"/v1/jobs/{stranger}").status_code == 404
    apply(json.dumps(manifest))
    began = time.time()
    eventually(lambda: left_of(stranger) == [], within_seconds=150)
    report(f"orphan: stopped after {time.time() - began:.0f} s")
