"""What may run in the log collector's namespace, where pod security allows folders of the host."""

import copy
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import kubectl
from tests.conftest import ROOT, eventually

pytestmark = pytest.mark.timeout(300)
NAMESPACE = "stoker-logs"
Change = Callable[[dict[str, Any], dict[str, Any]], object]
REFUSED: dict[str, tuple[Change, str]] = {
    # what is requested: the change of pod and container, the policy's words
    "another folder": (lambda pod, _: pod["volumes"][0]["hostPath"].update(path="/"), "only /var/log/pods"),
    "another volume": (lambda pod, _: pod["volumes"].append({"name": "s", "secret": {"secretName": "s"}}), "only /var/log/pods"),
    "to write logs": (lambda _, container: container["volumeMounts"][0].pop("readOnly"), "mounted read-only"),
    "privileges": (lambda _, container: container["securityContext"].update(privileged=True), "no privileges|privileged"),
    "a capability": (lambda _, container: container["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]), "no capabilities"),
    "to keep capabilities": (lambda _, container: container["securityContext"].pop("capabilities"), "no capabilities"),
    "no security context": (lambda _, container: container.pop("securityContext"), "no capabilities"),
    "the host's network": (lambda pod, _: pod.update(hostNetwork=True), "nothing of the host"),
    "the host's processes": (lambda pod, _: pod.update(hostPID=True), "nothing of the host"),
    "a token": (lambda pod, _: pod.update(automountServiceAccountToken=True), "no token|only /var/log/pods"),
    "a second container": (lambda pod, container: pod["containers"].append(container | {"name": "x"}), "one container"),
}  # fmt: skip


@pytest.fixture
def pod(cluster: Path) -> Iterator[dict[str, Any]]:
    """Apply the component; yields the collector's pod, as its DaemonSet would create it."""
    manifests = kubectl(cluster, "kustomize", str(ROOT / "knative/components/logs")).stdout
    kubectl(cluster, "create", "namespace", NAMESPACE)
    kubectl(cluster, "apply", "--server-side", "-f", "-", stdin=manifests).check_returncode()
    (daemons,) = (one for one in yaml.safe_load_all(manifests) if one["kind"] == "DaemonSet")
    metadata = {"name": "collector", "namespace": NAMESPACE}
    yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": daemons["spec"]["template"]["spec"]}
    kubectl(cluster, "delete", "daemonset", "--all", "-n", NAMESPACE)


@pytest.fixture
def created(cluster: Path) -> Callable[[dict[str, Any]], str]:
    """Return a function that asks the API server for a pod, and returns why it was refused."""

    def create(pod: dict[str, Any]) -> str:
        return kubectl(cluster, "create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod)).stderr

    return create


def test_the_collectors_own_pod_is_taken_and_every_other_is_refused(
    pod: dict[str, Any], created: Callable[[dict[str, Any]], str]
) -> None:
    eventually(lambda: not created(pod))  # once there is its ServiceAccount
    for name, (change, words) in REFUSED.items():
        other = copy.deepcopy(pod)
        change(other["spec"], other["spec"]["containers"][0])
        # A policy takes effect some moments after it was applied.
        refused = eventually(partial(created, other))
        assert any(word in refused for word in words.split("|")), f"{name}: {refused}"
