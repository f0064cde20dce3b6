"""sweep, with real trainers and a real S3 server: what it repairs, and what it does not touch."""

import itertools
import json
import logging
import os
import signal
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
import psutil
import pytest

from functions.domain.callbacks import TrainerEvent
from functions.domain.errors import WrongState
from functions.domain.states import FINAL, Reason, State
from functions.events import delivery
from functions.launchers import launching, local
from functions.launchers.base import LauncherUnreachableError, LaunchRejectedError, Phase, Status
from functions.launchers.local import Local
from functions.reconcile import retention, sweeping
from functions.store import callbacks, queries, upkeep
from functions.store import jobs as store
from functions.store.heartbeats import Heartbeat
from functions.store.tables import Job
from tests.conftest import (
    BUCKET,
    api_headers,
    call,
    callback_headers,
    claim,
    eventually,
    forget,
    free_ports,
    record_heartbeat,
    seconds,
    served_and_up,
)

pytestmark = pytest.mark.usefixtures("sqlite", "s3", "no_trainer_left")
WAITS = {"calls": False, "seconds": 600}


@pytest.fixture
def planned(a_job: Callable[..., str], now: datetime) -> Callable[..., Job]:
    """Make a job, PENDING, whose stub trainer follows a plan; by default it waits, sends no callback and has one launch."""

    def make(plan: dict[str, Any] | None = None, **fields: Any) -> Job:
        return read(a_job(State.PENDING, now=now, hyperparameters=plan or WAITS, **{"attempt_limit": 1} | fields))

    return make


def read(job_id: str) -> Job:
    return queries.job(job_id)


def sweep(now: datetime) -> None:
    sweeping.run(now=now)


def awake(now: datetime, minutes: int) -> datetime:
    """Sweep each minute, as the timer does, and return the time afterwards."""
    for minute in range(minutes):
        sweep(now + timedelta(minutes=minute))
    return now + timedelta(minutes=minutes)


def pids(job: Job) -> dict[str, Any]:
    return eventually(lambda: local._read(local._run(job) / "process.json"))  # type: ignore[no-any-return]


def gone(job: Job) -> None:
    """Wait until a launch has ended, including its supervisor."""
    eventually(lambda: Local().inspect(job).phase == Phase.ENDED)


def running(job: Job, *, now: datetime) -> Job:
    """Launch a job whose trainer then calls back once."""
    launching.launch(job, now=now)
    pids(job)
    claim(job.id, now=now)
    return read(job.id)


def types(job_id: str) -> list[str]:
    return [row.type for row in queries.events(job_id, kind=None, after=0, limit=100)[0]]


def test_a_job_that_was_never_launched_is_launched(planned: Any, now: datetime) -> None:
    job = planned()
    sweep(now)

    assert read(job.id).state == State.QUEUED
    assert psutil.pid_exists(pids(job)["trainer_pid"])


def test_a_trainer_killed_with_sigkill_fails_its_job_within_two_sweeps_and_leaves_its_log(
    planned: Any, now: datetime
) -> None:
    job = running(planned(), now=now)
    eventually(lambda: "environment" in (local._run(job) / "trainer.log").read_text())
    os.killpg(pids(job)["trainer_pid"], signal.SIGKILL)
    gone(job)
    sweep(now + seconds(1))
    sweep(now + seconds(2))

    after = read(job.id)
    assert (after.state, after.reason) == (State.FAILED, Reason.LOST)
    assert "signal 9" in (after.message or "")
    assert "environment" in (local._run(job) / "trainer.log").read_text()


@pytest.mark.parametrize(
    ("code", "reason"), [(65, "dataset_invalid"), (78, "config_invalid"), (74, "storage_error"), (1, "trainer_error")]
)
def test_an_exit_without_done_fails_the_job_with_the_codes_reason(
    planned: Any, now: datetime, code: int, reason: str
) -> None:
    job = planned({"calls": False, "exit": code})
    sweep(now)
    gone(job)
    sweep(now + seconds(1))

    assert (read(job.id).state, read(job.id).reason) == (State.FAILED, reason)


def test_by_default_a_lost_job_has_three_launches(a_job: Any, now: datetime) -> None:
    job_id, launches = a_job(State.RUNNING, now=now), []
    for _ in range(3):
        gone_for_good = read(job_id)
        launches.append(gone_for_good.launch)
        sweeping._handle_end(gone_for_good, Status(Phase.ENDED, "its node is gone", Reason.NODE_LOST), now=now)
    launches.append(read(job_id).launch)

    assert launches == [1, 2, 3, 3]
    assert (read(job_id).state, read(job_id).reason) == (State.FAILED, Reason.NODE_LOST)


@pytest.mark.parametrize(("code", "launches"), [(74, 2), (65, 1), (78, 1), (1, 1)])
def test_only_failures_that_another_launch_can_fix_are_relaunched(
    planned: Any, now: datetime, code: int, launches: int
) -> None:
    job = planned({"calls": False, "exit": code}, attempt_limit=2)
    sweep(now)
    gone(job)
    sweep(now + seconds(1))

    assert read(job.id).launch == launches
    assert (read(job.id).state == State.FAILED) == (launches == 1)


def test_a_trainer_killed_in_mid_training_is_started_again_and_succeeds(planned: Any) -> None:
    job = planned({"epochs": 3, "killed_in_attempts": [1]}, attempt_limit=2)
    port = free_ports(1)[0]
    with served_and_up("front", {"BACKEND_BASE_URL": f"http://127.0.0.1:{port}"}, port=port) as address:

        def ended() -> bool:
            assert httpx.post(f"{address}/v1/sweep", headers=api_headers(), timeout=30).status_code == 204
            return read(job.id).state in FINAL

        eventually(ended)
        late = httpx.post(
            f"{address}/v1/jobs/{job.id}/heartbeat",
            json={"epoch": 1, "attempt": 1},
            headers=callback_headers(job.id),
            timeout=30,
        )

    assert (read(job.id).state, read(job.id).attempt) == (State.SUCCEEDED, 2)
    assert types(job.id).count("retrying") == 1
    assert late.status_code == 409


def test_a_lost_trainer_is_started_again_as_often_as_allowed_and_the_old_attempt_is_fenced(
    planned: Any, now: datetime
) -> None:
    job = running(planned(attempt_limit=2), now=now)
    os.killpg(pids(job)["trainer_pid"], signal.SIGKILL)
    gone(job)
    sweep(now + seconds(1))
    again = read(job.id)
    assert (again.state, again.launch) == (State.RUNNING, 2)
    assert "retrying" in types(job.id)

    assert claim(job.id, now=now + seconds(2)).attempt == 2
    with pytest.raises(WrongState, match="replaced by attempt 2"):
        record_heartbeat(call(job.id, attempt=1), Heartbeat(epoch=5, attempt=1), now=now + seconds(3))

    os.killpg(pids(again)["trainer_pid"], signal.SIGKILL)
    gone(again)
    sweep(now + seconds(4))
    assert (read(job.id).state, read(job.id).reason) == (State.FAILED, Reason.LOST)


def test_a_job_that_is_started_again_may_wait_for_a_slot(planned: Any, now: datetime) -> None:
    first = running(planned(attempt_limit=2), now=now)
    second = planned()
    os.killpg(pids(first)["trainer_pid"], signal.SIGKILL)
    gone(first)
    launching.launch(second, now=now)  # it takes the only slot
    pids(second)
    end = awake(now + seconds(1), 5)
    assert (read(first.id).state, read(first.id).launch) == (State.RUNNING, 2)

    Local().stop(second.id)
    gone(second)
    sweep(end)
    assert pids(read(first.id))


def test_new_jobs_wait_behind_older_waiting_jobs(environment: pytest.MonkeyPatch, a_job: Any, now: datetime) -> None:
    environment.setenv("LOCAL_JOB_LIMIT", "2")
    forget()
    ages = itertools.count()

    def new() -> Job:
        """Make a job and launch it at once, as create-job does."""
        made_at = now + timedelta(milliseconds=next(ages))
        return launching.launch(read(a_job(State.PENDING, now=made_at, hyperparameters=WAITS)), now=now)

    jobs = [new() for _ in range(22)]

    def started() -> list[Job]:
        return [job for job in jobs if Local().inspect(job).phase != Phase.WAITING]

    assert started() == jobs[:2]
    for number in range(8):
        pids(jobs[number])
        store.move(jobs[number].id, State.CANCELLED, now=now)
        launching.stop(jobs[number].id)
        gone(jobs[number])
        jobs.append(new())
        assert started() == jobs[: number + 2]
        sweep(now + seconds(number))
        assert started() == jobs[: number + 3]


def test_a_job_that_waits_for_a_slot_again_says_so_and_its_clock_stands_still(planned: Any, now: datetime) -> None:
    first = running(planned(attempt_limit=2, longest_running_seconds=100), now=now)
    second = planned()
    os.killpg(pids(first)["trainer_pid"], signal.SIGKILL)
    gone(first)
    launching.launch(second, now=now)  # it takes the only slot
    pids(second)
    end = awake(now + seconds(1), 5)
    waits = read(first.id)
    assert (waits.state, waits.launch, waits.liveness) == (State.RUNNING, 2, "waiting")
    assert waits.message == "waits for a free slot (LOCAL_JOB_LIMIT=1)"

    Local().stop(second.id)
    gone(second)
    sweep(end)
    pids(read(first.id))
    sweep(end + seconds(60))
    assert (read(first.id).liveness, read(first.id).message) == ("live", None)


def test_silence_alone_never_fails_a_job_and_ends_with_the_next_heartbeat(planned: Any, now: datetime) -> None:
    job = running(planned(longest_stalled_seconds=24 * 3600), now=now)
    end = awake(now, 10)
    assert (read(job.id).state, read(job.id).liveness) == (State.RUNNING, "silent")
    assert types(job.id).count("silent") == 1

    record_heartbeat(call(job.id), Heartbeat(epoch=1), now=end)
    assert read(job.id).liveness == "live"


def test_the_clock_of_silence_restarts_after_an_outage_of_the_control_plane(planned: Any, now: datetime) -> None:
    job = running(planned(), now=now)
    sweep(now)
    sweep(now + timedelta(minutes=30))

    assert read(job.id).liveness == "live"


def test_a_job_without_progress_is_stalled_and_its_trainer_stopped(planned: Any, now: datetime) -> None:
    job = running(planned(longest_stalled_seconds=240), now=now)
    for minute in range(6):
        if read(job.id).state == State.RUNNING:
            record_heartbeat(call(job.id), Heartbeat(epoch=1), now=now + timedelta(minutes=minute, seconds=-1))
        sweep(now + timedelta(minutes=minute))

    assert (read(job.id).state, read(job.id).reason) == (State.FAILED, Reason.STALLED)
    eventually(lambda: not Local().list())


def test_an_outage_of_the_control_plane_does_not_count_as_a_stall(planned: Any, now: datetime) -> None:
    job = running(planned(longest_stalled_seconds=240), now=now)
    sweep(now)
    sweep(now + timedelta(hours=2))

    assert read(job.id).state == State.RUNNING


def test_a_job_that_runs_too_long_fails_with_its_deadline(planned: Any, now: datetime) -> None:
    job = running(planned(longest_running_seconds=100), now=now)
    sweep(now + seconds(101))

    assert (read(job.id).state, read(job.id).reason) == (State.FAILED, Reason.DEADLINE_RUNNING)


def test_a_job_that_waits_too_long_fails_with_its_deadline_and_names_what_it_waited_for(
    planned: Any, now: datetime
) -> None:
    sweep(now)
    running(planned(), now=now)
    waiting = planned(longest_pending_seconds=100)
    sweep(now + seconds(60))
    sweep(now + seconds(120))

    after = read(waiting.id)
    assert (after.state, after.reason) == (State.FAILED, Reason.DEADLINE_PENDING)
    assert "waits for a free slot (LOCAL_JOB_LIMIT=1)" in (after.message or "")


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_the_time_in_which_the_control_plane_was_down_does_not_count_as_waiting(
    a_job: Any, now: datetime, state: State
) -> None:
    """A trainer that has started meanwhile could not say so, and a job that waited could not be submitted."""
    sweep(now)
    job_id = a_job(state, now=now, longest_pending_seconds=100)
    if state == State.RUNNING:
        upkeep.note_wait(read(job_id), "waits for its node", now=now)
    back_at = now + seconds(3600)
    sweep(back_at)
    assert read(job_id).state == state

    sweep(back_at + seconds(60))
    sweep(back_at + seconds(101))
    assert read(job_id).reason in {Reason.DEADLINE_PENDING, Reason.LOST}


def test_a_running_job_that_is_unknown_to_its_launcher_is_lost_after_a_while(a_job: Any, now: datetime) -> None:
    job_id = a_job(State.RUNNING, now=now, attempt_limit=1)
    sweep(now + seconds(30))
    assert read(job_id).state == State.RUNNING

    sweep(now + seconds(100))
    assert (read(job_id).state, read(job_id).reason) == (State.FAILED, Reason.LOST)


def test_the_trainer_of_an_ended_job_is_stopped_unless_it_has_just_called_done(
    planned: Any, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    job = running(planned(), now=now)
    callbacks.finish(call(job.id), State.SUCCEEDED, now=now, metrics=None, artifacts=None)
    sweep(now + seconds(10))
    assert Local().list() == {job.id}

    with caplog.at_level(logging.INFO):
        sweep(now + seconds(31))
    eventually(lambda: not Local().list())
    assert read(job.id).state == State.SUCCEEDED
    assert [record.getMessage() for record in caplog.records if "stopping" in record.getMessage()] == []


def test_a_trainer_of_a_job_that_does_not_exist_is_stopped(planned: Any, now: datetime) -> None:
    known = running(planned(), now=now)
    environment = launching.environment(known, now=now)
    Local().stop(known.id)
    eventually(lambda: not Local().list())
    Local().submit(Job(**known.model_dump() | {"id": "stranger"}), environment)
    assert Local().list() == {"stranger"}

    sweep(now)
    eventually(lambda: not Local().list())


def test_two_sweeps_at_once_do_no_work_twice(planned: Any) -> None:
    planned()
    with served_and_up("sweep") as address:
        together = threading.Barrier(4)

        def one() -> None:
            together.wait()
            statuses.append(httpx.post(f"{address}/v1/sweep", headers=api_headers(), timeout=30).status_code)

        statuses: list[int] = []
        threads = [threading.Thread(target=one) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert statuses == [204] * 4
    assert len(Local().list()) == 1


def test_an_unreachable_sink_stops_no_other_step(
    environment: pytest.MonkeyPatch, planned: Any, a_job: Any, now: datetime
) -> None:
    environment.setenv("K_SINK", "http://127.0.0.1:9/")
    a_job(State.SUCCEEDED, now=now)
    job = planned()
    sweep(now)

    assert read(job.id).state == State.QUEUED


def test_an_unreachable_storage_stops_no_other_step(
    environment: pytest.MonkeyPatch, planned: Any, now: datetime
) -> None:
    environment.setenv("MINIO_ENDPOINT", "http://127.0.0.1:9")
    job = planned()
    sweep(now)

    assert read(job.id).state == State.QUEUED


def test_an_interrupted_event_alone_does_not_end_the_attempt(planned: Any, now: datetime) -> None:
    """``interrupted`` alone changes no state: sweep acts only when the launcher reports the end."""
    job = running(planned(), now=now)
    callbacks.record_event(call(job.id), TrainerEvent("interrupted", None, None), now=now)
    sweep(now + seconds(1))

    assert read(job.id).state == State.RUNNING


def after_it_read(monkeypatch: pytest.MonkeyPatch, event: Callable[[], object]) -> None:
    """Let something happen while sweep works: after it has read the jobs, before it decides about the first."""
    inspect = Local.inspect

    def meanwhile(self: Local, job: Job) -> Status:
        monkeypatch.setattr(Local, "inspect", inspect)
        event()
        return inspect(self, job)

    monkeypatch.setattr(Local, "inspect", meanwhile)


def test_a_job_that_starts_at_its_deadline_keeps_running(
    a_job: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = a_job(State.QUEUED, now=now, longest_pending_seconds=100)
    after_it_read(monkeypatch, lambda: claim(job_id, now=now + seconds(101)))
    sweep(now + seconds(102))

    assert (read(job_id).state, read(job_id).message) == (State.RUNNING, None)


def test_a_job_that_makes_progress_while_it_is_judged_stalled_keeps_running(
    planned: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = running(planned(longest_stalled_seconds=60), now=now)
    sweep(now + seconds(1))
    after_it_read(monkeypatch, lambda: record_heartbeat(call(job.id), Heartbeat(epoch=1), now=now + seconds(99)))
    sweep(now + seconds(100))
    assert read(job.id).state == State.RUNNING

    after_it_read(monkeypatch, lambda: record_heartbeat(call(job.id), Heartbeat(epoch=1), now=now + seconds(199)))
    sweep(now + seconds(200))
    assert (read(job.id).state, read(job.id).reason) == (State.FAILED, Reason.STALLED)


def test_a_job_that_ends_at_its_deadline_keeps_its_state(
    planned: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = running(planned(longest_running_seconds=100), now=now)

    def done() -> None:
        callbacks.finish(call(job.id), State.SUCCEEDED, now=now + seconds(101), metrics=None, artifacts=None)

    after_it_read(monkeypatch, done)
    sweep(now + seconds(102))

    assert read(job.id).state == State.SUCCEEDED
    assert Local().list() == {job.id}  # it has time to leave


@pytest.mark.parametrize("attempt_limit", [1, 3])
def test_a_trainer_that_calls_back_while_it_is_judged_lost_is_neither_failed_nor_replaced(
    a_job: Any, now: datetime, monkeypatch: pytest.MonkeyPatch, attempt_limit: int
) -> None:
    job_id = a_job(State.RUNNING, now=now, attempt_limit=attempt_limit)
    sweep(now)
    after_it_read(monkeypatch, lambda: record_heartbeat(call(job_id), Heartbeat(epoch=1), now=now + seconds(99)))
    sweep(now + seconds(100))

    assert (read(job_id).state, read(job_id).launch) == (State.RUNNING, 1)


def test_a_job_that_is_cancelled_before_sweep_submits_it_starts_no_trainer(
    planned: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = planned()
    after_it_read(monkeypatch, lambda: store.move(job.id, State.CANCELLED, now=now))
    sweep(now)

    assert (read(job.id).state, read(job.id).submitted_at) == (State.CANCELLED, None)
    assert not local._run(job).exists()


def test_a_job_that_is_cancelled_while_it_is_submitted_leaves_no_trainer(
    planned: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, submit = planned(), Local.submit

    def meanwhile(self: Local, job: Job, environment: dict[str, str]) -> Status:
        status = submit(self, job, environment)
        store.move(job.id, State.CANCELLED, now=now)
        return status

    monkeypatch.setattr(Local, "submit", meanwhile)
    sweep(now)

    assert (read(job.id).state, read(job.id).submitted_at) == (State.CANCELLED, None)
    eventually(lambda: not Local().list())


def test_a_job_that_started_is_not_failed_because_it_could_not_be_submitted_once_more(
    planned: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = planned()

    def refuse(*_: Any) -> Status:
        claim(job.id, now=now)
        raise LaunchRejectedError("the operator has removed its trainer")

    monkeypatch.setattr(Local, "submit", refuse)
    sweep(now)

    assert read(job.id).state == State.RUNNING


def test_a_launch_that_was_replaced_is_not_submitted_again(
    planned: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = planned(attempt_limit=2)
    after_it_read(monkeypatch, lambda: upkeep.relaunch(old, "as another sweep found", now=now))
    sweep(now)

    assert (read(old.id).launch, read(old.id).submitted_at) == (2, None)
    assert not local._run(old).exists()


@pytest.mark.parametrize(("hangs", "calls"), [("list", 1), ("inspect", 3)])
def test_a_launcher_that_hangs_costs_a_sweep_few_timeouts_and_stops_nothing_else(
    a_job: Any, now: datetime, monkeypatch: pytest.MonkeyPatch, hangs: str, calls: int
) -> None:
    for _ in range(20):
        a_job(State.RUNNING, now=now)
    steps: list[str] = []

    def step(name: str, error: type[Exception] | None = None) -> Callable[..., None]:
        def run(*_: Any, **__: Any) -> None:
            steps.append(name)
            if error is not None:
                raise error

        return run

    with monkeypatch.context() as patch:
        patch.setattr(Local, "inspect", step("inspect", LauncherUnreachableError))
        patch.setattr(Local, hangs, step(hangs, LauncherUnreachableError))
        patch.setattr(sweeping, "_create_missing_jobs", step("uploads"))
        patch.setattr(delivery, "deliver", step("outbox"))
        patch.setattr(retention, "run", step("retention"))
        sweep(now)

    assert steps == [hangs] * calls + ["uploads", "outbox", "retention"]


def stored(s3: Any, job_id: str, body: dict[str, Any] | bytes) -> None:
    """Store the report of a trainer's end, as the trainer does before it calls ``done``."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    s3.put_object(Bucket=BUCKET, Key=f"results/job-{job_id}/done.json", Body=content)


SUCCEEDED = {"status": "SUCCEEDED", "metrics": {"score": 0.5}, "artifacts": ["checkpoints/best.pt"], "attempt": 1}


@pytest.mark.parametrize("end", ["exit", "kill", "lost", "stalled"])
def test_a_trainer_whose_done_was_not_delivered_succeeds_by_its_stored_report(
    planned: Any, a_job: Any, s3: Any, now: datetime, end: str
) -> None:
    clocks = {"longest_stalled_seconds": 90 if end == "stalled" else 3600}
    if end == "lost":
        job = read(a_job(State.RUNNING, now=now, **clocks))
    else:
        job = running(planned({"calls": False, "seconds": 600, "exit": 1}, **clocks), now=now)
        if end != "stalled":
            os.killpg(pids(job)["trainer_pid"], signal.SIGKILL if end == "kill" else signal.SIGTERM)
            gone(job)
    stored(s3, job.id, SUCCEEDED)
    sweep(now)
    sweep(now + seconds(100))

    after = read(job.id)
    assert (after.state, after.launch, after.metrics, after.artifacts) == (
        State.SUCCEEDED,
        1,
        {"score": 0.5},
        ["checkpoints/best.pt"],
    )
    assert types(job.id)[-1] == "SUCCEEDED"
    eventually(lambda: not Local().list())


def test_an_undelivered_failure_is_read_from_the_stored_report(a_job: Any, s3: Any, now: datetime) -> None:
    job_id = a_job(State.RUNNING, now=now)
    error = {"reason": "dataset_invalid", "message": "no images"}
    stored(s3, job_id, {"status": "FAILED", "error": error, "attempt": 1})
    sweep(now + seconds(100))
    sweep(now + seconds(200))

    after = read(job_id)
    assert (after.state, after.reason, after.message) == (State.FAILED, Reason.DATASET_INVALID, "no images")


@pytest.mark.parametrize(
    "body",
    [
        SUCCEEDED | {"attempt": 2},
        SUCCEEDED | {"attempt": 0},
        {"status": "SUCCEEDED"},
        SUCCEEDED | {"status": "WON"},
        SUCCEEDED | {"unknown": 1},
        SUCCEEDED | {"artifacts": ["x" * 1_001]},
        SUCCEEDED | {"metrics": {f"m{number}": 0.5 for number in range(501)}},
        json.dumps(SUCCEEDED).encode() + b" " * 64 * 1024,
        b'{"status": "SUCC',
        b"\xff\xfe",
        b"[" * 60_000,
        b"",
    ],
    ids=range(12),
)
def test_a_stored_report_that_is_not_of_this_attempt_or_not_valid_decides_nothing(
    a_job: Any, s3: Any, now: datetime, body: dict[str, Any] | bytes
) -> None:
    job_id = a_job(State.RUNNING, now=now, attempt_limit=1)
    stored(s3, job_id, body)
    sweep(now)
    sweep(now + seconds(100))

    assert (read(job_id).state, read(job_id).reason) == (State.FAILED, Reason.LOST)


def test_a_missing_trainer_is_neither_failed_nor_replaced_while_the_storage_is_unreachable(
    environment: pytest.MonkeyPatch, a_job: Any, s3: Any, s3_server: str, now: datetime
) -> None:
    job_id = a_job(State.RUNNING, now=now)
    stored(s3, job_id, SUCCEEDED)
    sweep(now)
    environment.setenv("MINIO_ENDPOINT", "http://127.0.0.1:9")
    forget()
    sweep(now + seconds(100))
    assert (read(job_id).state, read(job_id).launch) == (State.RUNNING, 1)

    environment.setenv("MINIO_ENDPOINT", s3_server)
    forget()
    sweep(now + seconds(160))
    assert read(job_id).state == State.SUCCEEDED
