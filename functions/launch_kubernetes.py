"""The Kubernetes launcher: one batch/v1 Job a launch, in a namespace for trainers only.

Every call can be made again after a crash between any two of its steps: objects are made, or found by their name.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

import httpx2
from lightkube import ApiError, Client, operators
from lightkube.core.client import LabelSelector
from lightkube.generic_resource import create_namespaced_resource
from lightkube.resources.batch_v1 import Job as ClusterJob
from lightkube.resources.core_v1 import Event, Pod
from lightkube.types import CascadeType

from functions import kubernetes_objects as objects
from functions import kubernetes_status
from functions.launcher import LaunchRejectedError, Phase, Status
from functions.settings import settings, trainers
from functions.tables import Job

_FORBIDDEN, _NOT_FOUND, _CONFLICT = 403, 404, 409
#: the API server, or a policy in it, will never take this object
_REJECTED = {400, 422}
_CHUNK = 500


#: Kueue's own account of a Job that waits in its queue
_Workload = create_namespaced_resource("kueue.x-k8s.io", "v1beta2", "Workload", "workloads")


class _Seen(NamedTuple):
    """All of our Jobs, their pods by the Job's name, and why some have none by the Job's uid, at one moment."""

    jobs: dict[str, ClusterJob]
    pods: dict[str, list[Pod]]
    podless: dict[str, str]


class Kubernetes:
    """The ``Launcher`` of a cluster; what it knows is in the cluster."""

    def __init__(self) -> None:
        self._seen: _Seen | None = None

    def submit(self, job: Job, environment: dict[str, str]) -> Status:
        """Make the Job, then the Secret that its pod waits for; either may be there already."""
        if not trainers()[job.framework].image:
            raise LaunchRejectedError(f"the trainer {job.framework!r} has no image in TRAINERS")
        with _outages():
            if job.launch > 1:
                _delete({objects.JOB_ID: job.id, objects.LAUNCH: operators.not_equal(str(job.launch))})
            try:
                made = _make_job(job, environment)
                _make_secret(job, environment, made)
            except ApiError as error:
                return _refused(error)
        return kubernetes_status.of(made, [], image_pull_seconds=0, at=datetime.now(UTC))

    def stop(self, job_id: str) -> None:
        """Delete the job's Jobs; their pods get SIGTERM and the grace."""
        with _outages():
            _delete({objects.JOB_ID: job_id})

    def inspect(self, job: Job) -> Status:
        """Say how this launch stands, by its Job and its pods; after ``list``, as they were then."""
        name = objects.name(job)
        seen = self._seen
        # What the listing does not have may have been made since.
        if seen is None or name not in seen.jobs:
            with _outages():
                found = _job(name)
                if found is None:
                    return Status(Phase.ABSENT)
                seen = _look({name: found}, {objects.JOB_ID: job.id})
        return kubernetes_status.of(
            seen.jobs[name],
            seen.pods[name],
            podless=seen.podless.get(objects.uid_of(seen.jobs[name])),
            image_pull_seconds=settings().image_pull_seconds,
            at=datetime.now(UTC),
        )

    def list(self) -> set[str]:
        """Return the jobs with a Job that has not ended."""
        with _outages():
            found = _client().list(ClusterJob, labels={**objects.MANAGED_BY}, chunk_size=_CHUNK)
            jobs = {objects.name_of(one): one for one in found}
            self._seen = _look(jobs, {**objects.MANAGED_BY})
        alive = {name for name, one in jobs.items() if not kubernetes_status.has_ended(one)}
        return {job_id for job_id in map(objects.job_id_of, alive) if job_id is not None}


def _make_job(job: Job, environment: dict[str, str]) -> ClusterJob:
    try:
        return _client().create(objects.job_object(job, environment))
    except ApiError as error:
        if error.status.code != _CONFLICT:
            raise
        return _client().get(ClusterJob, objects.name(job))


def _make_secret(job: Job, environment: dict[str, str], owner: ClusterJob) -> None:
    secret = objects.secret_object(job, environment, objects.uid_of(owner))
    try:
        _client().create(secret)
    except ApiError as error:
        if error.status.code != _CONFLICT:
            raise


def _refused(error: ApiError) -> Status:
    """Tell what can never be from what has to wait; the rest is the API server's trouble and raised on."""
    message = error.status.message or str(error)
    if error.status.code == _FORBIDDEN and "exceeded quota" in message:
        return Status(Phase.WAITING, f"waits for the namespace's quota: {message}")
    if error.status.code in _REJECTED or (error.status.code == _FORBIDDEN and "denied request" in message):
        raise LaunchRejectedError(f"the cluster refuses this job: {message}") from error
    raise error


def _delete(labels: LabelSelector) -> None:
    for found in _client().list(ClusterJob, labels=labels, chunk_size=_CHUNK):
        try:
            # A bare DELETE of a Job leaves its pods, and so the GPU, running.
            _client().delete(ClusterJob, objects.name_of(found), cascade=CascadeType.BACKGROUND)
        except ApiError as error:
            if error.status.code != _NOT_FOUND:
                raise


def _job(name: str) -> ClusterJob | None:
    try:
        return _client().get(ClusterJob, name)
    except ApiError as error:
        if error.status.code != _NOT_FOUND:
            raise
        return None


def _look(jobs: dict[str, ClusterJob], labels: LabelSelector) -> _Seen:
    pods = _pods(labels)
    open_ones = [one for name, one in jobs.items() if not pods[name] and not kubernetes_status.has_ended(one)]
    podless: dict[str, str] = {}
    if any(kubernetes_status.is_suspended(one) for one in open_ones):
        podless |= _said(_Workload, kubernetes_status.of_workload)
    if not all(kubernetes_status.is_suspended(one) for one in open_ones):
        podless |= _said(Event, kubernetes_status.of_event, fields={"reason": "FailedCreate"})
    return _Seen(jobs, pods, podless)


def _said(kind: Any, read: Callable[[Any], tuple[str, str] | None], **selectors: Any) -> dict[str, str]:
    """Return what objects of a kind say of Jobs, by the Job's uid; nothing where there are none, or we may not look."""
    try:
        found = [read(one) for one in _client().list(kind, chunk_size=_CHUNK, **selectors)]
    except ApiError as error:
        if error.status.code not in {_FORBIDDEN, _NOT_FOUND}:
            raise
        return {}
    return dict(one for one in found if one is not None)


def _pods(labels: LabelSelector) -> dict[str, list[Pod]]:
    pods: dict[str, list[Pod]] = defaultdict(list)
    for pod in _client().list(Pod, labels=labels, chunk_size=_CHUNK):
        pods[objects.job_name_of(pod)].append(pod)
    return pods


@contextmanager
def _outages() -> Iterator[None]:
    """Turn an API server that is away, or not in the mood, into the OSError that means: try again."""
    try:
        yield
    except httpx2.HTTPError as error:
        raise OSError(f"the Kubernetes API: {error}") from error


@cache
def _client() -> Client:
    return Client(namespace=settings().trainer_namespace)
