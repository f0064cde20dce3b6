"""The Kubernetes launcher: one batch/v1 Job per launch, in a namespace for trainers only.

Every call can be repeated after a crash between any two of its steps: an object that already exists is reused.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple, TypeVar

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from functions.domain.errors import ConfigurationError
from functions.launchers import kubernetes_objects as objects
from functions.launchers import kubernetes_status
from functions.launchers.base import LauncherUnreachableError, LaunchRejectedError, Phase, Status, trainer_of
from functions.launchers.kubernetes_api import (
    CONFLICT,
    EVENTS,
    JOBS,
    NOT_FOUND,
    PODS,
    QUEUES,
    SECRETS,
    WORKLOADS,
    Api,
    Object,
    Resource,
    message_of,
    status_of,
)
from functions.runtime.settings import settings
from functions.store.tables import Job

Value = TypeVar("Value", str, datetime)

_FORBIDDEN = 403
#: statuses of the API server, or of a policy in it, that mean it will never accept the object
_REJECTED = {400, 422}


class _Snapshot(NamedTuple):
    """This installation's Jobs at one moment."""

    jobs: dict[str, Object]
    #: by the Job's name
    pods: dict[str, list[Object]]
    #: why a Job has no pod, by the Job's uid
    missing_pods: dict[str, str]
    #: when pulling an image first failed, by the pod's uid
    pulls_failing_since: dict[str, datetime]


class _QuotaError(Exception):
    """The namespace's quota does not allow another object now."""


class Kubernetes:
    """The ``Launcher`` of a cluster; all its state is in the cluster."""

    def __init__(self) -> None:
        self._snapshot: _Snapshot | None = None

    def submit(self, job: Job, environment: dict[str, str]) -> Status:
        """Create the Job, then the Secret that its pod waits for; either may exist already."""
        if not trainer_of(job).image:
            raise ConfigurationError(f"TRAINERS: the trainer {job.framework} has no image")
        with _outages():
            if job.launch > 1:
                _delete_jobs(f"{objects.JOB_ID}={job.id},{objects.LAUNCH}!={job.launch}")
            try:
                cluster_job = _create_job(job, environment)
                if _create(SECRETS, objects.secret_object(job, environment, objects.uid_of(cluster_job))) is None:
                    _renew_secret(job, environment)
            except _QuotaError as error:
                return Status(Phase.WAITING, f"waits for the namespace's quota: {error}")
        return kubernetes_status.of(cluster_job, [], now=datetime.now(UTC))

    def renew(self, job: Job, credentials: dict[str, str]) -> None:
        """Write the credentials into the launch's Secret; a pod that starts later reads them."""
        with _outages():
            _renew_secret(job, credentials)

    def stop(self, job_id: str) -> None:
        """Delete the job's Jobs; their pods get SIGTERM and the grace period."""
        with _outages():
            _delete_jobs(f"{objects.JOB_ID}={job_id}")

    def inspect(self, job: Job) -> Status:
        """Return the status of this launch from its Job and pods; after ``list``, from the snapshot it took."""
        name = objects.name(job)
        snapshot = self._snapshot
        # A Job that is not in the snapshot may have been created since.
        if snapshot is None or name not in snapshot.jobs:
            with _outages():
                cluster_job = _api().get(JOBS, name)
                if cluster_job is None or not objects.is_ours(cluster_job):
                    return Status(Phase.ABSENT)
                snapshot = _take_snapshot({name: cluster_job}, f"{objects.JOB_ID}={job.id}")
        return kubernetes_status.of(
            snapshot.jobs[name],
            snapshot.pods[name],
            missing_pod=snapshot.missing_pods.get(objects.uid_of(snapshot.jobs[name])),
            pulls=kubernetes_status.Pulls(settings().image_pull_seconds, snapshot.pulls_failing_since),
            now=datetime.now(UTC),
        )

    def list(self) -> set[str]:
        """Return the jobs with a Job that has not ended."""
        with _outages():
            jobs = {objects.name_of(job): job for job in _own(JOBS, objects.STOKER)}
            self._snapshot = _take_snapshot(jobs, objects.STOKER)
        alive = {name for name, job in jobs.items() if not kubernetes_status.has_ended(job)}
        return {job_id for job_id in map(objects.job_id_of, alive) if job_id is not None}


def _create_job(job: Job, environment: dict[str, str]) -> Object:
    _check_queue(job)
    cluster_job = _create(JOBS, objects.job_object(job, environment)) or _api().get(JOBS, objects.name(job))
    if cluster_job is None:
        raise OSError(f"the Job {objects.name(job)} was deleted while it was submitted")
    if not objects.is_ours(cluster_job):
        owner = objects.installation_of(cluster_job)
        raise LaunchRejectedError(
            f"the cluster has the Job {objects.name(job)} already, of the installation {owner};"
            f" INSTALLATION is {settings().installation} here"
        )
    return cluster_job


def _check_queue(job: Job) -> None:
    """Reject a job whose queue does not exist, because it would wait forever; a Job that exists already is left.

    Raises:
        LaunchRejectedError: the job names the queue.
        ConfigurationError: it is the installation's.
    """
    queue = objects.queue(job)
    queues = _list_if_allowed(QUEUES) if queue else None
    if queues is None:
        return
    names = sorted(map(objects.name_of, queues))
    if queue not in names and _api().get(JOBS, objects.name(job)) is None:
        known = f"use one of {', '.join(names)}" if names else "it has no queue: is Kueue installed?"
        where = f"the namespace {settings().trainer_namespace}"
        if "queue" not in job.spec:
            raise ConfigurationError(f"KUEUE_QUEUE: {queue} is not a LocalQueue of {where}; {known}")
        raise LaunchRejectedError(f"the queue {queue} is not a LocalQueue of {where}; {known}")


def _own(resource: Resource, labels: str) -> Iterator[Object]:
    return filter(objects.is_ours, _api().list(resource, labels=labels))


def _renew_secret(job: Job, credentials: dict[str, str]) -> None:
    """Merge credentials into a Secret. If it is missing, no pod runs, and sweep submits the job again if one waits."""
    name = objects.name(job)
    try:
        _api().patch(SECRETS, name, {"stringData": objects.secret_data(credentials)})
    except ApiException as error:
        if error.status == NOT_FOUND:
            return
        if not _is_immutable(error):
            raise
        # An earlier release made immutable Secrets: replace it.
        owner = _api().get(JOBS, name)
        _api().delete(SECRETS, name)
        if owner is not None:
            _api().create(SECRETS, objects.secret_object(job, credentials, objects.uid_of(owner)))


def _is_immutable(error: ApiException) -> bool:
    causes = (status_of(error).get("details") or {}).get("causes", [])
    return any(cause.get("reason") == "FieldValueForbidden" and cause.get("field") == "data" for cause in causes)


def _create(resource: Resource, body: Object) -> Object | None:
    """Create an object and return it; return None if the name is taken.

    The Status of a 403 response tells who has refused: RBAC does not name the object, a quota does, a policy adds a
    cause, and a webhook sends its own Status without details.

    Raises:
        LaunchRejectedError: the API server or a policy will never accept the object.
        _QuotaError: the namespace's quota is exhausted.
    """
    try:
        return _api().create(resource, body)
    except ApiException as error:
        if error.status == CONFLICT:
            return None
        status, message = status_of(error), message_of(error)
        details = status.get("details") or {}
        causes = {cause.get("reason") for cause in details.get("causes", [])}
        is_denied = error.status == _FORBIDDEN and (causes or (status and not details))
        if error.status in _REJECTED or (is_denied and "NamespaceTerminating" not in causes):
            raise LaunchRejectedError(f"the cluster refuses this job: {message}") from error
        if error.status == _FORBIDDEN and details.get("name") and not causes:
            raise _QuotaError(message) from error
        raise


def _delete_jobs(labels: str) -> None:
    for cluster_job in _own(JOBS, labels):
        _api().delete(JOBS, objects.name_of(cluster_job))


def _take_snapshot(jobs: dict[str, Object], labels: str) -> _Snapshot:
    pods: dict[str, list[Object]] = defaultdict(list)
    for pod in _own(PODS, labels):
        pods[objects.job_name_of(pod)].append(pod)
    waiting = [job for name, job in jobs.items() if not pods[name] and not kubernetes_status.has_ended(job)]
    missing_pods: dict[str, str] = {}
    if any(kubernetes_status.is_suspended(job) for job in waiting):
        missing_pods |= _explanations(WORKLOADS, kubernetes_status.workload_message)
    if not all(kubernetes_status.is_suspended(job) for job in waiting):
        missing_pods |= _explanations(EVENTS, kubernetes_status.event_message, fields="reason=FailedCreate")
    failing_since: dict[str, datetime] = {}
    if any(kubernetes_status.lacks_image(pod) for job_pods in pods.values() for pod in job_pods):
        failing_since = _explanations(EVENTS, kubernetes_status.pull_failure_time, fields="reason=Failed", keep=min)
    return _Snapshot(jobs, pods, missing_pods, failing_since)


def _explanations(
    resource: Resource,
    read: Callable[[Object], tuple[str, Value] | None],
    *,
    fields: str = "",
    keep: Callable[[Value, Value], Value] = lambda _, last: last,
) -> dict[str, Value]:
    """Return what objects such as events report, by the uid they are about; empty if listing them is not allowed."""
    explanations: dict[str, Value] = {}
    for uid, value in filter(None, map(read, _list_if_allowed(resource, fields=fields) or ())):
        explanations[uid] = keep(explanations[uid], value) if uid in explanations else value
    return explanations


def _list_if_allowed(resource: Resource, *, fields: str = "") -> list[Object] | None:
    """Return the objects of a kind, none if the cluster lacks the kind; None if listing them is not allowed."""
    try:
        return list(_api().list(resource, fields=fields))
    except ApiException as error:
        if error.status not in {_FORBIDDEN, NOT_FOUND}:
            raise
        return None if error.status == _FORBIDDEN else []


@contextmanager
def _outages() -> Iterator[None]:
    """Convert the API server's failures to OSErrors, so that sweep retries."""
    try:
        yield
    except ApiException as error:
        raise OSError(f"the Kubernetes API: {message_of(error)}") from error
    except HTTPError as error:
        raise LauncherUnreachableError(f"the Kubernetes API: {error}") from error


@cache
def _api() -> Api:
    return Api(settings().trainer_namespace)
