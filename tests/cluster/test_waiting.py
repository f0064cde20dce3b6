"""A job that waits again after a drain or a preemption: its message says for what, and its running clock stops."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from functions.api import tokens
from functions.domain.states import Reason, State
from functions.launchers import kubernetes_objects as objects
from functions.launchers import launching
from functions.reconcile import sweeping
from functions.store import queries
from functions.store.heartbeats import Heartbeat
from functions.store.tables import Job
from tests.cluster.conftest import Cluster, condition, container
from tests.conftest import call, claim, eventually, record_heartbeat, seconds

pytestmark = [pytest.mark.usefixtures("sqlite", "s3"), pytest.mark.timeout(600)]
UNSCHEDULABLE = condition("PodScheduled", status="False", reason="Unschedulable", message="0/1 nodes are available")
KILLED = container(terminated={"exitCode": 143, "reason": "Error"})
EVICTED = condition("DisruptionTarget", reason="EvictionByEvictionAPI")


@pytest.fixture
def start() -> datetime:
    return tokens.now()


@pytest.fixture
def running(a_job: Callable[..., str], node: Any, start: datetime) -> Callable[..., Job]:
    """Make a job whose trainer has claimed it at the start."""

    def make(**fields: Any) -> Job:
        job = queries.job(a_job(now=start, **fields))
        launching.submit(job, now=start)
        node(job.id, "Running", **container(running={}))
        return claim(job.id, now=start)

    return make


@pytest.fixture
def drained(node: Any, kubernetes: Cluster) -> Callable[[Job], None]:
    """Evict a job's pod, and find no node for the next one."""

    def drain(job: Job) -> None:
        first = node(job.id, "Failed", **KILLED, **EVICTED)
        eventually(lambda: [pod for pod in kubernetes.list("Pod") if pod.metadata.uid != first.metadata.uid])
        node(job.id, "Pending", **UNSCHEDULABLE)

    return drain


def sweep_each_minute(start: datetime, minutes: range) -> None:
    for minute in minutes:
        sweeping.run(now=start + seconds(60 * minute))


def events(job: Job, type_: str) -> list[str | None]:
    return [row.message for row in queries.events(job.id, kind=None, after=0, limit=100)[0] if row.type == type_]


def test_a_job_that_waits_for_a_node_after_a_drain_says_so_and_its_clock_stands_still(
    running: Any, drained: Any, node: Any, start: datetime
) -> None:
    job = running(longest_running_seconds=150)
    sweep_each_minute(start, range(2))
    drained(job)
    sweep_each_minute(start, range(2, 12))
    waits = queries.job(job.id)
    assert (waits.state, waits.liveness) == (State.RUNNING, "waiting")
    assert waits.message == "waits for a node: 0/1 nodes are available"
    assert events(job, "waiting") == [waits.message]

    node(job.id, "Running", **container(running={}))
    claim(job.id, now=start + seconds(700))
    sweep_each_minute(start, range(12, 13))
    live = queries.job(job.id)
    assert (live.state, live.liveness, live.message) == (State.RUNNING, "live", None)

    # It has run for 120 s before it waited, and for 40 s since.
    sweeping.run(now=start + seconds(740))
    assert queries.job(job.id).reason == Reason.DEADLINE_RUNNING


def test_a_heartbeat_ends_the_wait_of_a_trainer_that_sends_nothing_else(
    running: Any, drained: Any, start: datetime
) -> None:
    job = running()
    drained(job)
    sweeping.run(now=start + seconds(60))
    assert queries.job(job.id).liveness == "waiting"

    record_heartbeat(call(job.id), Heartbeat(epoch=1), now=start + seconds(90))
    after = queries.job(job.id)
    assert (after.liveness, after.message, after.waiting_since) == ("live", None, None)
    assert (after.ran_seconds, after.running_since) == (60, start + seconds(90))


def test_a_job_that_waited_for_hours_is_neither_silent_nor_stalled_when_its_pod_starts(
    running: Any, drained: Any, node: Any, start: datetime
) -> None:
    job = running(longest_stalled_seconds=240)
    drained(job)
    sweep_each_minute(start, range(1, 10))
    node(job.id, "Running", **container(running={}))
    sweep_each_minute(start, range(10, 12))

    after = queries.job(job.id)
    assert (after.state, after.liveness) == (State.RUNNING, "live")


def test_a_job_that_kueue_preempts_waits_for_its_queue(running: Any, kubernetes: Cluster, start: datetime) -> None:
    job = running()
    kubernetes.patch("Job", objects.name(job), {"spec": {"suspend": True}})
    sweeping.run(now=start + seconds(60))

    after = queries.job(job.id)
    assert (after.state, after.liveness, after.message) == (State.RUNNING, "waiting", "waits for quota of its queue")


def test_a_job_waits_again_for_as_long_as_it_may_be_pending(running: Any, drained: Any, start: datetime) -> None:
    job = running(longest_pending_seconds=200)
    sweep_each_minute(start, range(5))  # more than that after it was made
    drained(job)
    sweep_each_minute(start, range(5, 9))
    assert queries.job(job.id).state == State.RUNNING

    sweep_each_minute(start, range(9, 10))
    after = queries.job(job.id)
    assert (after.state, after.reason) == (State.FAILED, Reason.UNSCHEDULABLE)
    assert after.message == "no trainer called back within 200 s; it waits for a node: 0/1 nodes are available"


def test_the_clusters_own_deadline_is_no_end_of_a_job_whose_clock_stood_still(
    running: Any, kubernetes: Cluster, start: datetime
) -> None:
    job = running(attempt_limit=2)
    kubernetes.patch("Job", objects.name(job), {"spec": {"activeDeadlineSeconds": 1}})
    eventually(lambda: kubernetes.get("Job", objects.name(job)).status.failed)
    sweeping.run(now=start + seconds(60))

    after = queries.job(job.id)
    assert (after.state, after.launch) == (State.RUNNING, 2)
