"""What may be created in the trainers' namespace: one row for each way to request more."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from functions.api import tokens
from functions.launchers import kubernetes_objects as objects
from functions.launchers import launching
from functions.store import queries
from tests.cluster.conftest import NAMESPACE, Cluster, kubectl, unlabelled
from tests.conftest import ROOT, eventually, forget

pytestmark = [pytest.mark.usefixtures("sqlite", "s3"), pytest.mark.timeout(600)]

REFUSED: Mapping[str, tuple[str, Any, str]] = {
    # what is requested: where in the Job, the value, the policy's words
    "another account": ("pod.serviceAccountName", "default", "ServiceAccount trainer"),
    "no account": ("pod.serviceAccountName", None, "ServiceAccount trainer|no such key"),
    "a token of the API server": ("pod.automountServiceAccountToken", True, "without a token"),
    "restarts in place": ("pod.restartPolicy", "OnFailure", "one try|restartPolicy"),
    "several tries": ("job.backoffLimit", 6, "one try"),
    "no deadline": ("job.activeDeadlineSeconds", None, "one try"),
    "to stay for ever": ("job.ttlSecondsAfterFinished", None, "one try"),
    "a thousand pods": ("job.parallelism", 1000, "64 nodes"),
    "a second container": ("pod.containers.+", {"name": "miner", "image": "miner"}, "one container"),
    "a container before it": ("pod.initContainers", [{"name": "x", "image": "x"}], "one container"),
    "the host's files": ("pod.volumes.+", {"name": "x", "hostPath": {"path": "/"}}, "only empty folders"),
    "the host's files below the cache of datasets": ("pod.volumes.+", {"name": "x", "hostPath": {"path": "/var/cache/stoker/.."}}, "only empty folders|must not contain"),
    "another Secret": ("pod.volumes.+", {"name": "x", "secret": {"secretName": "other"}}, "only empty folders"),
    "a ConfigMap": ("pod.volumes.+", {"name": "x", "configMap": {"name": "other"}}, "only empty folders"),
    "a claim": ("pod.volumes.+", {"name": "x", "persistentVolumeClaim": {"claimName": "other"}}, "only empty folders"),
    "a projected token": ("pod.volumes.+", {"name": "x", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}, "only empty folders"),
    "a network file system": ("pod.volumes.+", {"name": "x", "nfs": {"server": "x", "path": "/"}}, "only empty folders"),
    "all of a Secret": ("container.envFrom", [{"secretRef": {"name": "other"}}], "variables come from"),
    "one key of another Secret": ("container.env.+", {"name": "X", "valueFrom": {"secretKeyRef": {"name": "other", "key": "x"}}}, "variables come from"),
    "a key of a ConfigMap": ("container.env.+", {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "other", "key": "x"}}}, "variables come from"),
    "no limits": ("container.resources", {}, "limits of memory|no such key"),
    "no limit of disk": ("container.resources", {"limits": {"memory": "1Gi"}}, "limits of memory"),
    "a certain node": ("pod.nodeName", "control-plane", "the scheduler chooses"),
    "to go before others": ("pod.priorityClassName", "system-node-critical", "the scheduler chooses"),
    "another runtime": ("pod.runtimeClassName", "runc", "the RuntimeClass is nvidia"),
    "another pod's devices": ("pod.resourceClaims", [{"name": "gpu", "resourceClaimName": "theirs"}], "resource claims, from templates"),
    "the host's network": ("pod.hostNetwork", True, "the scheduler chooses"),
    "no installation": ("metadata.labels", {"any": "label"}, "label stoker.dev/installation"),
    "another installation's pods": ("template.labels", {"stoker.dev/installation": "other"}, "label stoker.dev/installation"),
}  # fmt: skip
REFUSED_IN_PRODUCTION: Mapping[str, tuple[str, Any, str]] = {
    "an image by tag": ("container.image", "registry.example.com/stoker/trainer-timm:1", "by digest"),
    "a stranger's image": ("container.image", f"docker.io/miner/miner@sha256:{'0' * 64}", "by digest"),
    "a host name that ends alike": ("container.image", f"evil.com/registry.example.com/stoker/x@sha256:{'0' * 64}", "by digest"),
    "nine GPUs": ("container.resources", {"limits": {"memory": "1Gi", "ephemeral-storage": "1Gi", "nvidia.com/gpu": "9"}}, "eight GPUs"),
    "nine nodes": ("job.parallelism", 9, "eight nodes"),
    "a month": ("job.activeDeadlineSeconds", 30 * 24 * 3600, "two weeks"),
}  # fmt: skip


@pytest.fixture
def good(kubernetes: Cluster, a_job: Callable[..., str]) -> dict[str, Any]:
    """Return the Job that create-job makes."""
    del kubernetes
    job = queries.job(a_job(now=tokens.now(), gpus=1))
    return objects.job_object(job, launching.environment(job, now=tokens.now()))


def changed(job: dict[str, Any], where: str, value: Any) -> dict[str, Any]:
    """Put a value into a Job; ``None`` takes it away, ``+`` adds to a list."""
    root, _, path = where.partition(".")
    pod = job["spec"]["template"]["spec"]
    places = {"job": job["spec"], "pod": pod, "container": pod["containers"][0]}
    place = (places | {"metadata": job["metadata"], "template": job["spec"]["template"]["metadata"]})[root]
    *folders, last = path.split(".")
    for folder in folders:
        place = place[folder]
    if last == "+":
        place.append(value)
    elif value is None:
        del place[last]
    else:
        place[last] = value
        if last == "parallelism":
            job["spec"]["completions"] = value
    return job


def ask(kubernetes: Cluster, job: dict[str, Any], namespace: str = NAMESPACE) -> None:
    kubernetes.create(job, namespace, dry_run="All")


def test_what_create_job_makes_is_allowed(kubernetes: Cluster, good: dict[str, Any]) -> None:
    ask(kubernetes, good)


@pytest.mark.parametrize("attempt", REFUSED)
def test_no_job_gets(attempt: str, kubernetes: Cluster, good: dict[str, Any]) -> None:
    where, value, words = REFUSED[attempt]

    with pytest.raises(ApiException, match=words):
        ask(kubernetes, changed(good, where, value))


@pytest.mark.parametrize("kind", ["hostPath", "persistentVolumeClaim"])
def test_a_job_gets_the_cache_of_datasets_if_it_is_configured(
    kind: str, kubernetes: Cluster, environment: pytest.MonkeyPatch, a_job: Callable[..., str]
) -> None:
    environment.setenv("LAUNCHER", "kubernetes")
    environment.setenv("DATASET_CACHE_VOLUME", kind)
    forget()
    job = queries.job(a_job())
    variables = launching.environment(job, now=tokens.now())
    assert variables["DATASET_CACHE_DIR"] == "/var/cache/stoker"

    ask(kubernetes, objects.job_object(job, variables))


def test_a_job_keeps_its_installation(kubernetes: Cluster, good: dict[str, Any]) -> None:
    kubernetes.create(good)

    with pytest.raises(ApiException, match="never changes"):
        kubernetes.patch("Job", good["metadata"]["name"], {"metadata": {"labels": {objects.INSTALLATION: "other"}}})


def test_a_job_of_a_release_without_the_label_can_be_updated(
    cluster: Path, kubernetes: Cluster, good: dict[str, Any]
) -> None:
    name = good["metadata"]["name"]
    with unlabelled(cluster, kubernetes, good):
        kubernetes.patch("Job", name, {"spec": {"suspend": True}})
        kubernetes.patch("Job", name, {"metadata": {"annotations": {"any": "thing"}}})

    assert kubernetes.get("Job", name).spec.suspend


PRODUCTION = "stoker-trainers-in-production"


@pytest.fixture(scope="module")
def applied(cluster: Path) -> str:
    """Apply the production overlay's policy to a namespace of its own."""
    rendered = kubectl(cluster, "kustomize", str(ROOT / "knative/overlays/production")).stdout
    mine = [one for one in yaml.safe_load_all(rendered) if one["kind"].startswith("ValidatingAdmissionPolicy")]
    text = yaml.safe_dump_all(mine).replace("stoker-trainer-jobs", "stoker-production-trainer-jobs")
    text = text.replace("metadata.name: stoker-trainers", f"metadata.name: {PRODUCTION}")
    kubectl(cluster, "create", "namespace", PRODUCTION).check_returncode()
    kubectl(cluster, "apply", "--server-side", "-f", "-", stdin=text).check_returncode()
    return PRODUCTION


@pytest.fixture
def production(applied: str, kubernetes: Cluster, good: dict[str, Any]) -> str:
    """Return that namespace once its policy is in force; a Job with an image by digest is allowed there."""

    def is_in_force() -> bool:
        try:
            ask(kubernetes, good, applied)
        except ApiException as error:
            return "by digest" in str(error)
        return False

    eventually(is_in_force)
    digest = f"registry.example.com/stoker/trainer-timm@sha256:{'0' * 64}"
    ask(kubernetes, changed(good, "container.image", digest), applied)
    return applied


@pytest.mark.parametrize("attempt", REFUSED_IN_PRODUCTION)
def test_in_production_no_job_gets(attempt: str, kubernetes: Cluster, good: dict[str, Any], production: str) -> None:
    where, value, words = REFUSED_IN_PRODUCTION[attempt]

    with pytest.raises(ApiException, match=words):
        ask(kubernetes, changed(good, where, value), production)


UNRESTRICTED: Mapping[str, tuple[str, Any]] = {
    "the host's network": ("pod.hostNetwork", True),
    "the host's processes": ("pod.hostPID", True),
    "the host's files": ("pod.volumes.+", {"name": "x", "hostPath": {"path": "/"}}),
    "to be privileged": ("container.securityContext", {"privileged": True}),
    "to become more": ("container.securityContext", {"allowPrivilegeEscalation": True}),
    "a capability": ("container.securityContext", {"allowPrivilegeEscalation": False, "capabilities": {"add": ["SYS_ADMIN"], "drop": ["ALL"]}}),
    "to be root": ("pod.securityContext", {"runAsUser": 0}),
    "all system calls": ("pod.securityContext", {"runAsNonRoot": True, "seccompProfile": {"type": "Unconfined"}}),
}  # fmt: skip


@pytest.mark.parametrize("attempt", UNRESTRICTED)
def test_no_pod_gets(attempt: str, kubernetes: Cluster, good: dict[str, Any]) -> None:
    spec = changed(good, *UNRESTRICTED[attempt])["spec"]["template"]["spec"]
    pod = {"kind": "Pod", "metadata": {"name": "asks-for-more"}, "spec": spec}

    with pytest.raises(ApiException, match=r"violates PodSecurity|disallowed by cluster policy"):
        kubernetes.create(pod, dry_run="All")
