"""Two installations of Stoker in one namespace of trainers leave each other's Jobs alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from functions.api import tokens
from functions.domain.states import State
from functions.launchers import base, launching
from functions.launchers import kubernetes_objects as objects
from functions.launchers.base import LaunchRejectedError, Phase
from functions.launchers.kubernetes import Kubernetes
from functions.reconcile import sweeping
from functions.store import jobs, queries
from functions.store.tables import Job
from tests.cluster.conftest import Cluster, unlabelled
from tests.conftest import eventually, forget, seconds

pytestmark = [pytest.mark.usefixtures("sqlite", "s3"), pytest.mark.timeout(600)]


@pytest.fixture
def new(kubernetes: Cluster, a_job: Callable[..., str]) -> Callable[..., Job]:
    del kubernetes
    return lambda **fields: queries.job(a_job(now=tokens.now(), **fields))


@pytest.fixture
def as_installation(environment: pytest.MonkeyPatch) -> Callable[[str], Kubernetes]:
    """Go on as the functions of another installation do."""

    def become(name: str) -> Kubernetes:
        environment.setenv("INSTALLATION", name)
        forget()
        return Kubernetes()

    return become


def submit(job: Job) -> base.Status:
    return Kubernetes().submit(job, launching.environment(job, now=tokens.now()))


def names(kubernetes: Cluster) -> list[str]:
    return [job.metadata.name for job in kubernetes.list("Job")]


def test_an_installation_stops_no_job_of_another(new: Any, kubernetes: Cluster, as_installation: Any) -> None:
    theirs, ours = new(), new()
    as_installation("red")
    submit(theirs)
    as_installation("blue")
    submit(ours)
    for job in (theirs, ours):
        jobs.move(job.id, State.CANCELLED, now=tokens.now() - seconds(60))
    sweeping.run(now=tokens.now())

    eventually(lambda: names(kubernetes) == [objects.name(theirs)])


def test_an_installation_neither_sees_nor_stops_nor_takes_a_job_of_another(
    new: Any, kubernetes: Cluster, as_installation: Any
) -> None:
    """Not even where its database is a copy of the other's, with the same jobs."""
    job = new()
    as_installation("red")
    submit(job)
    blue = as_installation("blue")

    assert blue.list() == set()
    assert blue.inspect(job).phase == Phase.ABSENT
    blue.stop(job.id)
    assert names(kubernetes) == [objects.name(job)]
    with pytest.raises(LaunchRejectedError, match="of the installation red; INSTALLATION is blue here"):
        submit(job)


def test_jobs_of_a_release_without_the_label_belong_to_the_installation_with_the_default_name(
    new: Any, cluster: Path, kubernetes: Cluster, as_installation: Any
) -> None:
    job = new()
    with unlabelled(cluster, kubernetes, objects.job_object(job, launching.environment(job, now=tokens.now()))):
        assert as_installation("red").list() == set()
        default = as_installation("stoker")
        assert default.list() == {job.id}
        assert default.inspect(job).phase == Phase.HELD

    default.stop(job.id)
    eventually(lambda: names(kubernetes) == [])
