"""The local launcher, with real processes."""

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psutil
import pytest

from functions.domain.states import Reason, State
from functions.launchers import launching, local
from functions.launchers.base import Phase, Status
from functions.launchers.local import Local
from functions.reconcile import sweeping
from functions.runtime import settings
from functions.store import queries, upkeep
from functions.store.tables import Job
from tests.conftest import NOW, eventually, forget, seconds

pytestmark = pytest.mark.usefixtures("sqlite", "no_trainer_left")


@pytest.fixture
def planned(a_job: Any) -> Any:
    """Make a job whose stub trainer follows a plan and sends no callbacks."""
    ages = itertools.count()
    return lambda **plan: queries.job(a_job(now=NOW + seconds(next(ages)), hyperparameters={"calls": False, **plan}))


def submit(job: Job) -> Status:
    return Local().submit(job, launching.environment(job, now=NOW))


def ended(job: Job) -> Status:
    return eventually(lambda: status if (status := Local().inspect(job)).phase == Phase.ENDED else None)  # type: ignore[no-any-return]


def log(job: Job) -> str:
    return (local._run(job) / "trainer.log").read_text()


def process(job: Job) -> dict[str, Any]:
    return eventually(lambda: local._read(local._run(job) / "process.json"))  # type: ignore[no-any-return]


def started(job: Job) -> dict[str, Any]:
    """Submit a job and wait until its trainer follows its plan; return the pids."""
    submit(job)
    pids = process(job)
    eventually(lambda: "environment" in log(job))
    return pids


def test_a_trainer_gets_the_contracts_variables_and_no_others(planned: Any, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("A_SECRET_OF_THE_FUNCTIONS", "x")
    job = planned(exit=0)
    submit(job)
    ended(job)

    names = set(json.loads(log(job).splitlines()[0].removeprefix("environment ")))
    assert {"JOB_ID", "CALLBACK_TOKEN", "STORAGE_TYPE", "MINIO_ENDPOINT", "TASK"} <= names
    assert not names & {"A_SECRET_OF_THE_FUNCTIONS", "JWT_SECRETS", "DATABASE_URL"}


def test_submitting_twice_is_the_same_as_once(planned: Any) -> None:
    job = planned(seconds=60)
    assert [submit(job).phase for _ in range(3)] == [Phase.RUNNING] * 3

    assert Local().list() == {job.id}
    first = process(job)["trainer_pid"]
    submit(job)
    assert process(job)["trainer_pid"] == first


def test_jobs_over_the_limit_wait_for_a_slot(planned: Any) -> None:
    first, second = planned(seconds=60), planned(exit=0)
    submit(first)
    assert submit(second) == Status(Phase.WAITING, "waits for a free slot (LOCAL_JOB_LIMIT=1)")

    Local().stop(first.id)
    ended(first)

    assert submit(second).phase == Phase.RUNNING
    ended(second)


def test_a_slot_that_becomes_free_goes_to_the_oldest_job_that_waits(planned: Any) -> None:
    first, second, third = planned(seconds=60), planned(exit=0), planned(exit=0)
    submit(first)
    assert [submit(job).message for job in (second, third)] == [
        "waits for a free slot (LOCAL_JOB_LIMIT=1)",
        "waits for a free slot (LOCAL_JOB_LIMIT=1), behind 1 older job",
    ]
    Local().stop(first.id)
    ended(first)

    assert submit(third).phase == Phase.WAITING
    assert submit(second).phase == Phase.RUNNING
    ended(second)
    assert submit(third).phase == Phase.RUNNING
    ended(third)


def test_a_job_that_was_stopped_or_cannot_be_started_gives_up_its_place(
    planned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third, fourth = planned(seconds=60), planned(exit=0), planned(exit=0), planned(exit=0)
    for job in (first, second, third, fourth):
        submit(job)
    assert Local().list() == {first.id, second.id, third.id, fourth.id}
    for job in (first, second):
        Local().stop(job.id)
    ended(first)
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", Mock(side_effect=OSError("no process to be had")))
        with pytest.raises(OSError, match="no process to be had"):
            submit(third)

    assert submit(fourth).phase == Phase.RUNNING
    ended(fourth)


@pytest.mark.parametrize(
    ("code", "reason"),
    [(65, Reason.DATASET_INVALID), (78, Reason.CONFIG_INVALID), (74, Reason.STORAGE_ERROR), (1, Reason.TRAINER_ERROR)],
)
def test_an_exit_code_says_why(planned: Any, code: int, reason: Reason) -> None:
    job = planned(exit=code)
    submit(job)

    status = ended(job)

    assert (status.phase, status.reason) == (Phase.ENDED, reason)
    assert (status.message or "").startswith(
        f"the trainer exited with code {code} and did not send done; it last printed: "
    )


def test_a_trainer_whose_log_was_removed_has_ended_all_the_same(planned: Any) -> None:
    job = planned(exit=65)
    submit(job)
    ended(job)
    (local._run(job) / "trainer.log").unlink()

    assert Local().inspect(job) == Status(
        Phase.ENDED, "the trainer exited with code 65 and did not send done", Reason.DATASET_INVALID
    )


def test_a_killed_trainer_is_lost_and_its_log_is_kept(planned: Any) -> None:
    job = planned(seconds=60)
    pids = started(job)
    os.kill(pids["trainer_pid"], signal.SIGKILL)

    assert ended(job).reason == Reason.LOST
    assert "environment" in log(job)


def test_stop_gives_the_grace_then_kills_the_whole_group(planned: Any, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("STOP_GRACE_SECONDS", "0.5")
    settings.settings.cache_clear()
    job = planned(deaf=True, seconds=600, child=600)
    pids = started(job)
    family = eventually(lambda: psutil.Process(pids["trainer_pid"]).children())

    Local().stop(job.id)

    assert (ended(job).message or "").startswith("the trainer was killed by signal 9 (Killed); it last printed: ")
    eventually(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family))


def test_a_trainer_whose_supervisor_was_killed_is_still_followed_and_stopped(planned: Any) -> None:
    job = planned(seconds=600)
    pids = started(job)
    os.kill(pids["supervisor_pid"], signal.SIGKILL)
    eventually(lambda: not local._is_locked(local._run(job) / "alive.lock"))

    assert Local().inspect(job).phase == Phase.RUNNING
    assert Local().list() == {job.id}
    Local().stop(job.id)
    assert ended(job).reason == Reason.LOST


def test_a_launch_unknown_to_the_launcher_is_absent(planned: Any) -> None:
    assert Local().inspect(planned()).phase == Phase.ABSENT


def test_a_crash_before_the_start_leaves_a_job_that_can_be_submitted(planned: Any) -> None:
    job = planned(exit=0)
    local._run(job).mkdir(parents=True)
    assert Local().inspect(job).phase == Phase.WAITING

    assert submit(job).phase == Phase.RUNNING
    ended(job)


def test_scratch_is_gone_after_the_end(planned: Any) -> None:
    job = planned(exit=0)
    submit(job)
    ended(job)
    eventually(lambda: not (local._run(job) / "scratch").exists())


def registered(tmp_path: Path, trainer: dict[str, Any]) -> None:
    (tmp_path / "trainers.json").write_text(json.dumps({"stub": trainer}))
    forget()


def launched(job_id: str) -> Job:
    """Hand a job to the launcher as create-job does; return it as it is then."""
    launching.launch(queries.job(job_id), now=NOW)
    return queries.job(job_id)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"other": {"command": {"train": ["true"]}}}, "TRAINERS: it has no trainer stub any more, only other"),
    ({"stub": {"command": {"predict": ["true"]}}}, "TRAINERS: the trainer stub has no command for the task train"),
    (
        {"stub": {"command": {"train": ["/no/such/python", "train.py"]}}},
        "the trainer stub is not set up: /no/such/python is missing; run `./taskw setup`",
    ),
    (
        {"stub": {"command": {"train": ["no-such-command"]}}},
        "the trainer stub is not set up: no-such-command is not executable",
    ),
]


@pytest.mark.parametrize(
    "mistake", MISTAKES, ids=["missing trainer", "missing task", "missing file", "missing program"]
)
@pytest.mark.parametrize("state", [State.PENDING, State.QUEUED, State.RUNNING])
def test_a_configuration_error_fails_no_job_and_the_job_starts_after_the_correction(
    a_job: Any, tmp_path: Path, now: datetime, state: State, mistake: tuple[dict[str, Any], str]
) -> None:
    registry, message = mistake
    file = tmp_path / "trainers.json"
    good = file.read_text()
    job_id = a_job(state, now=now, hyperparameters={"calls": False})
    if state == State.RUNNING:
        upkeep.relaunch(queries.job(job_id), "it was evicted", now=now)
    file.write_text(json.dumps(registry))
    forget()
    launching.launch(queries.job(job_id), now=now)
    sweeping.run(now=now)
    job = queries.job(job_id)

    assert (job.state, job.message) == (state, f"waits until the operator corrects the configuration: {message}")
    file.write_text(good)
    forget()
    sweeping.run(now=now + timedelta(minutes=1))
    assert (queries.job(job_id).submitted_at, queries.job(job_id).launch) == (now + timedelta(minutes=1), job.launch)


def test_a_program_that_cannot_run_fails_no_job_and_the_job_starts_after_the_correction(
    a_job: Any, tmp_path: Path
) -> None:
    program = tmp_path / "trainer"
    program.write_text("no program, and no shebang")
    program.chmod(0o755)
    registered(tmp_path, {"command": {"train": [str(program)]}})
    job_id = a_job(attempt_limit=1)
    launched(job_id)
    for minute in (1, 2):
        eventually(lambda: Local().inspect(queries.job(job_id)).phase == Phase.WAITING)
        sweeping.run(now=NOW + timedelta(minutes=minute))
        job = queries.job(job_id)
        assert (job.state, job.launch) == (State.QUEUED, 1)
        assert job.message == f"its trainer could not be started: [Errno 8] Exec format error: '{program}'"

    eventually(lambda: Local().inspect(queries.job(job_id)).phase == Phase.WAITING)
    program.write_text("#!/bin/sh\nsleep 600\n")
    sweeping.run(now=NOW + timedelta(minutes=3))
    assert Local().inspect(queries.job(job_id)).phase == Phase.RUNNING


def test_an_environment_that_is_too_large_for_a_process_is_rejected_at_once(a_job: Any, tmp_path: Path) -> None:
    registered(tmp_path, {"command": {"train": ["true"]}, "env": {"LARGE": "x" * 140_000}})
    job = launched(a_job())

    assert (job.state, job.reason) == (State.FAILED, Reason.LAUNCH_REJECTED)
    assert "larger than this system allows" in str(job.message)


def test_a_temporary_failure_leaves_the_job_waiting_with_a_message(a_job: Any, environment: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    with environment.context() as patch:
        patch.setattr(subprocess, "Popen", full)
        job = launched(a_job(State.QUEUED, hyperparameters={"calls": False}))
    assert (job.state, job.message) == (
        State.QUEUED,
        "waits for the launcher, which failed: Resource temporarily unavailable",
    )
    assert Local().submit(job, launching.environment(job, now=NOW)).phase == Phase.RUNNING


def test_a_job_that_waits_while_the_registry_is_broken_is_launched_once_it_is_mended(
    a_job: Any, tmp_path: Path, now: datetime
) -> None:
    good = (tmp_path / "trainers.json").read_text()
    job_id = a_job(now=now, hyperparameters={"calls": False})
    (tmp_path / "trainers.json").write_text(good[:-3])
    forget()
    sweeping.run(now=now)
    assert queries.job(job_id).state == State.PENDING

    (tmp_path / "trainers.json").write_text(good)
    sweeping.run(now=now + timedelta(minutes=1))
    assert queries.job(job_id).state == State.QUEUED


def test_hyperparameters_reach_the_trainer_as_they_were_sent(planned: Any) -> None:
    job = planned(exit=0, words=["é" * 3_000, "日本", 'a"b$(HOME)\n\u0000'], rate=1e-30, count=1e15)
    text = launching.environment(job, now=NOW)["HYPERPARAMETERS"]

    assert json.loads(text) == job.spec["hyperparameters"]
    assert len(text.encode()) < 7_000
    assert submit(job).phase == Phase.RUNNING
    assert ended(job).message


def test_a_trainer_is_known_before_its_first_line_so_that_no_death_of_its_supervisor_starts_another(
    a_job: Any, tmp_path: Path
) -> None:
    (tmp_path / "orphan.sh").write_text("test -e ../process.json && echo known; kill -9 $PPID; sleep 600")
    (tmp_path / "trainers.json").write_text(json.dumps({"stub": {"command": {"train": ["sh", "./orphan.sh"]}}}))
    job = queries.job(a_job())
    submit(job)
    eventually(lambda: not local._is_locked(local._run(job) / "alive.lock"))

    assert log(job) == "known\n"
    assert submit(job).phase == Phase.RUNNING
    assert log(job) == "known\n"
    assert Local().list() == {job.id}


def test_ended_launches_are_not_inspected(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        job = planned(exit=0)
        submit(job)
        ended(job)
    alive = planned(seconds=600)
    submit(alive)
    looked_at: list[Path] = []
    look = local._is_alive_run

    def watched(run: Path) -> bool:
        looked_at.append(run)
        return look(run)

    monkeypatch.setattr(local, "_is_alive_run", watched)

    assert Local().list() == {alive.id}
    assert looked_at == [local._run(alive)]


def test_a_trainer_of_a_release_that_kept_no_list_is_found(planned: Any) -> None:
    job = planned(seconds=600)
    submit(job)
    shutil.rmtree(local._open())

    assert Local().list() == {job.id}


def test_a_crash_while_a_stop_is_written_down_leaves_a_job_that_can_be_stopped(
    planned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = planned(seconds=600)
    started(job)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Local().stop(job.id)
    Local().stop(job.id)

    assert ended(job).reason == Reason.LOST


def test_concurrent_stops_of_a_job_do_not_interfere(planned: Any) -> None:
    """Found by ``./taskw chaos``: a cancel that came twice, to two threads of one function."""
    job = planned(seconds=600)
    started(job)
    together, failed = threading.Barrier(8), list[Exception]()

    def stop() -> None:
        together.wait()
        try:
            Local().stop(job.id)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=stop) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    ended(job)


def test_trainers_share_unpacked_datasets_in_the_configured_folder(
    environment: pytest.MonkeyPatch, a_job: Callable[..., str], tmp_path: Path
) -> None:
    job = queries.job(a_job())
    assert not [name for name in launching.environment(job, now=NOW) if "CACHE" in name]
    environment.setenv("DATASET_CACHE_DIR", os.path.relpath(tmp_path))
    environment.setenv("DATASET_CACHE_BYTES", "1000")
    forget()

    shared = {name: value for name, value in launching.environment(job, now=NOW).items() if "CACHE" in name}

    assert shared == {"DATASET_CACHE_DIR": str(tmp_path.resolve()), "DATASET_CACHE_BYTES": "1000"}
