"""The component ``logs`` on the node: the collector reads real pods' logs, and both documented queries find a job's lines."""

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infra.node import images
from infra.node.layout import NODE_ADDRESS, apply, kubectl
from infra.node.stoker import OVERLAY
from tests.conftest import free_ports
from tests.logs.loki import Loki, documented_queries, listening
from tests.node.conftest import eventually, report

pytestmark = pytest.mark.timeout(600)
NAMESPACE = "stoker-logs"
KUSTOMIZATION = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
components: [{component}]
images: [{{name: docker.io/otel/opentelemetry-collector-contrib, newName: {image}, newTag: "{tag}"}}]
patches:
  - target: {{kind: ConfigMap, name: loki}}
    patch: |
      - {{op: replace, path: /data/LOKI_ENDPOINT, value: "{endpoint}"}}
  - target: {{kind: NetworkPolicy, name: collector}}
    patch: |
      - op: replace
        path: /spec/egress/1
        value: {{to: [{{ipBlock: {{cidr: {host}/32}}}}], ports: [{{protocol: TCP, port: {port}}}]}}
"""


@pytest.fixture(scope="module")
def loki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loki]:
    """Let the collector send to a stand-in on the node itself."""
    (port,) = free_ports(1)
    folder = tmp_path_factory.mktemp("logs")
    component = os.path.relpath((OVERLAY / "../../components/logs").resolve(), folder.resolve())
    image, _, tag = images.COLLECTOR.rpartition(":")
    with listening(NODE_ADDRESS, port) as (received, endpoint):
        values = {"component": component, "image": image, "tag": tag, "endpoint": endpoint}
        (folder / "kustomization.yaml").write_text(KUSTOMIZATION.format(**values, host=NODE_ADDRESS, port=port))
        manifests = kubectl("kustomize", str(folder))
        apply(manifests)
        kubectl("rollout", "status", "daemonset/collector", "-n", NAMESPACE, "--timeout=120s")
        yield received
        kubectl("delete", "-f", "-", "--wait=false", stdin=manifests)


def test_both_documented_queries_find_the_lines_of_a_job(
    loki: Loki, submit: Callable[..., str], ended: Callable[..., dict[str, Any]]
) -> None:
    job = ended(submit(epochs=2))
    of_trainer, of_functions = documented_queries(job_id=job["id"], trace_id=job["trace_id"])

    def states() -> set[str]:
        return {fields["state"] for fields in map(json.loads, loki.query(of_functions)) if "state" in fields}

    eventually(lambda: {"QUEUED", "RUNNING", "SUCCEEDED"} <= states(), within_seconds=90)
    lines = eventually(lambda: loki.query(of_trainer), within_seconds=90)
    assert all(f"[TRACE:{job['trace_id']}]" in line for line in lines)
    for query in (of_trainer, of_functions):
        report(query)
        for line in loki.query(query):
            report(f"  {line}")


def test_the_namespace_takes_no_other_pod(loki: Loki) -> None:
    del loki
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "other", "namespace": NAMESPACE},
        "spec": {
            "containers": [{"name": "c", "image": "c", "volumeMounts": [{"name": "v", "mountPath": "/host"}]}],
            "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
        },
    }
    with pytest.raises(SystemExit, match="only /var/log/pods and the collector's own folder"):
        kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
