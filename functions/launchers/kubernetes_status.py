"""Derives a launch's status from its Job and pods: waiting, running or ended, with message and reason.

A Job alone reports little (``BackoffLimitExceeded``); its pods report the rest, as long as they exist.
Sources: batch/v1 and core/v1 API types; the kubelet's and the scheduler's reasons.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from functions.domain.states import Reason, reason_of_exit
from functions.launchers.base import MESSAGE_LENGTH, Phase, Status, message_of_exit

Object = dict[str, Any]

#: by the reason of the DisruptionTarget condition
_DISRUPTIONS = {
    "PreemptionByScheduler": Reason.PREEMPTED,
    "EvictionByEvictionAPI": Reason.EVICTED,
    "TerminationByKubelet": Reason.EVICTED,
    "DeletionByTaintManager": Reason.NODE_LOST,
    "DeletionByDeviceTaintManager": Reason.NODE_LOST,
    "DeletionByPodGC": Reason.NODE_LOST,
}
#: reasons of the kubelet for a container that waits for its image
IMAGE_TROUBLE = {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"}
_DELETED = "its pod was deleted, as by kubectl delete pod"
_FAILED, _COMPLETE = ("Failed", "FailureTarget"), ("Complete", "SuccessCriteriaMet")
_ENDS = (*_FAILED, *_COMPLETE)


class Pulls(NamedTuple):
    """How long pulling an image may fail, and since when it fails, by the pod's uid."""

    limit_seconds: float = 0
    failing_since: Mapping[str, datetime] = MappingProxyType({})


_NO_PULLS = Pulls()


def has_ended(job: Object) -> bool:
    """Return whether a Job has completed or failed."""
    return _condition(job, *_ENDS) is not None


def is_suspended(job: Object) -> bool:
    """Return whether a Job is suspended, as by Kueue until it is admitted."""
    return bool(job["spec"].get("suspend"))


def event_message(event: Object) -> tuple[str, str] | None:
    """Return the Job's uid and the message of an event with reason ``FailedCreate``: why the Job gets no pod."""
    uid, message = event["involvedObject"].get("uid"), event.get("message")
    return (uid, message) if uid and message else None


def workload_message(workload: Object) -> tuple[str, str] | None:
    """Return the Job's uid and the message of a Kueue Workload that is not admitted yet."""
    uid = workload["metadata"].get("labels", {}).get("kueue.x-k8s.io/job-uid")
    waits = _condition(workload, "QuotaReserved", "Admitted", status="False")
    return (uid, waits["message"]) if uid and waits and waits.get("message") else None


def pull_failure_time(event: Object) -> tuple[str, datetime] | None:
    """Return the pod's uid and the first time of an event with reason ``Failed``."""
    uid = event["involvedObject"].get("uid")
    first_at = event.get("firstTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
    return (uid, datetime.fromisoformat(first_at)) if uid else None


def lacks_image(pod: Object) -> bool:
    """Return whether a pod waits for an image that cannot be pulled."""
    waiting = _waiting(pod)
    return waiting is not None and waiting[0] in IMAGE_TROUBLE


def of(
    job: Object, pods: Sequence[Object], *, now: datetime, missing_pod: str | None = None, pulls: Pulls = _NO_PULLS
) -> Status:
    """Return the status of a launch from its Job and the Job's pods; ``missing_pod`` says why it has no pod."""
    status = _of(job, sorted(pods, key=_created_at, reverse=True), now=now, missing_pod=missing_pod, pulls=pulls)
    return status._replace(image=next(filter(None, map(_image, pods)), None))


def _of(job: Object, newest_first: Sequence[Object], *, now: datetime, missing_pod: str | None, pulls: Pulls) -> Status:
    failed = _condition(job, *_FAILED)
    if failed is not None:
        return _failed(failed, newest_first)
    if _condition(job, *_COMPLETE) is not None:
        return Status(Phase.ENDED, message_of_exit(0, ""), reason_of_exit(0))
    for unasked in filter(None, map(_exit_unasked, newest_first)):
        return unasked
    detail = f": {missing_pod}"[:MESSAGE_LENGTH] if missing_pod else ""
    if is_suspended(job):
        return Status(Phase.HELD, f"waits for quota of its queue{detail}")
    if not newest_first:
        return Status(Phase.HELD, f"waits for its pod{detail}")
    return _of_pod(newest_first[0], now=now, pulls=pulls)


def _of_pod(pod: Object, *, now: datetime, pulls: Pulls) -> Status:
    phase = pod.get("status", {}).get("phase")
    lost = _lost(pod, now=now)
    if lost is not None:
        return lost
    waiting = _waiting(pod)
    if phase == "Running" or waiting is None:
        is_running = phase in {"Running", "Succeeded", "Failed"}
        return Status(Phase.RUNNING) if is_running else Status(Phase.HELD, "waits for its pod")
    reason, message = waiting
    if reason in IMAGE_TROUBLE:
        since = pulls.failing_since.get(pod["metadata"]["uid"]) or _scheduled_at(pod)
        is_over = now - since > timedelta(seconds=pulls.limit_seconds)
        return Status(Phase.ENDED if is_over else Phase.WAITING, message, Reason.IMAGE_PULL)
    if reason == "Unschedulable":
        return Status(Phase.HELD, message, Reason.UNSCHEDULABLE)
    # The container may wait for its Secret, which the next submission creates again.
    return Status(Phase.WAITING, message)


def _waiting(pod: Object) -> tuple[str, str] | None:
    """Return why a pod does not run yet: the reason of Kubernetes, and a message."""
    unscheduled = _condition(pod, "PodScheduled", status="False")
    if unscheduled is not None:
        reason = unscheduled.get("reason", "")
        return reason, f"waits for a node: {unscheduled.get('message') or reason}"[:MESSAGE_LENGTH]
    for container in _container_statuses(pod):
        waiting = container.get("state", {}).get("waiting")
        if waiting is not None:
            reason = waiting.get("reason", "")
            return reason, f"waits for its container: {reason}: {waiting.get('message') or 'soon'}"[:MESSAGE_LENGTH]
    return None


def _lost(pod: Object, *, now: datetime) -> Status | None:
    """Return the status of a pod whose node is gone: its deletion is overdue, and no kubelet is left to confirm it."""
    deleted_at = pod["metadata"].get("deletionTimestamp")
    disruption = _condition(pod, "DisruptionTarget")
    if deleted_at is None or disruption is None or now < datetime.fromisoformat(deleted_at):
        return None
    if _DISRUPTIONS.get(disruption.get("reason", "")) != Reason.NODE_LOST:
        return None
    return Status(
        Phase.ENDED, f"its node is unreachable: {disruption.get('message')}"[:MESSAGE_LENGTH], Reason.NODE_LOST
    )


def _failed(condition: Object, pods: Sequence[Object]) -> Status:
    reason, message = condition.get("reason"), condition.get("message", "")
    if reason == "DeadlineExceeded":
        return Status(Phase.ENDED, "the cluster's own deadline for the Job is over", Reason.DEADLINE_RUNNING)
    for disrupted in filter(None, map(_disrupted, pods)):
        return disrupted
    if reason == "PodFailurePolicy":
        # The only rule that fails a Job is for a disruption of one of several nodes; that pod may be gone already.
        return Status(Phase.ENDED, message[:MESSAGE_LENGTH], Reason.EVICTED)
    for exit_ in filter(None, map(_exit, pods)):
        return exit_
    if not pods:
        # A failed Job keeps its pod unless a user deletes the pod.
        return Status(Phase.ENDED, _DELETED, Reason.EVICTED)
    return Status(Phase.ENDED, f"its Job failed: {reason}: {message}"[:MESSAGE_LENGTH], Reason.LOST)


def _exit(pod: Object) -> Status | None:
    """Return the status of a pod whose trainer has exited or was killed; None if it has not."""
    for terminated in (container.get("state", {}).get("terminated") for container in _container_statuses(pod)):
        if terminated is not None and terminated.get("reason") == "OOMKilled":
            return Status(Phase.ENDED, "the trainer used more memory than its limit", Reason.OOM_HOST)
        if terminated is not None:
            code = terminated["exitCode"]
            reason = reason_of_exit(code)
            if reason == Reason.LOST and "deletionTimestamp" in pod["metadata"]:  # by the signal that a deletion sends
                return Status(Phase.ENDED, _DELETED, Reason.EVICTED)
            return Status(Phase.ENDED, message_of_exit(code, terminated.get("message", "")), reason)
    return None


def _exit_unasked(pod: Object) -> Status | None:
    """Return the end of a trainer that exited as after SIGTERM although nothing has stopped it.

    The Job replaces its pod, as after a deletion, for as often as that happens: it must count as an end of the launch.
    """
    is_asked = "deletionTimestamp" in pod["metadata"] or _condition(pod, "DisruptionTarget") is not None
    if is_asked or pod.get("status", {}).get("phase") != "Failed":
        return None
    return _exit(pod)


def _disrupted(pod: Object) -> Status | None:
    disruption = _condition(pod, "DisruptionTarget")
    if disruption is not None and disruption.get("reason") in _DISRUPTIONS:
        return Status(Phase.ENDED, disruption.get("message"), _DISRUPTIONS[disruption["reason"]])
    status = pod.get("status", {})
    if status.get("reason") == "Evicted":
        return Status(Phase.ENDED, status.get("message", "evicted")[:MESSAGE_LENGTH], Reason.EVICTED)
    return None


def _condition(item: Object, *types: str, status: str = "True") -> Object | None:
    conditions = item.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] in types and each["status"] == status), None)


def _container_statuses(pod: Object) -> Sequence[Object]:
    statuses: Sequence[Object] = pod.get("status", {}).get("containerStatuses", [])
    return statuses


def _image(pod: Object) -> str | None:
    """Return the trainer's image by the digest that the node pulled; None if it did not come from a registry."""
    for container in _container_statuses(pod):
        image = container.get("imageID", "").rpartition("://")[2]
        if "@sha256:" in image:
            return str(image)
    return None


def _scheduled_at(pod: Object) -> datetime:
    """Return when a pod was scheduled to a node; no image is pulled before."""
    scheduled = _condition(pod, "PodScheduled")
    moment = scheduled and scheduled.get("lastTransitionTime")
    return datetime.fromisoformat(moment) if moment else _created_at(pod)


def _created_at(pod: Object) -> datetime:
    return datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
