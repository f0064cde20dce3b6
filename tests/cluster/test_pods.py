"""What some clusters need in a trainer's pod, from TRAINERS through the admission policy to a real API server."""

import json
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from functions.api import tokens
from functions.domain.errors import ConfigurationError
from functions.launchers import launching
from functions.runtime import settings
from functions.runtime.registry import trainers
from functions.store import queries
from functions.store.tables import Job
from tests.cluster.conftest import Cluster, kubectl
from tests.conftest import ROOT, forget

pytestmark = [pytest.mark.usefixtures("sqlite", "s3"), pytest.mark.timeout(600)]

AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}]
        }
    }
}
SPREAD = {
    "maxSkew": 1,
    "topologyKey": "kubernetes.io/hostname",
    "whenUnsatisfiable": "ScheduleAnyway",
    "labelSelector": {"matchLabels": {"stoker.dev/role": "trainer"}},
}
POD = {
    "labels": {"team": "vision", "sidecar.istio.io/inject": "false"},
    "annotations": {"example.com/rdma": "on"},
    "runtime_class": "nvidia",
    "scheduler": "kai-scheduler",
    "affinity": AFFINITY,
    "topology_spread": [SPREAD],
    "resource_claims": [{"name": "gpu", "template": "one-gpu"}],
}


@pytest.fixture
def launch(
    kubernetes: Cluster, a_job: Callable[..., str], environment: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Job]:
    """Return a function that submits a job of a trainer with these fields in TRAINERS."""
    del kubernetes

    def submit(trainer: dict[str, Any], **fields: Any) -> Job:
        registry = {"stub": {"image": "stub:1", "models": ["stub*"]} | trainer}
        (tmp_path / "with-a-pod.json").write_text(json.dumps(registry))
        environment.setenv("TRAINERS", str(tmp_path / "with-a-pod.json"))
        environment.setenv("LAUNCHER", "kubernetes")
        settings.settings.cache_clear()
        trainers.cache_clear()
        job = queries.job(a_job(now=tokens.now(), **fields))
        return launching.submit(job, now=tokens.now())

    return submit


@pytest.fixture
def runtime_class(cluster: Path) -> None:
    """Make the RuntimeClass that the API server wants to see."""
    manifest = {
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}, "handler": "nvidia",
    }  # fmt: skip
    kubectl(cluster, "apply", "-f", "-", stdin=json.dumps(manifest)).check_returncode()


@pytest.mark.usefixtures("runtime_class")
def test_a_pod_has_all_that_its_trainer_names(launch: Any, kubernetes: Cluster) -> None:
    resources = {"memory": "1Gi", "extra": {"rdma/hca": "1"}}
    job = launch({"pod": POD, "resources": resources, "gpu_resource": "nvidia.com/mig-1g.10gb"}, gpus=2)
    assert job.state == "QUEUED", job.message

    (made,) = kubernetes.list("Job", **{"job-id": job.id})
    template = made.to_dict()["spec"]["template"]
    spec, (container,) = template["spec"], template["spec"]["containers"]
    assert template["metadata"]["labels"].items() >= POD["labels"].items()  # type: ignore[attr-defined]
    assert template["metadata"]["labels"]["stoker.dev/job-id"] == job.id
    assert template["metadata"]["annotations"] == POD["annotations"]
    assert (spec["runtimeClassName"], spec["schedulerName"]) == ("nvidia", "kai-scheduler")
    assert (spec["affinity"], spec["topologySpreadConstraints"]) == (AFFINITY, [SPREAD])
    assert spec["resourceClaims"] == [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]
    assert container["resources"]["claims"] == [{"name": "gpu"}]
    limits = container["resources"]["limits"]
    assert {name: limits[name] for name in ("rdma/hca", "nvidia.com/mig-1g.10gb", "memory")} == {
        "rdma/hca": "1", "nvidia.com/mig-1g.10gb": "2", "memory": "1Gi",
    }  # fmt: skip
    assert "nvidia.com/gpu" not in limits
    assert "nvidia.com/mig-1g.10gb" in {one["key"] for one in spec["tolerations"]}


def test_without_them_a_pod_is_as_before(launch: Any, kubernetes: Cluster) -> None:
    job = launch({}, gpus=1)
    (made,) = kubernetes.list("Job", **{"job-id": job.id})
    spec = made.to_dict()["spec"]["template"]["spec"]

    assert not {"runtimeClassName", "affinity", "topologySpreadConstraints", "resourceClaims"} & spec.keys()
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        ({"affinity": {"nodeAfinity": {}}}, 'unknown field "spec.template.spec.affinity.nodeAfinity"'),
        ({"topology_spread": [{"maxSkew": 0}]}, "maxSkew"),
        ({"labels": {"not a label": "x"}}, "not a label"),
        ({"runtime_class": "gvisor"}, "the RuntimeClass is nvidia"),
        ({"annotations": {"ok": "1"}, "resource_claims": [{"name": "gpu", "template": "Not A Name"}]}, "Not A Name"),
    ],
)
def test_what_the_cluster_refuses_is_the_jobs_message(launch: Any, pod: dict[str, Any], words: str) -> None:
    job = launch({"pod": pod})

    assert (job.state, job.reason) == ("FAILED", "launch_rejected")
    assert words in job.message


@pytest.mark.parametrize("name", ["stoker.dev/job-id", "app.kubernetes.io/managed-by", "kueue.x-k8s.io/queue-name"])
def test_a_trainer_sets_none_of_the_labels_that_stoker_sets(
    environment: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    (tmp_path / "own.json").write_text(json.dumps({"stub": {"pod": {"labels": {name: "x"}}}}))
    environment.setenv("TRAINERS", str(tmp_path / "own.json"))
    forget()

    with pytest.raises(ConfigurationError, match=f"Stoker itself sets {name}"):
        trainers()


def blocks() -> list[tuple[Any, list[Any]]]:
    """Return the networks that trainers may reach, each with its exceptions."""
    documents = yaml.safe_load_all((ROOT / "knative/base/trainers.yaml").read_text())
    (policy,) = [one for one in documents if (one["kind"], one["metadata"]["name"]) == ("NetworkPolicy", "trainers")]
    return [
        (ip_network(peer["ipBlock"]["cidr"]), [*map(ip_network, peer["ipBlock"]["except"])])
        for rule in policy["spec"]["egress"]
        for peer in rule["to"]
        if "ipBlock" in peer
    ]


@pytest.mark.parametrize(
    ("address", "is_allowed"),
    [
        ("52.216.1.1", True),
        ("2600:1f18::1", True),
        ("64:ff9b::34d8:101", True),  # 52.216.1.1 behind NAT64
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("fd00:ec2::254", False),
        ("fe80::1", False),
        ("64:ff9b::a00:1", False),  # 10.0.0.1
        ("64:ff9b::a9fe:a9fe", False),  # 169.254.169.254
        ("64:ff9b::c0a8:101", False),  # 192.168.1.1
        ("64:ff9b::ac1f:1", False),  # 172.31.0.1
        ("64:ff9b::6464:1", False),  # 100.100.0.1
    ],
)
def test_trainers_reach_public_addresses_of_both_families_and_no_private_ones(
    address: str, *, is_allowed: bool
) -> None:
    target = ip_address(address)
    reached = any(target in network and not any(target in one for one in excepted) for network, excepted in blocks())

    assert reached == is_allowed


def test_the_api_server_takes_the_policies(cluster: Path) -> None:
    words = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f")
    done = kubectl(cluster, *words, str(ROOT / "knative/base/trainers.yaml"))

    assert (done.returncode, done.stderr) == (0, "")
