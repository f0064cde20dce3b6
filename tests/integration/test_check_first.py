"""A training whose first launch only checks the dataset: with real trainers, a real S3 server, and crashes in between."""

import itertools
import json
import os
import signal
import sys
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from functions.api import tokens
from functions.domain.callbacks import TrainerEvent
from functions.domain.errors import WrongState
from functions.domain.spec import Spec
from functions.domain.states import FINAL, Reason, State
from functions.launchers import launching, local
from functions.launchers.base import Phase
from functions.launchers.local import Local
from functions.reconcile import sweeping
from functions.runtime.registry import trainers
from functions.store import callbacks, jobs, queries, reports
from functions.store.heartbeats import Heartbeat
from functions.store.reports import Report
from functions.store.session import read as transaction
from functions.store.tables import Job, Outbox
from infra.local import digits
from tests.conftest import BUCKET, api_headers, call, eventually, forget, record_heartbeat, seconds, served_and_up
from tests.fixtures.environment import ROOT

pytestmark = pytest.mark.usefixtures("sqlite", "dataset", "no_trainer_left")
STUB = [sys.executable, str(ROOT / "tests/integration/stub_trainer.py")]
TIMM = ROOT / "trainer-images/trainer-timm"
#: a trainer that sends no callback, and does not end
SILENT = {"calls": False, "seconds": 600}
PASSED = {"status": "SUCCEEDED", "metrics": {"images/train": 8}}


@pytest.fixture(autouse=True)
def _registry(tmp_path: Path) -> None:
    """Register a trainer that has the task check, one that has not, and a real one."""
    tasks = {"train": STUB, "predict": STUB, "check": STUB}
    declared = {"tasks": ["train", "predict", "check"]}
    registry = {
        "stub": {"command": tasks, "models": ["stub*"], "declaration": declared},
        "plain": {"command": {"train": STUB}, "models": ["plain*"]},
        "timm": {
            "command": {
                task: [str(TIMM / ".venv/bin/python"), str(TIMM / f"{task}.py")] for task in ("train", "check")
            },
            "declaration": str(TIMM / "trainer.json"),
        },
    }
    (tmp_path / "trainers.json").write_text(json.dumps(registry))
    forget()


@pytest.fixture
def checked(now: datetime) -> Callable[..., Job]:
    """Make a job, PENDING, whose first launch checks its dataset."""

    def make(plan: dict[str, Any] | None = None, **fields: Any) -> Job:
        spec = Spec(framework="stub", model_name="stub-1", dataset_id="digits", hyperparameters=plan or {}, **fields)
        job, _ = jobs.create(spec, identity=None, trace_id="0" * 32, now=now, checking=True)
        return read(job.id)

    return make


@pytest.fixture
def post(function: Callable[[str], Any]) -> Callable[..., Any]:
    client = function("create_job")
    quiet = {"dataset_id": "digits", "hyperparameters": {"check": SILENT, **SILENT}}
    return lambda path="", **body: client.post(
        f"/v1/jobs{path}", json=body if path else quiet | {"model_name": "stub-1"} | body, headers=api_headers()
    )


@pytest.fixture
def stack(environment: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve all functions, for trainers to call."""
    with served_and_up("front") as address:
        environment.setenv("BACKEND_BASE_URL", address)
        forget()
        yield


def of_launch(job_id: str, launch: int) -> dict[str, str]:
    """Return the headers of a launch's trainer."""
    return {"Authorization": "Bearer " + tokens.mint_callback(job_id, 3600, now=tokens.now(), launch=launch)}


def read(job_id: str) -> Job:
    return queries.job(job_id)


def sweep(now: datetime) -> None:
    sweeping.run(now=now)


def types(job_id: str) -> list[str]:
    return [row.type for row in queries.events(job_id, kind=None, after=0, limit=100)[0]]


def launches(job: Job) -> list[str]:
    """Return the task of each launch, as its trainer has printed it."""
    logs = sorted(local._runs().glob(f"{job.id}/*/trainer.log"), key=lambda log: int(log.parent.name))
    lines = [line for log in logs for line in log.read_text().splitlines()]
    return [line.removeprefix("task ") for line in lines if line.startswith("task ")]


def claim(job: Job, *, now: datetime) -> Job:
    return callbacks.claim(call(job.id, launch=job.launch), TrainerEvent("started", None, None), now=now)


def succeed(job: Job, id_: str | None = None, *, now: datetime) -> Job:
    return reports.finish(call(job.id, id_, job.attempt, job.launch), Report("SUCCEEDED"), now=now)


def swept_until(job: Job, state: State, within_seconds: float = 60) -> Job:
    def is_reached() -> bool:
        sweep(tokens.now())
        return read(job.id).state in FINAL

    eventually(is_reached, within_seconds=within_seconds, every_seconds=0.2)
    assert read(job.id).state == state, read(job.id).message
    return read(job.id)


@pytest.mark.usefixtures("stack")
def test_a_dataset_that_can_be_used_is_checked_and_then_trained_on(checked: Any, now: datetime) -> None:
    job = checked({"epochs": 2})
    launching.launch(job, now=now)
    after = swept_until(job, State.SUCCEEDED)

    assert launches(job) == ["check", "train"]
    assert types(job.id) == [
        *("PENDING", "QUEUED", "check_started", "check_passed", "RUNNING", "started"),
        *("heartbeat", "heartbeat", "SUCCEEDED"),
    ]
    assert (after.attempt, after.check_attempts, after.launch, after.checking) == (2, 1, 2, False)
    assert after.metrics == {"score": 1.0}


@pytest.mark.usefixtures("stack")
def test_a_dataset_that_cannot_be_used_fails_its_job_without_another_launch(checked: Any, now: datetime) -> None:
    job = checked({"check": {"reason": "dataset_invalid"}})
    launching.launch(job, now=now)
    after = swept_until(job, State.FAILED)
    sweep(now)

    assert launches(job) == ["check"]
    assert (after.reason, after.message, after.started_at) == (Reason.DATASET_INVALID, "as planned", None)
    assert types(job.id) == ["PENDING", "QUEUED", "check_started", "FAILED"]


def test_while_its_dataset_is_checked_a_job_stays_queued(checked: Any, now: datetime) -> None:
    job = checked()
    claim(job, now=now)
    state = record_heartbeat(call(job.id, attempt=1, launch=1), Heartbeat(step=5), now=now + seconds(1))
    callbacks.record_event(call(job.id, attempt=1), TrainerEvent("warning", "w", None), now=now + seconds(2))

    after = read(job.id)
    assert state == after.state == State.QUEUED
    assert (after.message, after.liveness, after.started_at, after.step) == (callbacks.CHECKS, None, None, None)
    assert after.heartbeat_at == now + seconds(2)
    assert types(job.id) == ["PENDING", "QUEUED", "check_started", "warning"]
    with pytest.raises(WrongState):
        jobs.move(job.id, State.RUNNING, now=now)


def test_the_tokens_of_a_check_are_refused_once_it_has_passed(function: Callable[[str], Any], checked: Any) -> None:
    job = checked({"check": SILENT, **SILENT})
    headers = of_launch(job.id, 1)
    started = function("event").post(f"/v1/jobs/{job.id}/event", json={"type": "started"}, headers=headers)
    done = headers | {"Idempotency-Key": "done"}
    reply = function("done").post(f"/v1/jobs/{job.id}/done", json=PASSED | {"attempt": 1}, headers=done)
    repeated = function("done").post(f"/v1/jobs/{job.id}/done", json=PASSED | {"attempt": 1}, headers=done)

    assert started.json() == {"state": "QUEUED", "attempt": 1}
    assert (reply.json(), repeated.json()) == ({"state": "QUEUED"}, {"state": "QUEUED"})
    late = [
        function("event").post(f"/v1/jobs/{job.id}/event", json={"type": "log"}, headers=headers),
        function("event").post(f"/v1/jobs/{job.id}/event", json={"type": "started"}, headers=headers),
        function("heartbeat").post(f"/v1/jobs/{job.id}/heartbeat", json={}, headers=headers),
        function("done").post(f"/v1/jobs/{job.id}/done", json={"status": "FAILED"}, headers=headers),
        presigned(function, job.id, headers, f"checkpoints/job-{job.id}/last.pt"),
        presigned(function, job.id, headers, f"logs/job-{job.id}/attempt-2.log"),
    ]
    assert [response.status_code for response in late] == [409] * 6
    assert "replaced by launch 2" in late[0].json()["detail"]
    # The end of the check's own log is stored after done.
    assert presigned(function, job.id, headers, f"logs/job-{job.id}/attempt-1.log").status_code == 200
    (passed,) = [row for row in queries.events(job.id, kind=None, after=0, limit=9)[0] if row.type == "check_passed"]
    assert (passed.metrics, passed.actor) == ({"images/train": 8}, "trainer")
    assert read(job.id).metrics == {}


def presigned(function: Callable[[str], Any], job_id: str, headers: dict[str, str], key: str) -> Any:
    return function("presign").post(f"/v1/jobs/{job_id}/presign", json={"method": "PUT", "key": key}, headers=headers)


def test_after_a_crash_between_the_check_and_the_launch_sweep_launches(checked: Any, now: datetime) -> None:
    job = checked({"check": {"calls": False, "exit": 0}, **SILENT})
    launching.launch(job, now=now)
    eventually(lambda: Local().inspect(job).phase == Phase.ENDED)
    succeed(claim(job, now=now), now=now)  # and the function crashes before the submission
    assert launches(job) == ["check"]
    sweep(now + seconds(1))

    assert eventually(lambda: launches(job)[1:]) == ["train"]
    assert (read(job.id).launch, read(job.id).state) == (2, State.QUEUED)


def test_the_report_that_a_check_has_stored_replaces_a_lost_done(checked: Any, s3: Any, now: datetime) -> None:
    job = checked({"check": SILENT, **SILENT})
    launching.launch(job, now=now)
    claim(job, now=now)
    s3.put_object(Bucket=BUCKET, Key=f"results/job-{job.id}/done.json", Body=json.dumps(PASSED | {"attempt": 1}))
    kill(job)
    sweep(now + seconds(1))

    assert eventually(lambda: launches(job)[1:]) == ["train"]
    assert types(job.id)[-1] == "check_passed"
    # The training has sent only a heartbeat, so the attempt is the same, but the stored report is the check's.
    record_heartbeat(call(job.id, launch=2), Heartbeat(epoch=1), now=now + seconds(2))
    kill(read(job.id))
    sweep(now + seconds(3))
    assert (read(job.id).state, read(job.id).liveness, read(job.id).launch) == (State.RUNNING, "waiting", 3)


def test_the_report_of_a_broken_dataset_that_a_check_has_stored_fails_the_job(
    checked: Any, s3: Any, now: datetime
) -> None:
    job = checked({"check": SILENT})
    launching.launch(job, now=now)
    claim(job, now=now)
    report = {"status": "FAILED", "error": {"reason": "dataset_invalid", "message": "no images"}, "attempt": 1}
    s3.put_object(Bucket=BUCKET, Key=f"results/job-{job.id}/done.json", Body=json.dumps(report))
    kill(job)
    sweep(now + seconds(1))

    after = read(job.id)
    assert (after.state, after.reason, after.message) == (State.FAILED, Reason.DATASET_INVALID, "no images")


def kill(job: Job) -> None:
    """Kill the trainer of a job's current launch once it has started, and wait until the launcher knows."""
    eventually(lambda: len(launches(job)) == job.launch)
    process = eventually(lambda: local._read(local._run(job) / "process.json"))
    os.killpg(process["trainer_pid"], signal.SIGKILL)
    eventually(lambda: Local().inspect(job).phase == Phase.ENDED)


def test_a_lost_check_is_launched_again_and_the_limit_of_attempts_is_the_trainings(checked: Any, now: datetime) -> None:
    job = checked({"check": SILENT, **SILENT}, attempt_limit=2)
    launching.launch(job, now=now)
    kill(job)
    sweep(now + seconds(1))
    second = read(job.id)
    assert (second.launch, second.checking, second.state) == (2, True, State.QUEUED)

    succeed(claim(second, now=now), now=now)
    kill(second)
    sweep(now + seconds(2))
    kill(read(job.id))
    sweep(now + seconds(3))
    assert (read(job.id).launch, read(job.id).state) == (4, State.QUEUED)
    kill(read(job.id))
    sweep(now + seconds(4))

    assert (read(job.id).state, read(job.id).reason) == (State.FAILED, Reason.LOST)
    assert types(job.id).count("retrying") == 2


def test_a_check_that_is_lost_too_often_fails_the_job(checked: Any, now: datetime) -> None:
    job = checked({"check": SILENT}, attempt_limit=1)
    launching.launch(job, now=now)
    kill(job)
    sweep(now + seconds(1))

    assert (read(job.id).state, read(job.id).reason) == (State.FAILED, Reason.LOST)


def test_the_running_clock_begins_with_the_training_and_the_check_counts_as_waiting(
    checked: Any, now: datetime
) -> None:
    job = checked({"check": SILENT, **SILENT}, longest_running_seconds=10, longest_pending_seconds=100)
    launching.launch(job, now=now)
    claim(job, now=now)
    sweep(now)
    sweep(now + seconds(60))
    assert read(job.id).state == State.QUEUED
    sweep(now + seconds(101))

    after = read(job.id)
    assert (after.state, after.reason) == (State.FAILED, Reason.DEADLINE_PENDING)
    assert after.message == "no training started within 100 s; it checks the dataset"


def test_a_job_is_cancelled_while_its_dataset_is_checked(function: Callable[[str], Any], post: Any) -> None:
    job = read(post(check_first=True).json()["id"])
    eventually(lambda: launches(job))
    headers = of_launch(job.id, 1)
    assert function("event").post(f"/v1/jobs/{job.id}/event", json={"type": "started"}, headers=headers).is_success
    deleted = function("jobs").delete(f"/v1/jobs/{job.id}", headers=api_headers())
    cancelled = function("cancel").post(f"/v1/jobs/{job.id}/cancel", headers=api_headers())

    assert (deleted.status_code, cancelled.json()["state"], cancelled.json()["checking"]) == (409, "CANCELLED", False)
    eventually(lambda: not Local().list())
    late = function("done").post(f"/v1/jobs/{job.id}/done", json=PASSED, headers=headers)
    assert (late.status_code, late.json()["state"], launches(job)) == (409, "CANCELLED", ["check"])
    assert function("jobs").delete(f"/v1/jobs/{job.id}", headers=api_headers()).status_code == 204


def few_digits(folder: Path) -> bytes:
    """Return a dataset of two classes, which are learned in a moment."""
    digits.write_classes(folder / "all.zip")
    with zipfile.ZipFile(folder / "all.zip") as every, zipfile.ZipFile(folder / "few.zip", "w") as few:
        for split, digit in itertools.product(("train", "val"), "01"):
            for name in [name for name in every.namelist() if name.startswith(f"{split}/{digit}/")][:8]:
                few.writestr(name, every.read(name))
    return (folder / "few.zip").read_bytes()


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize(("is_good", "state"), [(True, State.SUCCEEDED), (False, State.FAILED)])
def test_trainer_timm_checks_a_dataset_before_it_trains_on_it(
    function: Callable[[str], Any],
    s3: Any,
    tmp_path: Path,
    is_good: bool,  # noqa: FBT001
    state: State,
) -> None:
    content = few_digits(tmp_path)
    s3.put_object(Bucket=BUCKET, Key="datasets/digits.zip", Body=content if is_good else content[:2_000])
    body = {"framework": "timm", "model_name": "test_resnet", "dataset_id": "digits", "epochs": 1, "check_first": True}
    small = {"image_size": 32, "workers": 0, "device": "cpu", "hyperparameters": {"pretrained": False}}
    job = read(function("create_job").post("/v1/jobs", json=body | small, headers=api_headers()).json()["id"])
    after = swept_until(job, state, within_seconds=500)

    stored = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    assert f"results/job-{job.id}/dataset.json" in stored
    assert (after.launch, after.attempt, after.check_attempts) == ((2, 2, 1) if is_good else (1, 1, 0)), after.message
    assert after.reason == (None if is_good else Reason.DATASET_INVALID)
    assert f"logs/job-{job.id}/attempt-1.log" in stored
    assert (f"checkpoints/job-{job.id}/last.pt" in stored) == is_good


@pytest.mark.usefixtures("stack")
def test_a_check_that_does_not_exit_after_its_report_gives_up_its_slot(checked: Any, now: datetime) -> None:
    job = checked({"check": {"lingers": True}})
    launching.launch(job, now=now)
    eventually(lambda: read(job.id).message == "waits for its check to exit")
    assert types(job.id)[-1] == "check_passed"
    swept_until(job, State.SUCCEEDED)

    assert launches(job) == ["check", "train"]


@pytest.mark.usefixtures("stack")
def test_the_launch_after_a_check_comes_before_newer_jobs(checked: Any, post: Any, now: datetime) -> None:
    job = checked({"check": {"lingers": True}, **SILENT})
    launching.launch(job, now=now)
    newer = read(post().json()["id"])
    eventually(lambda: "check_passed" in types(job.id))

    def is_launched_again() -> bool:
        sweep(tokens.now())
        return len(launches(job)) > 1

    eventually(is_launched_again, every_seconds=0.2)

    assert (launches(job), launches(newer)) == (["check", "train"], [])


@pytest.mark.parametrize(("setting", "field", "checks"), [
    ("false", None, False), ("false", True, True), ("true", None, True), ("true", False, False),
])  # fmt: skip
def test_the_installation_decides_unless_the_job_does(
    post: Any,
    environment: pytest.MonkeyPatch,
    setting: str,
    field: bool | None,  # noqa: FBT001
    checks: bool,  # noqa: FBT001
) -> None:
    environment.setenv("CHECK_FIRST", setting)
    forget()
    job = post(**({} if field is None else {"check_first": field})).json()

    assert (job["checking"], job["spec"].get("check_first")) == (checks, field)
    assert "check_skipped" not in types(job["id"])


def test_an_upload_may_ask_for_a_check(s3: Any, now: datetime) -> None:
    plan = {"check": SILENT, **SILENT}
    metadata = {"stoker-model": "stub-1", "stoker-check-first": "true", "stoker-hyperparameters": json.dumps(plan)}
    s3.delete_object(Bucket=BUCKET, Key="datasets/digits.zip")
    s3.put_object(Bucket=BUCKET, Key="datasets/cats.zip", Body=b"cats", Metadata=metadata)
    sweep(now + seconds(600))

    (job,) = queries.jobs({}, cursor=None, limit=9)[0]
    assert job.checking


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"framework": "plain", "model_name": "plain-1"}, "the trainer plain has no task check"),
        ({"task": "predict", "checkpoint_key": "models/x"}, "only the dataset of a training is checked first"),
        ({"check_first": "often"}, "use true or false"),
    ],
)
def test_a_check_that_is_not_possible_is_refused(post: Any, change: dict[str, Any], words: str) -> None:
    refused = post(**{"check_first": True} | change)

    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == ["check_first"]
    assert words in refused.json()["detail"]


def test_a_trainer_without_the_task_is_launched_at_once_and_the_timeline_says_why(
    post: Any, s3: Any, environment: pytest.MonkeyPatch
) -> None:
    s3.put_object(Bucket=BUCKET, Key="models/x", Body=b"weights")
    environment.setenv("CHECK_FIRST", "true")
    forget()
    job = post(framework="plain", model_name="plain-1").json()

    (skipped,), _ = queries.events(job["id"], kind="event", after=0, limit=9)
    assert (skipped.type, skipped.message) == ("check_skipped", "the trainer plain has no task check")
    assert not job["checking"]
    for quiet in (post(task="predict", checkpoint_key="models/x"), post(task="check")):
        assert (quiet.json()["checking"], types(quiet.json()["id"])[0:2]) == (False, ["PENDING", "QUEUED"])


def test_a_resumed_job_is_checked_only_if_its_dataset_is_another_one(post: Any, s3: Any, now: datetime) -> None:
    old = post(check_first=True).json()["id"]
    jobs.move(old, State.CANCELLED, now=now)
    s3.put_object(Bucket=BUCKET, Key=f"checkpoints/job-{old}/last.pt", Body=b"x")
    same = post(f"/{old}/resume").json()
    s3.put_object(Bucket=BUCKET, Key="datasets/digits.zip", Body=b"other digits")
    other = post(f"/{old}/resume", dataset_etag=None).json()

    assert (same["checking"], other["checking"]) == (False, True)
    assert [row.message for row in queries.events(same["id"], kind="event", after=0, limit=9)[0]] == [
        f"job {old}, which it resumes, has trained on this dataset"
    ]


def test_a_check_passes_once_however_often_it_is_reported(checked: Any, now: datetime) -> None:
    job = claim(checked(), now=now)
    first = succeed(job, "done", now=now)
    again = succeed(job, "done", now=now)
    with pytest.raises(WrongState, match="replaced by launch 2"):
        succeed(job, "another", now=now)

    assert (first.launch, again.launch, read(job.id).launch) == (2, 2, 2)
    assert types(job.id).count("check_passed") == 1
    with transaction() as session:
        sent_types = session.exec(select(Outbox.type).where(Outbox.job_id == job.id)).all()
    assert [one.rpartition(".")[2] for one in sent_types] == ["pending", "queued"]


def test_a_trainer_that_is_missing_when_a_check_passes_ends_no_job(
    function: Callable[[str], Any], checked: Any, tmp_path: Path
) -> None:
    file = tmp_path / "trainers.json"
    good, job = file.read_text(), checked({"check": SILENT, **SILENT})
    headers = of_launch(job.id, 1)
    function("event").post(f"/v1/jobs/{job.id}/event", json={"type": "started"}, headers=headers)
    file.write_text(json.dumps({"plain": {"command": {"train": STUB}}}))
    forget()
    response = function("done").post(f"/v1/jobs/{job.id}/done", json=PASSED | {"attempt": 1}, headers=headers)

    assert (response.status_code, response.json()["state"], read(job.id).state) == (200, "QUEUED", State.QUEUED)
    assert "TRAINERS: it has no trainer stub any more" in str(read(job.id).message)
    file.write_text(good)
    forget()
    sweeping.run(now=tokens.now())
    assert (read(job.id).launch, Local().inspect(read(job.id)).phase) == (2, Phase.RUNNING)


def test_a_trainer_without_a_declaration_has_the_tasks_that_it_has_commands_for(
    function: Callable[[str], Any], post: Callable[..., Any], tmp_path: Path
) -> None:
    tasks = ("train", "check")
    registry = {
        "bare": {"command": dict.fromkeys(tasks, STUB), "models": ["stub*"]},
        "partly": {"command": dict.fromkeys(tasks, STUB), "models": ["part*"], "declaration": {"options": []}},
    }
    (tmp_path / "trainers.json").write_text(json.dumps(registry))
    forget()

    assert post(framework="bare", check_first=True).json()["checking"] is True
    assert post(framework="partly", model_name="part", hyperparameters={}, check_first=True).json()["checking"] is True
    refused = post(framework="bare", task="predict", checkpoint_key="models/x.pt").json()
    assert refused["errors"] == [
        {"field": "task", "detail": "the trainer bare has no task predict; use train or check"}
    ]
    listed = function("jobs").get("/v1/frameworks", headers=api_headers("jobs:read")).json()["frameworks"]
    assert [framework["tasks"] for framework in listed] == [["train", "check"]] * 2


def test_a_trainer_without_a_declaration_is_taken_for_one_that_trains_and_predicts_in_a_cluster(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    registry = {
        "image": {"image": "i"},
        "both": {"image": "i", "command": {"check": ["c"]}},
        "declared": {"image": "i", "declaration": {"tasks": ["train"]}, "command": {"check": ["c"]}},
    }
    (tmp_path / "trainers.json").write_text(json.dumps(registry))
    environment.setenv("LAUNCHER", "kubernetes")
    forget()

    assert [trainer.tasks for trainer in trainers().values()] == [
        ("train", "predict"),
        ("train", "predict", "check"),
        ("train",),
    ]
    assert [trainer.can_start("check") for trainer in trainers().values()] == [True, True, False]
