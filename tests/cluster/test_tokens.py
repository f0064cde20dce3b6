"""A trainer that starts late, hours or days after its job was submitted, finds a token in its Secret that is valid."""

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx
import jwt
import pytest

from functions.api import tokens
from functions.domain.states import State
from functions.launchers import kubernetes_objects as objects
from functions.launchers import launching
from functions.launchers.kubernetes import Kubernetes
from functions.reconcile import sweeping
from functions.store import queries
from functions.store.tables import Job
from tests.cluster.conftest import Cluster, condition, container
from tests.conftest import BUCKET, SECRET, claim, forget, seconds

pytestmark = [pytest.mark.usefixtures("sqlite", "s3"), pytest.mark.timeout(600)]
HOUR = seconds(3600)
NEW_SECRET = SECRET[::-1]


@pytest.fixture
def launched(kubernetes: Cluster, a_job: Callable[..., str]) -> Callable[..., Job]:
    """Make a job and submit it now."""
    del kubernetes

    def make(**fields: Any) -> Job:
        job = launching.launch(queries.job(a_job(now=tokens.now(), **fields)), now=tokens.now())
        return queries.job(job.id)

    return make


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Move the functions' clock."""
    return lambda now: monkeypatch.setattr(tokens, "now", lambda: now)


def token_of(job: Job, kubernetes: Cluster) -> str:
    return base64.b64decode(kubernetes.get("Secret", objects.name(job)).data.token).decode()


def presigned(function: Callable[[str], Any], job: Job, token: str) -> Any:
    """Ask for a link to the job's last checkpoint as a trainer does."""
    return function("presign").post(
        f"/v1/jobs/{job.id}/presign",
        json={"method": "GET", "key": f"checkpoints/job-{job.id}/last.pt"},
        headers={"Authorization": f"Bearer {token}"},
    )


def sweep_hourly(clock: Callable[[datetime], None], hours: int) -> datetime:
    """Sweep as hours go by; returns the time of the last one."""
    now = tokens.now()
    for _ in range(hours):
        now += HOUR
        clock(now)
        sweeping.run(now=now)
    return now


def test_a_pod_that_waited_a_day_for_its_node_can_call_back(
    launched: Any, kubernetes: Cluster, node: Any, clock: Any, function: Any
) -> None:
    job = launched(longest_running_seconds=3600)
    node(job.id, "Pending", **condition("PodScheduled", status="False", reason="Unschedulable", message="0/1 nodes"))
    sweep_hourly(clock, 23)

    assert queries.job(job.id).state == State.QUEUED
    assert presigned(function, job, token_of(job, kubernetes)).status_code == 200


def test_a_pod_that_replaces_another_after_days_fetches_the_last_checkpoint_by_links_alone(  # noqa: PLR0913, PLR0917 -- fixtures
    launched: Any, kubernetes: Cluster, node: Any, clock: Any, function: Any, s3: Any, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("TRAINER_STORAGE", "presigned")
    forget()
    job = launched()
    claim(job.id, now=tokens.now())
    s3.put_object(Bucket=BUCKET, Key=f"checkpoints/job-{job.id}/last.pt", Body=b"epoch 117")
    node(job.id, "Running", **container(running={}))
    sweep_hourly(clock, 50)
    terminated = container(terminated={"exitCode": 143, "reason": "Error"})
    node(job.id, "Failed", **terminated, **condition("DisruptionTarget", reason="EvictionByEvictionAPI"))

    answer = presigned(function, job, token_of(job, kubernetes))
    assert answer.status_code == 200, answer.text
    assert httpx.get(answer.json()["url"], timeout=60).content == b"epoch 117"


def test_a_token_is_renewed_at_half_of_its_life_and_not_before(launched: Any, kubernetes: Cluster, clock: Any) -> None:
    job = launched(longest_running_seconds=3600)
    first = token_of(job, kubernetes)
    sweep_hourly(clock, 2)
    assert token_of(job, kubernetes) == first

    sweep_hourly(clock, 1)
    assert token_of(job, kubernetes) != first


def test_a_token_whose_key_was_removed_is_renewed(
    launched: Any, kubernetes: Cluster, environment: pytest.MonkeyPatch
) -> None:
    job = launched()
    environment.setenv("JWT_SECRETS", f"new:{NEW_SECRET}")
    forget()
    sweeping.run(now=tokens.now())

    assert jwt.get_unverified_header(token_of(job, kubernetes))["kid"] == "new"


def test_a_secret_of_a_release_that_could_not_change_it_is_replaced(launched: Any, kubernetes: Cluster) -> None:
    job = launched()
    owners = kubernetes.get("Secret", objects.name(job)).metadata.ownerReferences
    kubernetes.patch("Secret", objects.name(job), {"immutable": True})
    first = token_of(job, kubernetes)
    later = tokens.now() + 20 * HOUR
    sweeping.run(now=later)

    assert token_of(job, kubernetes) != first
    assert kubernetes.get("Secret", objects.name(job)).metadata.ownerReferences == owners


def test_a_crash_between_renewing_and_writing_it_down_is_renewed_again(
    launched: Any, kubernetes: Cluster, clock: Any
) -> None:
    job = launched(longest_running_seconds=3600)
    later = tokens.now() + 4 * HOUR
    Kubernetes().renew(job, launching.credentials(job, now=later))
    sweeping.run(now=later + seconds(60))
    clock(later)

    expires_at = tokens.key_and_expiry(token_of(job, kubernetes))[1]
    assert expires_at == queries.job(job.id).token_expires_at


def test_a_crash_between_removing_and_replacing_a_secret_heals(launched: Any, kubernetes: Cluster, node: Any) -> None:
    job = launched()
    node(job.id, "Pending", **container(waiting={"reason": "ContainerCreating"}))
    kubernetes.delete("Secret", objects.name(job))
    sweeping.run(now=tokens.now())

    assert token_of(job, kubernetes)


def test_sweeps_that_renew_at_once_leave_a_valid_token(launched: Any, kubernetes: Cluster) -> None:
    job = launched(longest_running_seconds=3600)
    later = tokens.now() + 4 * HOUR
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: launching.renew_token(job, Kubernetes(), now=later), range(4)))

    assert tokens.key_and_expiry(token_of(job, kubernetes))[1] > later + 5 * HOUR


def test_nothing_is_renewed_for_a_launch_that_was_deleted(launched: Any, kubernetes: Cluster) -> None:
    job = launched()
    Kubernetes().stop(job.id)
    kubernetes.delete("Secret", objects.name(job))
    Kubernetes().renew(job, launching.credentials(job, now=tokens.now()))

    assert kubernetes.list("Secret") == []
