"""What a Job and its pods say, in our words: waiting and why, running, or ended and for what reason.

A Job alone says little (``BackoffLimitExceeded``); the pods say the rest, for as long as they are there.
Sources: batch/v1 and core/v1 API types; the kubelet's and the scheduler's reasons.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from lightkube.models.core_v1 import ContainerStatus, PodCondition
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Event, Pod

from functions.launcher import MESSAGE_LENGTH, Phase, Status, message_of_exit
from functions.states import Reason, reason_of_exit

#: DisruptionTarget's reasons
_DISRUPTIONS = {
    "PreemptionByScheduler": Reason.PREEMPTED,
    "EvictionByEvictionAPI": Reason.EVICTED,
    "TerminationByKubelet": Reason.EVICTED,
    "DeletionByTaintManager": Reason.NODE_LOST,
    "DeletionByDeviceTaintManager": Reason.NODE_LOST,
    "DeletionByPodGC": Reason.NODE_LOST,
}
_IMAGE_TROUBLE = {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"}
_FAILED, _COMPLETE = ("Failed", "FailureTarget"), ("Complete", "SuccessCriteriaMet")
_ENDS = (*_FAILED, *_COMPLETE)


def has_ended(job: Job) -> bool:
    """Say whether a Job is done with, one way or the other."""
    return _condition(job.status and job.status.conditions, *_ENDS) is not None


def is_suspended(job: Job) -> bool:
    """Say whether a Job waits for somebody to let it go."""
    return bool(job.spec and job.spec.suspend)


def of_event(event: Event) -> tuple[str, str] | None:
    """Return the uid of the Job that an event of reason ``FailedCreate`` is about, and why it gets no pod."""
    return (event.involvedObject.uid, event.message) if event.involvedObject.uid and event.message else None


def of_workload(workload: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the uid of the Job that a Workload of Kueue's stands for, and what it says of its turn."""
    uid = (workload["metadata"].get("labels") or {}).get("kueue.x-k8s.io/job-uid")
    conditions = (workload.get("status") or {}).get("conditions") or ()
    waits = [one for one in conditions if one["type"] in {"QuotaReserved", "Admitted"} and one["status"] == "False"]
    return (uid, waits[0]["message"]) if uid and waits and waits[0].get("message") else None


def of(job: Job, pods: Sequence[Pod], *, image_pull_seconds: float, at: datetime, podless: str | None = None) -> Status:
    """Return where a launch stands; ``pods`` are those of the Job, in any order; ``podless``: why there are none."""
    ended = _condition(job.status and job.status.conditions, *_FAILED)
    newest_first = sorted(pods, key=_created, reverse=True)
    if ended is not None:
        return _failed(ended, newest_first)
    if _condition(job.status and job.status.conditions, *_COMPLETE) is not None:
        return Status(Phase.ENDED, message_of_exit(0, ""), reason_of_exit(0))
    because = f": {podless}"[:MESSAGE_LENGTH] if podless else ""
    if is_suspended(job):
        return Status(Phase.HELD, f"waits for quota of its queue{because}")
    if not newest_first:
        return Status(Phase.HELD, f"waits for its pod{because}")
    return _of_pod(newest_first[0], image_pull_seconds=image_pull_seconds, at=at)


def _of_pod(pod: Pod, *, image_pull_seconds: float, at: datetime) -> Status:
    phase = pod.status.phase if pod.status else None
    lost = _lost(pod, at=at)
    if lost is not None:
        return lost
    trouble = _waiting(pod)
    if phase == "Running" or trouble is None:
        is_running = phase in {"Running", "Succeeded", "Failed"}
        return Status(Phase.RUNNING) if is_running else Status(Phase.HELD, "waits for its pod")
    why, message = trouble
    if why in _IMAGE_TROUBLE:
        is_over = at - _created(pod) > timedelta(seconds=image_pull_seconds)
        return Status(Phase.ENDED if is_over else Phase.WAITING, message, Reason.IMAGE_PULL)
    if why == "Unschedulable":
        return Status(Phase.HELD, message, Reason.UNSCHEDULABLE)
    # The Secret may be what its container waits for: it is made anew with the next submission.
    return Status(Phase.WAITING, message)


def _waiting(pod: Pod) -> tuple[str, str] | None:
    """Return why a pod does not run yet, as Kubernetes' word and in a sentence."""
    scheduled = _condition(pod.status and pod.status.conditions, "PodScheduled", status="False")
    if scheduled is not None:
        return scheduled.reason or "", f"waits for a node: {scheduled.message or scheduled.reason}"[:MESSAGE_LENGTH]
    for container in _containers(pod):
        waiting = container.state.waiting if container.state else None
        if waiting is not None:
            message = f"waits for its container: {waiting.reason}: {waiting.message or 'soon'}"
            return waiting.reason or "", message[:MESSAGE_LENGTH]
    return None


def _lost(pod: Pod, *, at: datetime) -> Status | None:
    """Say that a pod's node is gone: the pod should have ended by now, and nobody is left there to confirm it."""
    deleted_at = pod.metadata.deletionTimestamp if pod.metadata else None
    disruption = _condition(pod.status and pod.status.conditions, "DisruptionTarget", status="True")
    if deleted_at is None or disruption is None or at < deleted_at:
        return None
    reason = _DISRUPTIONS.get(disruption.reason or "", Reason.LOST)
    return (
        Status(Phase.ENDED, f"its node is away: {disruption.message}", reason) if reason == Reason.NODE_LOST else None
    )


def _failed(condition: Any, pods: Sequence[Pod]) -> Status:
    if condition.reason == "DeadlineExceeded":
        return Status(Phase.ENDED, "the cluster's own deadline for the Job is over", Reason.DEADLINE_RUNNING)
    disrupted = next((found for pod in pods if (found := _disrupted(pod)) is not None), None)
    if disrupted is not None:
        return disrupted
    if condition.reason == "PodFailurePolicy":
        # Its only rule that fails a Job is ours, on a disruption of one of several nodes; that pod may be gone by now.
        return Status(Phase.ENDED, (condition.message or "")[:MESSAGE_LENGTH], Reason.EVICTED)
    for pod in pods:
        for container in _containers(pod):
            terminated = container.state.terminated if container.state else None
            if terminated is not None and terminated.reason == "OOMKilled":
                return Status(Phase.ENDED, "the trainer used more memory than its limit", Reason.OOM_HOST)
            if terminated is not None:
                said = message_of_exit(terminated.exitCode, terminated.message or "")
                return Status(Phase.ENDED, said, reason_of_exit(terminated.exitCode))
    return Status(Phase.ENDED, f"its Job failed: {condition.reason}: {condition.message}"[:MESSAGE_LENGTH], Reason.LOST)


def _disrupted(pod: Pod) -> Status | None:
    disruption = _condition(pod.status and pod.status.conditions, "DisruptionTarget", status="True")
    if disruption is not None and disruption.reason in _DISRUPTIONS:
        return Status(Phase.ENDED, disruption.message, _DISRUPTIONS[disruption.reason])
    if pod.status and pod.status.reason == "Evicted":
        return Status(Phase.ENDED, (pod.status.message or "evicted")[:MESSAGE_LENGTH], Reason.EVICTED)
    return None


def _condition(conditions: Any, *types: str, status: str = "True") -> PodCondition | Any | None:
    return next((one for one in conditions or () if one.type in types and one.status == status), None)


def _containers(pod: Pod) -> Sequence[ContainerStatus]:
    return (pod.status.containerStatuses if pod.status else None) or []


def _created(pod: Pod) -> datetime:
    created = pod.metadata.creationTimestamp if pod.metadata else None
    if created is None:
        raise ValueError("a pod without creationTimestamp was never in a cluster")
    return created
