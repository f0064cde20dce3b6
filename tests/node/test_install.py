"""The unmodified overlay, applied as an operator applies it, is Ready, and passes the restricted pod security standard."""

import subprocess
from typing import Any

import pytest

from infra.node.layout import BINARIES, KUBECONFIG
from infra.node.stoker import OVERLAY
from tests.node.conftest import FUNCTIONS, STOKER, TRAINERS, get

KUBECTL = (str(BINARIES / "kubectl"), f"--kubeconfig={KUBECONFIG}")


def is_ready(one: dict[str, Any]) -> bool:
    return ("Ready", "True") in {(c["type"], c["status"]) for c in one["status"]["conditions"]}


def test_the_overlay_is_applied_strictly_and_without_a_warning() -> None:
    command = [*KUBECTL, "apply", "-k", str(OVERLAY), "--server-side", "--force-conflicts", "--validate=strict"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_every_function_is_a_service_that_is_ready() -> None:
    ready = {one["metadata"]["name"] for one in get("ksvc") if is_ready(one)}

    assert set(FUNCTIONS) <= ready


@pytest.mark.parametrize("namespace", [STOKER, TRAINERS])
def test_pods_keep_the_restricted_pod_security_standard(namespace: str) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    command = [*KUBECTL, "label", "--overwrite", "--dry-run=server", "namespace", namespace, label]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    # The API server looks at the pods that are there, and warns of each that would be refused.
    assert (done.returncode, done.stderr) == (0, "")
    (about,) = [one for one in get("namespaces") if one["metadata"]["name"] == namespace]
    assert about["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_eventing_is_ready() -> None:
    for kind in ("brokers", "triggers", "pingsources", "apiserversources"):
        for one in get(kind):
            assert is_ready(one), one["status"]
