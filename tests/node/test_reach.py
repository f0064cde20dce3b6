"""What pods can reach. A trainer: DNS, the front, the storage. A function: also its database and the API server."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from infra.node.layout import NODE_ADDRESS, apply, kubectl
from tests.node.conftest import STOKER, TRAINERS, address_of, get

LOOK = """
import socket, sys
host, port = sys.argv[1].rsplit(":", 1)
try:
    socket.create_connection((host, int(port)), 3).close()
    print("reached")
except socket.gaierror:
    print("no such name")
except OSError:
    print("refused")
"""


@pytest.fixture(scope="module")
def trainer() -> Iterator[str]:
    """Run a pod like a trainer's, for trying connections from inside it."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "look", "namespace": TRAINERS, "labels": {"stoker.dev/role": "trainer"}},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "trainer",
            "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "look",
                    "image": "stoker.local/trainer-stub:1",
                    "command": ["sleep", "600"],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }
    apply(json.dumps(manifest))
    kubectl("wait", "--for=condition=Ready", "pod/look", "-n", TRAINERS, "--timeout=60s")
    yield "look"
    kubectl("delete", "pod", "look", "-n", TRAINERS, "--grace-period=1")


@pytest.fixture(scope="module")
def function(api: httpx.Client) -> dict[str, Any]:
    """Return a pod of the function ``jobs``, awake for this."""
    assert api.get("/v1/jobs").status_code == 200
    pods = get("pods", "-l", "serving.knative.dev/service=jobs", "--field-selector", "status.phase=Running")
    return next(pod for pod in pods if "deletionTimestamp" not in pod["metadata"])


def looked(pod: str, where: str, namespace: str = TRAINERS) -> str:
    return kubectl("exec", pod, "-n", namespace, "--", "python", "-c", LOOK, where).strip()


@pytest.mark.parametrize("where", ["front.stoker.svc.cluster.local:8080", "storage.stoker.svc.cluster.local:8333"])
def test_a_trainer_reaches_what_it_needs(trainer: str, where: str) -> None:
    assert looked(trainer, where) == "reached"


@pytest.mark.parametrize(
    "where",
    [
        "kubernetes.default.svc.cluster.local:443",
        f"{NODE_ADDRESS}:6443",
        f"{NODE_ADDRESS}:10250",
        "postgres.stoker.svc.cluster.local:5432",
        "kourier-internal.kourier-system.svc.cluster.local:80",
        "broker-ingress.knative-eventing.svc.cluster.local:80",
        "activator-service.knative-serving.svc.cluster.local:80",
    ],
)
def test_a_trainer_reaches_nothing_else(trainer: str, where: str) -> None:
    assert looked(trainer, where) == "refused"


def test_a_trainer_does_not_reach_a_pod_by_its_address(trainer: str) -> None:
    (postgres,) = get("pods", "-l", "app.kubernetes.io/name=postgres", namespace=STOKER)

    assert looked(trainer, f"{postgres['status']['podIP']}:5432") == "refused"


def test_a_trainer_has_no_token_of_the_api_server(trainer: str) -> None:
    here = "import pathlib; print(pathlib.Path('/var/run/secrets/kubernetes.io').exists())"

    assert kubectl("exec", trainer, "-n", TRAINERS, "--", "python", "-c", here).strip() == "False"


def test_the_node_itself_reaches_the_database(trainer: Any) -> None:
    """The address that the trainer cannot reach exists: the tests above do not pass by accident."""
    import socket

    del trainer
    host, port = address_of("postgres").removeprefix("http://").rsplit(":", 1)
    socket.create_connection((host, int(port)), 3).close()


@pytest.mark.parametrize(
    ("where", "seen"),
    [
        ("postgres.stoker.svc.cluster.local:5432", "reached"),
        ("storage.stoker.svc.cluster.local:8333", "reached"),
        ("kubernetes.default.svc.cluster.local:443", "reached"),
        ("broker-ingress.knative-eventing.svc.cluster.local:80", "reached"),
        (f"{NODE_ADDRESS}:10250", "refused"),
        ("kourier-internal.kourier-system.svc.cluster.local:80", "refused"),
        ("front.stoker.svc.cluster.local:8080", "refused"),
    ],
)
def test_a_function_reaches_what_it_needs_and_nothing_else(function: dict[str, Any], where: str, seen: str) -> None:
    assert looked(function["metadata"]["name"], where, STOKER) == seen


def test_functions_are_reachable_only_through_knative(function: dict[str, Any]) -> None:
    knock = f"timeout 3 bash -c 'exec 3<>/dev/tcp/{function['status']['podIP']}/8012' 2>/dev/null && echo reached || echo refused"
    (postgres,) = get("pods", "-l", "app.kubernetes.io/name=postgres")

    assert kubectl("exec", postgres["metadata"]["name"], "-n", STOKER, "--", "sh", "-c", knock).strip() == "refused"
