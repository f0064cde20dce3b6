"""The Kubernetes launcher and sweep against a real API server and the real Job controller."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from functions.api import tokens
from functions.domain.callbacks import TrainerEvent
from functions.domain.spec import Spec
from functions.domain.states import Reason, State
from functions.launchers import base, launching
from functions.launchers import kubernetes_objects as objects
from functions.launchers.base import LaunchRejectedError, Phase
from functions.launchers.kubernetes import Kubernetes
from functions.reconcile import sweeping
from functions.store import callbacks, jobs, queries, reports
from functions.store.reports import Report
from functions.store.tables import Job
from tests.cluster.conftest import NAMESPACE, Cluster, condition, container, disconnect, kubectl, write_kubeconfig
from tests.conftest import api_headers, call, claim, eventually, forget, seconds

pytestmark = [pytest.mark.usefixtures("sqlite", "s3"), pytest.mark.timeout(600)]


@pytest.fixture
def new(kubernetes: Cluster, a_job: Callable[..., str]) -> Callable[..., Job]:
    del kubernetes
    return lambda **fields: queries.job(a_job(now=tokens.now(), **{"attempt_limit": 1} | fields))


@pytest.fixture
def quota(kubernetes: Cluster) -> Iterator[Callable[[str, str], None]]:
    """Limit the trainers' namespace for one test; it is limited when the call returns."""
    before = kubernetes.get("ResourceQuota", "trainers").to_dict()["spec"]

    def limit(what: str, hard: str) -> None:
        kubernetes.patch("ResourceQuota", "trainers", {"spec": {"hard": {what: hard}}})
        # The controller copies it there.
        eventually(lambda: kubernetes.get("ResourceQuota", "trainers").status.hard[what] == hard)

    yield limit
    kubernetes.patch("ResourceQuota", "trainers", {"spec": before})


@pytest.fixture
def queue(kubernetes: Cluster) -> Iterator[Callable[[str], None]]:
    """Make LocalQueues for one test."""
    kind = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "LocalQueue"}
    yield lambda name: kubernetes.create(kind | {"metadata": {"name": name}, "spec": {"clusterQueue": "all"}})
    for made in kubernetes.list("LocalQueue"):
        kubernetes.delete("LocalQueue", made.metadata.name)


def submit(job: Job) -> base.Status:
    return Kubernetes().submit(job, launching.environment(job, now=tokens.now()))


def names(objects_: Any) -> list[str]:
    return [one.metadata.name for one in objects_]


def failed(job: Job) -> base.Status:
    """Wait until the Job controller has seen the pod's end."""
    return eventually(lambda: status if (status := Kubernetes().inspect(job)).phase == Phase.ENDED else None)  # type: ignore[no-any-return]


def test_a_launch_is_one_job_one_secret_and_one_pod_however_often_it_is_submitted(
    new: Any, kubernetes: Cluster
) -> None:
    job = new(epochs=3, gpus=2)
    assert [submit(job).phase for _ in range(2)] == [Phase.HELD] * 2
    (pod,) = eventually(lambda: kubernetes.list("Pod"))

    assert names(kubernetes.list("Job")) == [f"stoker-{job.id}-1"]
    (secret,) = kubernetes.list("Secret")
    assert [owner.kind for owner in secret.metadata.ownerReferences] == ["Job"]
    variables = {one.name: one.value for one in pod.spec.containers[0].env}
    assert {name: variables[name] for name in ("JOB_ID", "EPOCHS", "DEVICE", "CALLBACK_TOKEN_FILE")} == {
        "JOB_ID": job.id,
        "EPOCHS": "3",
        "DEVICE": "0,1",
        "CALLBACK_TOKEN_FILE": "/var/run/stoker/token",
    }
    assert "CALLBACK_TOKEN" not in variables
    assert "MINIO_SECRET_KEY" in variables
    assert variables["MINIO_SECRET_KEY"] is None  # by reference
    assert pod.spec.containers[0].resources.limits["nvidia.com/gpu"] == "2"


def test_a_crash_between_job_and_secret_heals(new: Any, kubernetes: Cluster) -> None:
    job = new()
    kubernetes.create(objects.job_object(job, launching.environment(job, now=tokens.now())))
    assert kubernetes.list("Secret") == []

    submit(job)
    assert names(kubernetes.list("Secret")) == [f"stoker-{job.id}-1"]


def test_stopping_leaves_neither_job_nor_pod_nor_secret(new: Any, kubernetes: Cluster) -> None:
    job, other = new(), new()
    submit(job)
    submit(other)
    eventually(lambda: len(kubernetes.list("Pod")) == 2)
    Kubernetes().stop(job.id)
    Kubernetes().stop(job.id)

    eventually(lambda: len(kubernetes.list("Pod")) == 1 and len(kubernetes.list("Secret")) == 1)
    assert Kubernetes().list() == {other.id}


@pytest.mark.parametrize(
    ("status", "phase", "message", "reason"),
    [
        (
            condition("PodScheduled", status="False", reason="Unschedulable", message="0/1 nodes: no nvidia.com/gpu"),
            Phase.HELD, "nvidia.com/gpu", Reason.UNSCHEDULABLE,
        ),
        (container(waiting={"reason": "ImagePullBackOff", "message": "no such image"}), Phase.WAITING, "no such image", Reason.IMAGE_PULL),
        (container(waiting={"reason": "CreateContainerConfigError", "message": "secret not found"}), Phase.WAITING, "secret not found", None),
        (container(running={}), Phase.RUNNING, None, None),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_a_pod_that_has_not_ended_says_why_it_waits(  # noqa: PLR0913, PLR0917 -- a table's columns
    new: Any, node: Any, status: Any, phase: Phase, message: str | None, reason: Reason | None
) -> None:
    job = new()
    submit(job)
    node(job.id, "Running" if phase == Phase.RUNNING else "Pending", **status)

    status = Kubernetes().inspect(job)
    assert (status.phase, status.reason) == (phase, reason)
    assert (message or "") in (status.message or "")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (container(terminated={"exitCode": 137, "reason": "OOMKilled"}), Reason.OOM_HOST),
        (container(terminated={"exitCode": 65, "reason": "Error"}), Reason.DATASET_INVALID),
        (container(terminated={"exitCode": 78, "reason": "Error"}), Reason.CONFIG_INVALID),
        (container(terminated={"exitCode": 74, "reason": "Error"}), Reason.STORAGE_ERROR),
        (container(terminated={"exitCode": 1, "reason": "Error"}), Reason.TRAINER_ERROR),
        ({"reason": "Evicted", "message": "Pod ephemeral local storage usage exceeds the total limit"}, Reason.EVICTED),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_pod_that_failed_fails_its_job_with_the_reason(new: Any, node: Any, status: Any, reason: Reason) -> None:
    job = new()
    submit(job)
    node(job.id, "Failed", **status)

    assert failed(job).reason == reason
    sweeping.run(now=tokens.now())
    after = queries.job(job.id)
    assert (after.state, after.reason) == (State.FAILED, reason)


def test_a_trainer_that_fails_without_a_word_says_the_last_line_of_its_log(new: Any, node: Any) -> None:
    job = new()
    submit(job)
    printed = "Traceback (most recent call last):\n\x1b[2K 12%\rModuleNotFoundError: No module named 'msgspec'\x00\n\n"
    node(job.id, "Failed", **container(terminated={"exitCode": 1, "reason": "Error", "message": printed}))

    failed(job)
    sweeping.run(now=tokens.now())

    assert queries.job(job.id).message == (
        "the trainer exited with code 1 and did not send done; "
        "it last printed: ModuleNotFoundError: No module named 'msgspec'"
    )


def test_a_disruption_costs_no_attempt_the_pod_is_made_anew(new: Any, node: Any, kubernetes: Cluster) -> None:
    job = new()
    submit(job)
    terminated = container(terminated={"exitCode": 143, "reason": "Error"})
    first = node(job.id, "Failed", **terminated, **condition("DisruptionTarget", reason="PreemptionByScheduler"))

    eventually(lambda: [name for name in names(kubernetes.list("Pod")) if name != first.metadata.name])
    assert Kubernetes().inspect(job).phase == Phase.HELD


def test_a_trainer_that_exits_as_after_sigterm_unasked_is_launched_again_up_to_the_limit(
    new: Any, node: Any, kubernetes: Cluster
) -> None:
    job = new(attempt_limit=2)
    launching.launch(job, now=tokens.now())

    def launches() -> set[str]:
        return {pod.metadata.labels["stoker.dev/launch"] for pod in kubernetes.list("Pod")}

    def exit_unasked() -> None:
        node(job.id, "Failed", **container(terminated={"exitCode": 143, "reason": "Error"}))
        status = failed(queries.job(job.id))
        assert (status.reason, "exited with code 143" in (status.message or "")) == (Reason.LOST, True)
        sweeping.run(now=tokens.now())

    exit_unasked()
    eventually(lambda: launches() == {"2"})
    exit_unasked()

    after = queries.job(job.id)
    assert (after.state, after.reason, after.launch) == (State.FAILED, Reason.LOST, 2)


def test_nodes_that_a_disruption_ended_say_so_when_the_disrupted_pod_is_gone(
    new: Any, node: Any, kubernetes: Cluster
) -> None:
    job = new(nodes=2)
    submit(job)
    terminated = container(terminated={"exitCode": 143, "reason": "Error"})
    evicted = node(job.id, "Failed", **terminated, **condition("DisruptionTarget", reason="EvictionByEvictionAPI"))
    assert failed(job).reason == Reason.EVICTED

    kubernetes.delete("Pod", evicted.metadata.name)
    eventually(lambda: evicted.metadata.name not in names(kubernetes.list("Pod")))
    status = Kubernetes().inspect(job)
    assert (status.reason, "DisruptionTarget" in (status.message or "")) == (Reason.EVICTED, True)


@pytest.fixture
def failed_pull(kubernetes: Cluster) -> Iterator[Callable[[Any, datetime], None]]:
    """Report that a pod's image cannot be pulled, as the kubelet does."""

    def report(pod: Any, first_at: datetime) -> None:
        moment = first_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        about = {"kind": "Pod", "namespace": NAMESPACE, "name": pod.metadata.name, "uid": pod.metadata.uid}
        times = {"firstTimestamp": moment, "lastTimestamp": moment}
        event = {"apiVersion": "v1", "kind": "Event", "metadata": {"generateName": "pull-"}, "involvedObject": about}
        kubernetes.create(event | times | {"reason": "Failed", "message": "Failed to pull image", "type": "Warning"})

    yield report
    for event in kubernetes.list("Event"):
        kubernetes.delete("Event", event.metadata.name)


NO_IMAGE = container(waiting={"reason": "ErrImagePull", "message": "429 Too Many Requests"})


def test_an_image_that_cannot_be_pulled_fails_the_job_after_a_while(
    new: Any, node: Any, environment: pytest.MonkeyPatch, kubernetes: Cluster, failed_pull: Any
) -> None:
    environment.setenv("IMAGE_PULL_SECONDS", "100")
    forget()
    job = new()
    submit(job)
    failed_pull(node(job.id, "Pending", **NO_IMAGE), tokens.now() - seconds(101))
    sweeping.run(now=tokens.now())
    assert (queries.job(job.id).state, queries.job(job.id).reason) == (State.FAILED, Reason.IMAGE_PULL)

    sweeping.run(now=tokens.now() + seconds(60))
    eventually(lambda: kubernetes.list("Job") == [])


def test_the_first_failed_pull_is_not_final_however_long_the_pod_waited_for_its_node(
    new: Any, node: Any, failed_pull: Any, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("IMAGE_PULL_SECONDS", "1")
    forget()
    job = new()
    submit(job)
    pod = node(job.id, "Pending", **NO_IMAGE)
    failed_pull(pod, tokens.now() + seconds(60))  # later than the pod's creation by more than the limit
    eventually(lambda: tokens.now() - datetime.fromisoformat(pod.metadata.creationTimestamp) > seconds(2))

    assert Kubernetes().inspect(job).phase == Phase.WAITING


def test_without_events_the_limit_counts_from_when_the_pod_got_its_node(
    new: Any, node: Any, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("IMAGE_PULL_SECONDS", "100")
    forget()
    got_node = (tokens.now() - seconds(101)).strftime("%Y-%m-%dT%H:%M:%SZ")
    job = new()
    submit(job)
    node(job.id, "Pending", **NO_IMAGE, **condition("PodScheduled", lastTransitionTime=got_node))

    assert Kubernetes().inspect(job).phase == Phase.ENDED


def test_a_job_shows_the_digest_of_the_image_that_its_node_pulled(new: Any, node: Any) -> None:
    job = new()
    launching.launch(job, now=tokens.now())
    digest = f"registry.example.com/stub@sha256:{'0' * 64}"
    status = container(running={})
    status["containerStatuses"][0]["imageID"] = f"docker-pullable://{digest}"
    node(job.id, "Running", **status)
    sweeping.run(now=tokens.now())

    assert queries.job(job.id).image == digest


def test_a_pod_that_somebody_deletes_is_made_anew_as_after_an_eviction(
    new: Any, node: Any, kubernetes: Cluster
) -> None:
    job = new(attempt_limit=1)
    submit(job)
    first = node(job.id, "Running", **container(running={}))
    kubernetes.delete("Pod", first.metadata.name)
    node(job.id, "Failed", **container(terminated={"exitCode": 143, "reason": "Error"}))

    eventually(lambda: [pod for pod in kubernetes.list("Pod") if pod.metadata.uid != first.metadata.uid])
    assert Kubernetes().inspect(job).phase == Phase.HELD


def test_a_job_whose_pod_is_deleted_by_force_was_evicted(new: Any, node: Any, kubernetes: Cluster) -> None:
    job = new(attempt_limit=1)
    submit(job)
    pod = node(job.id, "Running", **container(running={}))
    kubernetes.delete("Pod", pod.metadata.name)
    node(job.id, "Failed", **container(terminated={"exitCode": 137, "reason": "Error"}))
    eventually(lambda: kubernetes.list("Pod") == [])
    status = failed(job)

    assert (status.reason, status.message) == (Reason.EVICTED, "its pod was deleted, as by kubectl delete pod")


def test_a_job_that_finds_no_node_in_time_fails_as_unschedulable(new: Any, node: Any) -> None:
    job = new(longest_pending_seconds=1)
    submit(job)
    unschedulable = condition("PodScheduled", status="False", reason="Unschedulable", message="0/1 nodes are available")
    node(job.id, "Pending", **unschedulable)
    sweeping.run(now=tokens.now())  # the clock counts only while sweeps run
    sweeping.run(now=tokens.now() + seconds(2))

    after = queries.job(job.id)
    assert (after.state, after.reason) == (State.FAILED, Reason.UNSCHEDULABLE)
    assert "0/1 nodes are available" in (after.message or "")


def test_a_job_deleted_behind_our_back_is_submitted_again_or_lost(new: Any, kubernetes: Cluster) -> None:
    waiting, started = new(), new()
    for job in (waiting, started):
        launching.launch(job, now=tokens.now())
    claim(started.id, now=tokens.now())
    for job in (waiting, started):
        Kubernetes().stop(job.id)
    sweeping.run(now=tokens.now())
    eventually(lambda: names(kubernetes.list("Job")) == [f"stoker-{waiting.id}-1"])

    sweeping.run(now=tokens.now() + seconds(90))
    assert (queries.job(started.id).state, queries.job(started.id).reason) == (State.FAILED, Reason.LOST)


def test_a_lost_trainer_is_launched_again_and_the_old_job_is_gone(new: Any, node: Any, kubernetes: Cluster) -> None:
    job = new(attempt_limit=2)
    launching.launch(job, now=tokens.now())
    claim(job.id, now=tokens.now())
    node(job.id, "Failed", **container(terminated={"exitCode": 74, "reason": "Error"}))
    failed(job)
    sweeping.run(now=tokens.now())

    assert (queries.job(job.id).state, queries.job(job.id).launch) == (State.RUNNING, 2)
    eventually(lambda: names(kubernetes.list("Job")) == [f"stoker-{job.id}-2"])


def test_a_job_without_a_row_is_stopped(new: Any, kubernetes: Cluster) -> None:
    job = new()
    submit(job)
    jobs.move(job.id, State.CANCELLED, now=tokens.now() - seconds(60))
    sweeping.run(now=tokens.now())

    eventually(lambda: kubernetes.list("Job") == [])


def test_a_change_of_a_job_is_looked_at_when_the_cluster_tells_of_it(
    new: Any, node: Any, function: Callable[[str], Any]
) -> None:
    job = new()
    sweeping.run(now=tokens.now())
    launching.launch(job, now=tokens.now())
    node(job.id, "Failed", **container(terminated={"exitCode": 137, "reason": "OOMKilled"}))
    failed(job)
    event = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "https://kubernetes.default.svc",
        "ce-type": "dev.knative.apiserver.ref.update",
        "ce-subject": f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs/stoker-{job.id}-1",
    }
    answer = function("sweep").post("/", json={}, headers=api_headers() | event)

    assert (answer.status_code, answer.content) == (204, b"")
    assert queries.job(job.id).reason == Reason.OOM_HOST


def test_an_exhausted_quota_is_waited_for(new: Any, quota: Any) -> None:
    quota("count/jobs.batch", "0")
    job = new()
    status = submit(job)

    assert (status.phase, "exceeded quota" in (status.message or "")) == (Phase.WAITING, True)


def test_what_a_job_waits_for_is_shown_with_the_job(new: Any, node: Any) -> None:
    job = new()
    launching.launch(job, now=tokens.now())
    unschedulable = condition("PodScheduled", status="False", reason="Unschedulable", message="0/1 nodes are available")
    node(job.id, "Pending", **unschedulable)
    sweeping.run(now=tokens.now())

    after = queries.job(job.id)
    assert (after.state, after.message) == (State.QUEUED, "waits for a node: 0/1 nodes are available")


def test_a_job_that_only_waits_for_its_turn_is_not_submitted_over_and_over(new: Any, node: Any) -> None:
    job, started = new(), new()
    for one in (job, started):
        launching.launch(one, now=tokens.now())
    unschedulable = condition("PodScheduled", status="False", reason="Unschedulable", message="0/1 nodes are available")
    node(job.id, "Pending", **unschedulable)
    # The Secret may be what this one waits for.
    node(started.id, "Pending", **container(waiting={"reason": "ContainerCreating"}))
    later = tokens.now() + seconds(60)
    sweeping.run(now=later)

    assert [queries.job(one.id).submitted_at == later for one in (job, started)] == [False, True]
    assert "0/1 nodes" in (queries.job(job.id).message or "")


def test_a_job_whose_pods_are_refused_says_why(new: Any, quota: Any) -> None:
    job = new(gpus=1)
    quota("requests.nvidia.com/gpu", "0")
    submit(job)
    status = eventually(lambda: seen if "exceeded" in ((seen := Kubernetes().inspect(job)).message or "") else None)
    sweeping.run(now=tokens.now())

    assert (status.phase, "requests.nvidia.com/gpu=1" in (status.message or "")) == (Phase.HELD, True)
    assert "exceeded quota" in (queries.job(job.id).message or "")


def test_a_job_in_a_queue_says_what_kueue_says(new: Any, kubernetes: Cluster, queue: Any) -> None:
    queue("trainers")
    job = new(queue="trainers", gpus=1)
    submit(job)
    (made,) = kubernetes.list("Job")
    workload = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {"name": "job-1", "labels": {"kueue.x-k8s.io/job-uid": made.metadata.uid}},
        "spec": {"podSets": [{"name": "main", "count": 1, "template": {"spec": {"containers": [{"name": "x", "image": "x"}]}}}]},
    }  # fmt: skip
    kubernetes.create(workload)
    why = "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor l4, 1 more needed"
    pending = {
        "type": "QuotaReserved",
        "status": "False",
        "reason": "Pending",
        "message": why,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    kubernetes.patch_status("Workload", "job-1", {"conditions": [pending]})

    launcher = Kubernetes()
    launcher.list()
    assert launcher.inspect(job) == base.Status(Phase.HELD, f"waits for quota of its queue: {why}")
    kubernetes.delete("Workload", "job-1")


def test_a_trainer_runs_where_its_registration_says(
    new: Any, kubernetes: Cluster, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spot = {"key": "example.com/spot", "operator": "Exists", "effect": "NoSchedule"}
    registered = {
        "image": "registry.example.com/stub:1",
        "node_selector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [spot],
    }
    (tmp_path / "placed.json").write_text(json.dumps({"stub": registered}))
    environment.setenv("TRAINERS", str(tmp_path / "placed.json"))
    forget()
    submit(new(gpu_type="NVIDIA-L4"))
    (made,) = kubernetes.list("Job")

    pod = made.spec.template.spec
    assert pod.nodeSelector.to_dict() == {"kubernetes.io/arch": "amd64", "nvidia.com/gpu.product": "NVIDIA-L4"}
    assert [one.key for one in pod.tolerations] == ["nvidia.com/gpu", "example.com/spot"]


def test_a_check_before_a_training_has_no_gpu_and_the_launch_after_it_has(
    kubernetes: Cluster, node: Any, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    registered = {
        "image": "registry.example.com/stub:1",
        "node_selector": {"example.com/pool": "gpu"},
        "tolerations": [{"key": "example.com/spot", "operator": "Exists", "effect": "NoSchedule"}],
        "pod": {"runtime_class": "nvidia", "labels": {"example.com/team": "vision"}},
        "resources": {"scratch": "50Gi", "ephemeral_storage": "60Gi"},
    }
    (tmp_path / "gpus.json").write_text(json.dumps({"stub": registered}))
    environment.setenv("TRAINERS", str(tmp_path / "gpus.json"))
    forget()
    spec = Spec(framework="stub", model_name="stub-1", dataset_id="digits", gpus=2, gpu_type="NVIDIA-L4", nodes=2)
    job, _ = jobs.create(spec, identity=None, trace_id="0" * 32, now=tokens.now(), checking=True)
    launching.launch(job, now=tokens.now())
    (made,) = kubernetes.list("Job")

    assert made.metadata.name == f"stoker-{job.id}-1"
    assert made.spec.parallelism == 1
    pod, (trainer,) = made.spec.template.spec, made.spec.template.spec.containers
    assert (pod.nodeSelector, pod.tolerations, pod.runtimeClassName) == (None, None, None)
    assert made.spec.template.metadata.labels["example.com/team"] == "vision"
    small = {"memory": "4Gi", "ephemeral-storage": "60Gi"}
    assert trainer.resources.to_dict() == {"limits": small, "requests": small | {"cpu": "1"}}
    variables = {one.name: one.value for one in trainer.env}
    assert variables["TASK"] == "check"
    assert not variables.keys() & {"DEVICE", "NODES"}

    node(job.id, "Running", **container(running={}))
    sweeping.run(now=tokens.now())
    started = callbacks.claim(call(job.id, launch=1), TrainerEvent("started", None, None), now=tokens.now())
    assert started.state == State.QUEUED
    reports.finish(call(job.id, attempt=1, launch=1), Report("SUCCEEDED"), now=tokens.now())
    node(job.id, "Succeeded", **container(terminated={"exitCode": 0}))
    sweeping.reconcile_job(job.id, now=tokens.now())

    made = eventually(lambda: made if names(made := kubernetes.list("Job")) == [f"stoker-{job.id}-2"] else None)[0]
    pod, (trainer,) = made.spec.template.spec, made.spec.template.spec.containers
    assert pod.nodeSelector.to_dict() == {"example.com/pool": "gpu", "nvidia.com/gpu.product": "NVIDIA-L4"}
    assert (pod.runtimeClassName, made.spec.parallelism) == ("nvidia", 2)
    assert trainer.resources.limits.to_dict()["nvidia.com/gpu"] == "2"
    assert {one.name: one.value for one in trainer.env}["TASK"] == "train"
    (secret,) = eventually(lambda: kubernetes.list("Secret", **{"job-id": job.id, "launch": "2"}))
    assert secret.metadata.name == f"stoker-{job.id}-2"


def test_a_job_that_the_policy_refuses_is_never_tried_again(
    new: Any, kubernetes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = new()
    made = objects.job_object(job, launching.environment(job, now=tokens.now()))
    made["spec"]["template"]["spec"]["serviceAccountName"] = "default"
    monkeypatch.setattr(objects, "job_object", lambda _job, _environment: made)

    with pytest.raises(LaunchRejectedError, match="ServiceAccount trainer"):
        submit(job)
    assert kubernetes.list("Job") == []


FORBIDS = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: forbids-seven-nodes}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [batch], apiVersions: [v1], operations: [CREATE], resources: [jobs]}]}
  validations: [{expression: object.spec.parallelism != 7, reason: Forbidden, message: not seven nodes}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: forbids-seven-nodes}
spec: {policyName: forbids-seven-nodes, validationActions: [Deny]}
"""


def test_a_policy_that_forbids_is_distinguished_from_a_quota_and_from_missing_rights(new: Any, cluster: Path) -> None:
    kubectl(cluster, "apply", "-f", "-", stdin=FORBIDS).check_returncode()

    def refusal() -> str | None:
        job = new(nodes=7)
        try:
            submit(job)
        except LaunchRejectedError as error:
            return str(error)
        return None

    assert "denied request: not seven nodes" in eventually(refusal)
    kubectl(cluster, "delete", "-f", "-", stdin=FORBIDS).check_returncode()


def test_a_pod_that_is_not_restricted_is_refused_by_the_namespace(kubernetes: Cluster) -> None:
    bare = {"kind": "Pod", "metadata": {"name": "bare"}, "spec": {"containers": [{"name": "x", "image": "x"}]}}

    with pytest.raises(ApiException, match="violates PodSecurity"):
        kubernetes.create(bare)


def test_an_api_server_that_is_away_leaves_the_job_for_the_next_sweep(
    new: Any, environment: pytest.MonkeyPatch, cluster: Path, tmp_path: Path
) -> None:
    job = new()
    write_kubeconfig(tmp_path / "away", "https://127.0.0.1:9")
    (tmp_path / "certs").symlink_to(cluster / "certs")
    disconnect()
    environment.setenv("KUBECONFIG", str(tmp_path / "away"))

    assert launching.launch(job, now=tokens.now()).state == State.PENDING


def test_a_job_on_several_nodes_is_an_indexed_job(new: Any, kubernetes: Cluster) -> None:
    job = new(nodes=3, gpus=1)
    submit(job)
    pods = eventually(lambda: listed if len(listed := kubernetes.list("Pod")) == 3 else None)

    addresses = {one.value for pod in pods for one in pod.spec.containers[0].env if one.name == "MASTER_ADDR"}
    assert addresses == {f"stoker-{job.id}-1-0.trainers"}


def test_a_default_queue_that_does_not_exist_is_the_operators_mistake_and_ends_no_job(
    new: Any, queue: Any, environment: pytest.MonkeyPatch
) -> None:
    queue("gpu")
    job = new()
    environment.setenv("KUEUE_QUEUE", "gpus")
    forget()
    launching.launch(job, now=tokens.now())
    waiting = queries.job(job.id)
    queue("gpus")

    assert waiting.state == State.PENDING
    assert "KUEUE_QUEUE: gpus is not a LocalQueue of the namespace stoker-trainers; use one of gpu" in str(
        waiting.message
    )
    assert launching.launch(job, now=tokens.now()).state == State.QUEUED


def test_a_job_for_a_queue_that_does_not_exist_is_rejected_and_named_which_there_are(new: Any, queue: Any) -> None:
    queue("gpu")
    queue("cpu")
    job = new(queue="gpus")
    after = launching.launch(job, now=tokens.now())

    assert (after.state, after.reason) == (State.FAILED, Reason.LAUNCH_REJECTED)
    assert "the queue gpus is not a LocalQueue of the namespace stoker-trainers; use one of cpu, gpu" in str(
        after.message
    )


def test_a_job_whose_queue_is_deleted_while_it_waits_stays(new: Any, kubernetes: Cluster, queue: Any) -> None:
    queue("gpu")
    job = new(queue="gpu")
    submit(job)
    kubernetes.delete("LocalQueue", "gpu")

    assert submit(job).phase == Phase.HELD


def test_a_job_for_a_queue_waits_suspended(new: Any, kubernetes: Cluster, queue: Any) -> None:
    queue("gpu")
    job = new(queue="gpu", priority="high", gpu_type="NVIDIA-H100")
    status = submit(job)
    (made,) = kubernetes.list("Job")

    assert (status.phase, status.message) == (Phase.HELD, "waits for quota of its queue")
    assert made.metadata.labels["kueue.x-k8s.io/queue-name"] == "gpu"
    assert made.metadata.labels["kueue.x-k8s.io/priority-class"] == "high"
    assert made.spec.template.spec.nodeSelector.to_dict() == {"nvidia.com/gpu.product": "NVIDIA-H100"}
