"""Builds the objects of a launch in a cluster: one batch/v1 Job, and one Secret that the Job owns.

Nothing here calls the API server; the module ``kubernetes`` does. The ValidatingAdmissionPolicy in ``knative/base``
independently limits which objects create-job may create.
"""

import math
import re
from typing import Any

from functions.launchers import base
from functions.runtime.registry import Pod, Trainer
from functions.runtime.settings import settings
from functions.store.tables import Job

Object = dict[str, Any]

MANAGED_BY = {"app.kubernetes.io/managed-by": "stoker"}
#: as a selector of all installations' objects; ``is_ours`` filters by installation
STOKER = "app.kubernetes.io/managed-by=stoker"
INSTALLATION = "stoker.dev/installation"
#: Jobs of earlier releases lack the label, and belong to the installation with the default name
_UNLABELLED = "stoker"
JOB_ID = "stoker.dev/job-id"
LAUNCH = "stoker.dev/launch"
CONTAINER = "trainer"
#: a trainer's exit code after SIGTERM
EXIT_ON_SIGTERM = 143
#: the headless Service through which the pods of one Job find each other
SUBDOMAIN = "trainers"

#: lowest priority, so that pending trainers never block a function's cold start
PRIORITY = "stoker-trainers"

_USER = 10001
_TOKEN_FOLDER = "/var/run/stoker"  # noqa: S105 -- a path, not a token
#: the contract's variables that are secret; the token is mounted as a file
_SECRETS = ("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY")
_DATASETS, _DATASETS_CLAIM = "datasets", "stoker-datasets"
_TTL_SECONDS = 24 * 3600
#: added to the cluster's deadline, because sweep enforces the time limits and the deadline is only its fallback
_DEADLINE_SPARE_SECONDS = 3600
_NAME = re.compile(r"stoker-([a-z0-9]+)-(\d+)")


def name(job: Job) -> str:
    """Return the name of this launch's Job and Secret, so that submitting it twice creates one object."""
    return f"stoker-{job.id}-{job.launch}"


def job_id_of(object_name: str) -> str | None:
    """Return the id of the job that a Job or pod belongs to, from its name; None if the name is not one of Stoker's."""
    match = _NAME.match(object_name)
    return match[1] if match else None


def installation_of(item: Object) -> str:
    """Return the installation of Stoker that an object belongs to."""
    return str(item["metadata"].get("labels", {}).get(INSTALLATION, _UNLABELLED))


def is_ours(item: Object) -> bool:
    """Return whether an object belongs to this installation."""
    return installation_of(item) == settings().installation


def name_of(item: Object) -> str:
    """Return the name of an object."""
    return str(item["metadata"]["name"])


def uid_of(item: Object) -> str:
    """Return the uid of an object."""
    return str(item["metadata"]["uid"])


def job_name_of(pod: Object) -> str:
    """Return the name of the Job that a pod belongs to."""
    return str(pod["metadata"].get("labels", {}).get("batch.kubernetes.io/job-name", ""))


def job_object(job: Job, environment: dict[str, str]) -> Object:
    """Return the Job. Its pod waits for the Secret, which needs the Job's uid and so comes second."""
    return _job(job, _pod(job, environment))


def _job(job: Job, pod: Object) -> Object:
    nodes, labels, kueue = base.spec_of(job).get("nodes", 1), _labels(job), _kueue(job)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name(job),
            "labels": labels | kueue,
            "annotations": {"stoker.dev/trace-id": job.trace_id},
        },
        "spec": {
            # Kueue resumes it; without a queue it starts at once.
            "suspend": bool(kueue),
            "completions": nodes,
            "parallelism": nodes,
            "completionMode": "Indexed" if nodes > 1 else "NonIndexed",
            # Sweep alone decides, for all launchers, which failures are worth another launch.
            "backoffLimit": 0,
            "podFailurePolicy": {"rules": _disruptions("Ignore" if nodes == 1 else "FailJob")},
            # Never two pods on one job.
            "podReplacementPolicy": "Failed",
            "activeDeadlineSeconds": math.ceil(
                # Once before it runs, and once more after a disruption.
                2 * base.seconds(job, "longest_pending_seconds")
                + base.seconds(job, "longest_running_seconds")
                + _DEADLINE_SPARE_SECONDS
            ),
            "ttlSecondsAfterFinished": _TTL_SECONDS,
            "template": {"metadata": _pod_metadata(job, labels), "spec": pod},
        },
    }


def _pod_metadata(job: Job, labels: dict[str, str]) -> Object:
    extra = base.trainer_of(job).pod
    return {"labels": extra.labels | labels} | ({"annotations": extra.annotations} if extra.annotations else {})


def _disruptions(action: str) -> list[Object]:
    """Return the rules for pods that failed because they were evicted or deleted.

    A single pod is replaced without a new launch, and resumes from last.pt. Several nodes are launched again together.
    """
    on_signal = {"containerName": CONTAINER, "operator": "In", "values": [EXIT_ON_SIGTERM]}
    return [
        {"action": action, "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": action, "onExitCodes": on_signal},
    ]


def secret_object(job: Job, credentials: dict[str, str], job_uid: str) -> Object:
    """Return the Secret; the Job owns it, so both are deleted together."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name(job), "uid": job_uid}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name(job), "labels": _labels(job), "ownerReferences": [owner]},
        "type": "Opaque",
        "stringData": secret_data(credentials),
    }


def secret_data(credentials: dict[str, str]) -> dict[str, str]:
    """Return a Secret's content: the token, which is mounted as a file, and the secret variables."""
    return {"token": credentials["CALLBACK_TOKEN"]} | _secret_variables(credentials)


def _labels(job: Job) -> dict[str, str]:
    labels = {INSTALLATION: settings().installation, JOB_ID: job.id, LAUNCH: str(job.launch)}
    return MANAGED_BY | labels | {"stoker.dev/role": CONTAINER}


def queue(job: Job) -> str:
    """Return the LocalQueue of a job; empty if it has none."""
    return str(job.spec.get("queue") or settings().kueue_queue)


def _kueue(job: Job) -> dict[str, str]:
    priority = job.spec.get("priority") or settings().kueue_priority
    if not queue(job):
        return {}
    return {"kueue.x-k8s.io/queue-name": queue(job)} | ({"kueue.x-k8s.io/priority-class": priority} if priority else {})


def _secret_variables(environment: dict[str, str]) -> dict[str, str]:
    return {variable: environment[variable] for variable in _SECRETS if environment.get(variable)}


def _pod(job: Job, environment: dict[str, str]) -> Object:
    """Return the pod, which satisfies the restricted pod security standard."""
    trainer = base.trainer_of(job)
    volumes = [
        # Shared memory of the data loader's workers; its pages count against the memory limit.
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": trainer.resources.shm}},
        {"name": "scratch", "emptyDir": {"sizeLimit": trainer.resources.scratch}},
        {
            "name": "token",
            "secret": {"secretName": name(job), "defaultMode": 0o440, "items": [{"key": "token", "path": "token"}]},
        },
        *_dataset_cache(),
    ]
    return _extra_fields(trainer.pod) | {
        "restartPolicy": "Never",
        "serviceAccountName": "trainer",
        "automountServiceAccountToken": False,
        "priorityClassName": PRIORITY,
        "enableServiceLinks": False,
        "subdomain": SUBDOMAIN,
        "terminationGracePeriodSeconds": math.ceil(settings().stop_grace_seconds),
        "nodeSelector": trainer.node_selector | _gpu_node(job),
        "tolerations": [*_gpu_toleration(job, trainer), *trainer.tolerations],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(job, trainer, environment)],
        "volumes": volumes,
    }


def _extra_fields(extra: Pod) -> Object:
    """Return the fields of a pod that only some clusters need."""
    fields = {
        "runtimeClassName": extra.runtime_class,
        "schedulerName": extra.scheduler,
        "affinity": extra.affinity,
        "topologySpreadConstraints": list(extra.topology_spread),
        "resourceClaims": [
            {"name": claim.name, "resourceClaimTemplateName": claim.template} for claim in extra.resource_claims
        ],
    }
    return {name: value for name, value in fields.items() if value}


def _gpu_resource(trainer: Trainer) -> str:
    return trainer.gpu_resource or settings().gpu_resource


def _gpu_toleration(job: Job, trainer: Trainer) -> list[Object]:
    is_check = base.task_of(job) == base.CHECK
    return [] if is_check else [{"key": _gpu_resource(trainer), "operator": "Exists", "effect": "NoSchedule"}]


def _dataset_cache() -> list[Object]:
    """Return the volume of the datasets that trainers share; the admission policy allows these two and no others."""
    kind = settings().dataset_cache_volume
    sources = {
        # kubelet would create a missing folder as root's, in which trainers cannot write.
        "hostPath": {"path": base.DATASET_CACHE, "type": "Directory"},
        "persistentVolumeClaim": {"claimName": _DATASETS_CLAIM},
    }
    return [{"name": _DATASETS, kind: sources[kind]}] if kind else []


def _gpu_node(job: Job) -> dict[str, str]:
    gpu_type = base.spec_of(job).get("gpu_type")
    return {settings().gpu_type_label: gpu_type} if gpu_type else {}


def _container(job: Job, trainer: Trainer, environment: dict[str, str]) -> dict[str, Any]:
    resources, count = trainer.resources, base.spec_of(job).get("gpus")
    gpus = {_gpu_resource(trainer): str(count)} if count else {}
    limits = {**resources.extra, "memory": resources.memory, "ephemeral-storage": resources.ephemeral_storage, **gpus}
    claims = [{"name": claim.name} for claim in trainer.pod.resource_claims]
    return {
        "name": CONTAINER,
        "image": trainer.image,
        "imagePullPolicy": "IfNotPresent",
        "env": _variables(job, environment),
        # No CPU limit: throttling the data loader would idle the GPU.
        "resources": {
            "requests": {"cpu": resources.cpu} | limits,
            "limits": limits,
            **({"claims": claims} if claims else {}),
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        # The end of the log becomes the termination message of a container that failed.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 -- a container's own
            {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108 -- as above
            {"name": "token", "mountPath": _TOKEN_FOLDER, "readOnly": True},
            *({"name": volume["name"], "mountPath": base.DATASET_CACHE} for volume in _dataset_cache()),
        ],
    }


def _variables(job: Job, environment: dict[str, str]) -> list[dict[str, Any]]:
    secret = _secret_variables(environment)
    plain = {key: value for key, value in environment.items() if key not in {*secret, "CALLBACK_TOKEN"}}
    plain |= {"CALLBACK_TOKEN_FILE": f"{_TOKEN_FOLDER}/token", "HOME": "/tmp"}  # noqa: S108 -- as above
    nodes = base.spec_of(job).get("nodes", 1)
    if nodes > 1:
        # The pod of index 0 calls back, and is the others' rendezvous. Kubernetes sets JOB_COMPLETION_INDEX in each.
        plain |= {"NODES": str(nodes), "MASTER_ADDR": f"{name(job)}-0.{SUBDOMAIN}"}
    # The kubelet expands $(NAME) in a value; a doubled dollar sign is a literal one.
    values = [{"name": key, "value": value.replace("$", "$$")} for key, value in sorted(plain.items())]
    return values + [{"name": key, "valueFrom": {"secretKeyRef": {"name": name(job), "key": key}}} for key in secret]
