"""Which trainers' images the cluster cannot pull: tried by a short-lived pod for each, as a trainer's own pod would pull it."""

import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

from functions.launchers import kubernetes_status
from infra.preflight.cluster import Cluster, Object, Overlay, name_of

NAMESPACE = "stoker-trainers"
_POLL_SECONDS = 1.0
#: of the namespace's pod security standard
_UNPRIVILEGED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
_POD_SECURITY = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}


def lacks(cluster: Cluster, overlay: Overlay, *, within_seconds: float) -> Iterator[str]:
    """Yield each image that cannot be pulled, with the kubelet's or scheduler's words; the pods are deleted again."""
    if cluster.get("serviceaccount", "trainer", NAMESPACE) is None:
        yield f"images cannot be tried: the namespace {NAMESPACE} has no ServiceAccount trainer; apply the overlay first"
        return
    trial = secrets.token_hex(4)
    selector = f"stoker.dev/preflight={trial}"
    waiting: dict[str, str] = {}
    for number, (framework, trainer) in enumerate(_images(overlay)):
        pod = _pod(f"preflight-{trial}-{number}", trial, trainer)
        if refused := cluster.create(pod):
            yield f"the image {trainer['image']} of {framework} cannot be tried: {refused}"
        else:
            waiting[name_of(pod)] = f"the image {trainer['image']} of {framework}"
    try:
        yield from _results(cluster, selector, waiting, within_seconds)
    finally:
        cluster.delete("pods", selector, NAMESPACE)


def _images(overlay: Overlay) -> list[tuple[str, dict[str, Any]]]:
    """Return the registered trainers with images, each image once."""
    registry = json.loads(overlay.data("trainers").get("trainers.json", "{}"))
    once = {trainer["image"]: (framework, trainer) for framework, trainer in registry.items() if trainer.get("image")}
    return list(once.values())


def _pod(name: str, trial: str, trainer: dict[str, Any]) -> Object:
    """Return a pod that runs where the trainer's jobs may run, without their GPUs; its command may be missing."""
    small = {"cpu": "10m", "memory": "32Mi", "ephemeral-storage": "32Mi"}
    container = {
        "name": "image",
        "image": trainer["image"],
        "command": ["true"],
        "resources": {"requests": small, "limits": small},
        "securityContext": _UNPRIVILEGED,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"stoker.dev/preflight": trial}},
        "spec": {
            "containers": [container],
            "restartPolicy": "Never",
            "serviceAccountName": "trainer",
            "automountServiceAccountToken": False,
            "nodeSelector": trainer.get("node_selector", {}),
            "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
            "securityContext": _POD_SECURITY,
        },
    }


def _results(cluster: Cluster, selector: str, waiting: dict[str, str], within_seconds: float) -> Iterator[str]:
    end, words = time.monotonic() + within_seconds, dict[str, str]()
    while waiting and time.monotonic() < end:
        for pod in cluster.list("pods", selector, NAMESPACE):
            reason, message = _wait(pod)
            words[name_of(pod)] = message
            # The first failure may be a registry that is busy; the kubelet tries again and then backs off.
            if reason in {"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}:
                if what := waiting.pop(name_of(pod), None):
                    yield f"{what} cannot be pulled: {message}"
            elif not reason:
                waiting.pop(name_of(pod), None)
        time.sleep(_POLL_SECONDS)
    for name, what in waiting.items():
        yield f"{what} was not pulled within {within_seconds:.0f} s: {words.get(name) or 'its pod has not started'}"


def _wait(pod: Object) -> tuple[str, str]:
    """Return the reason and message of a pod's wait; an empty reason if its image has been pulled."""
    status = pod.get("status", {})
    for one in status.get("containerStatuses", []):
        waiting = one["state"].get("waiting", {})
        is_pulling = waiting.get("reason") in {"ContainerCreating", *kubernetes_status.IMAGE_TROUBLE}
        return (waiting["reason"], waiting.get("message", "")) if is_pulling else ("", "")
    unscheduled = [
        one for one in status.get("conditions", []) if one["type"] == "PodScheduled" and one["status"] == "False"
    ]
    return "Pending", unscheduled[0].get("message", "") if unscheduled else ""
