"""Kueue holds a job until its queue has quota for it, with a message; the jobs of a queue run one after the other."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infra.node import kueue
from infra.node.layout import apply, kubectl
from tests.node.conftest import TRAINERS, eventually

pytestmark = pytest.mark.timeout(600)
#: room for one stub at a time
QUEUE = """
apiVersion: kueue.x-k8s.io/v1beta2
kind: ResourceFlavor
metadata: {name: any}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: ClusterQueue
metadata: {name: narrow}
spec:
  namespaceSelector: {}
  resourceGroups:
    - coveredResources: [cpu, memory, ephemeral-storage]
      flavors:
        - name: any
          resources:
            - {name: cpu, nominalQuota: 60m}
            - {name: memory, nominalQuota: 1Gi}
            - {name: ephemeral-storage, nominalQuota: 1Gi}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: LocalQueue
metadata: {name: narrow, namespace: stoker-trainers}
spec: {clusterQueue: narrow}
"""


@pytest.fixture
def queue() -> Iterator[str]:
    """Install Kueue, and a queue; both are gone after the test."""
    kueue.start()
    try:
        # Its webhooks answer a moment after its pod is Ready.
        eventually(lambda: applied(QUEUE), within_seconds=60)
        yield "narrow"
        kubectl("delete", "jobs", "-l", "kueue.x-k8s.io/queue-name=narrow", "-n", TRAINERS)
        kubectl("delete", "localqueue/narrow", "clusterqueue/narrow", "resourceflavor/any", "-n", TRAINERS)
    finally:
        kueue.stop()


def applied(manifests: str) -> bool:
    try:
        apply(manifests)
    except SystemExit:
        return False
    return True


def test_jobs_of_a_queue_wait_for_its_quota_and_their_message_names_it(
    queue: str, submit: Callable[..., str], job: Callable[[str], dict[str, Any]], ended: Callable[..., dict[str, Any]]
) -> None:
    first = submit(queue=queue, epochs=100)
    eventually(lambda: job(first)["state"] == "RUNNING", within_seconds=120)
    second = submit(queue=queue, epochs=3)
    eventually(lambda: "quota" in (job(second)["message"] or ""), within_seconds=120)

    assert (job(first)["state"], job(second)["state"]) == ("RUNNING", "QUEUED")
    assert ended(first)["state"] == "SUCCEEDED"
    assert ended(second)["state"] == "SUCCEEDED"
    assert ended(first)["finished_at"] < job(second)["started_at"]
