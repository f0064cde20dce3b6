"""The local stack: real processes, in a folder of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import pytest

from client import api
from client.home import read_environment
from infra.local import bucket, processes
from tests.conftest import ROOT, eventually

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("stack")]


@pytest.fixture
def stack(tmp_path: Path, environment: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the test a folder for a stack, and stop whatever runs there in the end."""
    folder = tmp_path / "a home"
    environment.setenv("STOKER_HOME", str(folder))
    environment.setenv("STOP_GRACE_SECONDS", "5")
    yield folder
    run("stop")


def run(*words: str, module: str = "infra.local.stack") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def up() -> dict[str, Any]:
    """Start the stack, and return its parts by name."""
    result = run("start", "--json")
    assert result.returncode == 0, result.stderr
    return {part["name"]: part for part in json.loads(result.stdout)["parts"]}


def upload(dataset_id: str, metadata: Mapping[str, str] = MappingProxyType({}), **plan: Any) -> None:
    """Put a dataset into the bucket; its metadata asks for the stub trainer."""
    path = Path(os.environ["STOKER_HOME"]) / "dataset.zip"
    path.write_bytes(b"PK\5\6" + bytes(18))
    requested = {"stoker-framework": "stub", "stoker-model": "stub-1", "stoker-hyperparameters": json.dumps(plan)}
    bucket.upload(path, f"datasets/{dataset_id}.zip", requested | dict(metadata))


def job_of(dataset_id: str) -> dict[str, Any] | None:
    jobs: list[dict[str, Any]] = api.call(api.connect(), "GET", "/v1/jobs", query={"dataset_id": dataset_id})["jobs"]
    assert len(jobs) <= 1, "one upload is one job"
    return jobs[0] if jobs else None


def in_state(state: str, dataset_id: str) -> dict[str, Any]:
    """Wait until the dataset's job is in this state."""

    def matching() -> dict[str, Any] | None:
        job = job_of(dataset_id)
        return job if job and job["state"] == state else None

    job: dict[str, Any] = eventually(matching, within_seconds=180)
    return job


def alive_of(folder: Path) -> list[list[str]]:
    """Return the command lines of all processes that the stack in this folder has left."""
    command_lines = []
    for process in psutil.process_iter(["status"]):
        try:
            if process.info["status"] != psutil.STATUS_ZOMBIE and process.environ().get("STOKER_HOME") == str(folder):
                command_lines.append(process.cmdline())
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return [command for command in command_lines if "pytest" not in command]


def test_starting_twice_is_the_same_as_once_and_stopping_leaves_nothing(stack: Path) -> None:
    first, second = up(), up()

    assert {name: part["pid"] for name, part in first.items()} == {name: part["pid"] for name, part in second.items()}
    assert all(part["is_up"] for part in first.values())
    assert len(alive_of(stack)) >= len(first)

    assert "is down" in run("stop").stdout
    assert alive_of(stack) == []
    assert "down already" in run("stop").stdout


def test_an_interrupted_start_is_reported_and_the_next_stop_leaves_nothing(stack: Path) -> None:
    command = [sys.executable, "-m", "infra.local.stack", "start"]
    starting = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    eventually(lambda: processes.running("storage"), within_seconds=120)
    starting.terminate()
    _, errors = starting.communicate(timeout=120)

    assert starting.returncode == 143
    assert "stopped by SIGTERM; ./taskw down" in errors
    run("stop")
    assert alive_of(stack) == []


def test_a_part_that_was_killed_is_started_again_alone_and_keeps_its_address() -> None:
    before = up()
    os.killpg(before["functions"]["pid"], signal.SIGKILL)
    eventually(lambda: processes.running("functions") is None)
    after = up()

    assert after["functions"]["address"] == before["functions"]["address"]
    assert after["functions"]["pid"] != before["functions"]["pid"]
    assert after["storage"]["pid"] == before["storage"]["pid"]


def test_a_pid_that_is_another_processs_by_now_counts_as_down(stack: Path) -> None:
    (stack / "run").mkdir(parents=True)
    (stack / "run/timer.json").write_text(json.dumps({"pid": os.getpid(), "created_at": 1.0}))

    assert processes.running("timer") is None
    assert processes.stop("timer", grace_seconds=1) is False


def test_a_stack_whose_port_is_taken_moves_to_another_port_and_keeps_its_data() -> None:
    up()
    upload("kept")
    in_state("SUCCEEDED", "kept")
    run("stop")
    with closing(socket.socket()) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", int(read_environment()["S3_PORT"])))
        taken.listen()
        up()

        assert int(read_environment()["S3_PORT"]) != taken.getsockname()[1]
        assert in_state("SUCCEEDED", "kept")["dataset_id"] == "kept"
        upload("new")
        in_state("SUCCEEDED", "new")


def test_an_upload_becomes_one_job_by_its_notification_and_is_trained(stack: Path) -> None:
    up()
    upload("cats", epochs=2)
    job = in_state("SUCCEEDED", "cats")

    assert job["metrics"] == {"score": 1.0}
    assert job["epoch"] == 2
    assert (stack / f"runs/{job['id']}/1/trainer.log").exists()


def test_watching_outlives_the_functions() -> None:
    parts = up()
    upload("cats", epochs=3, seconds=6)
    job = in_state("RUNNING", "cats")
    command = [sys.executable, "-m", "client", "watch", job["id"]]
    watching = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert watching.stdout is not None
    lines = [watching.stdout.readline()]
    os.killpg(parts["functions"]["pid"], signal.SIGKILL)
    while "waiting" not in lines[-1]:
        lines.append(watching.stdout.readline())
    up()
    rest, _ = watching.communicate(timeout=60)

    assert watching.returncode == 0
    printed = "".join(lines) + rest
    assert [printed.count(line) for line in ("PENDING\n", "epoch 3/", "; waiting\n", "\nSUCCEEDED\n")] == [1, 1, 1, 1]


def test_stopping_the_stack_names_the_running_jobs_and_starting_it_continues_them(stack: Path) -> None:
    up()
    # It has only one launch: the stop must not use it up.
    upload("cats", {"stoker-attempt-limit": "1"}, epochs=2, seconds=600, waits_in_attempts=[1])
    job = in_state("RUNNING", "cats")
    stopped = run("stop")

    assert f"job {job['id']} (dataset cats" in stopped.stdout
    assert f"./taskw up continues 1 job: {job['id']}" in stopped.stdout
    assert alive_of(stack) == []
    trainer = json.loads((stack / f"runs/{job['id']}/1/exit.json").read_text())
    assert trainer == {"code": 143}

    assert f"job {job['id']} continues" in run("start").stdout
    ended = in_state("SUCCEEDED", "cats")
    assert (ended["attempt"], ended["attempt_limit"]) == (2, 1)
    assert f"job {job['id']}" not in run("stop").stdout


def test_a_job_that_waits_for_a_slot_waits_on_when_the_stack_is_back(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("LOCAL_JOB_LIMIT", "1")
    up()
    upload("first", seconds=600, waits_in_attempts=[1])
    first = in_state("RUNNING", "first")
    upload("second")
    second = in_state("QUEUED", "second")
    stopped = run("stop")

    assert f"continues 2 jobs: {', '.join(sorted([first['id'], second['id']]))}" in stopped.stdout
    up()
    in_state("SUCCEEDED", "first")
    in_state("SUCCEEDED", "second")


def test_a_trainer_that_ignores_sigterm_is_killed_and_its_job_continues(
    stack: Path, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("STOP_GRACE_SECONDS", "1")
    up()
    upload("cats", {"stoker-attempt-limit": "1"}, seconds=600, deaf=True, waits_in_attempts=[1])
    job = in_state("RUNNING", "cats")
    run("stop")

    assert json.loads((stack / f"runs/{job['id']}/1/exit.json").read_text()) == {"code": -9}
    up()
    in_state("SUCCEEDED", "cats")


def test_a_cancelled_job_is_cancelled_and_its_watch_exits_1() -> None:
    up()
    upload("cats", seconds=600)
    job = in_state("RUNNING", "cats")

    assert "is CANCELLED" in run("cancel", job["id"], "--message", "enough", module="client").stdout
    watched = run("watch", job["id"], module="client")
    assert watched.returncode == 1
    assert watched.stdout.count("enough") == 1
    assert watched.stdout.splitlines()[-1].split()[1:2] == ["CANCELLED"]


def demo_with(stack: Path, environment: pytest.MonkeyPatch, *command: str) -> subprocess.Popen[str]:
    """Start the demo, with another command in its trainer's place."""
    trainers = stack.parent / "demo-trainers.json"
    trainers.write_text(
        json.dumps({"ultralytics": {"command": {"train": [str(shutil.which(command[0])), *command[1:]]}}})
    )
    environment.setenv("TRAINERS", str(trainers))
    demo = [sys.executable, "-m", "infra.local.demo", "ultralytics"]
    return subprocess.Popen(demo, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def output_of(demo: subprocess.Popen[str], within_seconds: float = 240) -> str:
    """Return a demo's output until it ends; fail after a deadline."""
    try:
        return demo.communicate(timeout=within_seconds)[0]
    except subprocess.TimeoutExpired:
        demo.kill()
        pytest.fail(f"the demo still runs; it has said: {demo.communicate()[0]}")


def test_a_demo_that_fails_says_why_shows_the_log_and_exits_1(stack: Path, environment: pytest.MonkeyPatch) -> None:
    demo = demo_with(stack, environment, "sh", "-c", "echo the label is wrong; exit 65")
    output = output_of(demo)

    assert demo.returncode == 1
    assert "FAILED (dataset_invalid)" in output
    assert "  the label is wrong" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_demo_that_is_stopped_cancels_its_job(
    stack: Path, environment: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    demo = demo_with(stack, environment, "sleep", "600")
    assert demo.stdout is not None
    while "QUEUED" not in demo.stdout.readline():
        assert demo.poll() is None
    demo.send_signal(number)
    demo.send_signal(number)
    output = output_of(demo, within_seconds=180)

    assert demo.returncode == 128 + number
    assert "is CANCELLED; its trainer has stopped" in output


def test_a_demo_that_goes_well_shows_what_is_stored_and_exits_0(stack: Path, environment: pytest.MonkeyPatch) -> None:
    demo = demo_with(stack, environment, sys.executable, str(ROOT / "tests/integration/stub_trainer.py"))
    output = output_of(demo)

    assert demo.returncode == 0, output
    assert "score 1" in output
    assert "./taskw predict ID=" in output


def test_an_error_in_the_settings_is_reported_before_anything_starts(
    stack: Path, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("TRAINERS", "nosuch.json")
    refused = run("start")

    assert refused.returncode == 1
    assert "TRAINERS: the file" in refused.stderr
    assert "nosuch.json cannot be read: No such file or directory" in refused.stderr
    assert not any(processes.running(name) for name in ("storage", "functions", "timer"))
    assert not (stack / "s3").exists()


def own_trainers(stack: Path, **trainers: list[str]) -> Path:
    path = stack.parent / "own" / "trainers.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({name: {"command": {"train": command}} for name, command in trainers.items()}))
    return path


def test_custom_trainers_are_added_remembered_and_read_again(stack: Path, environment: pytest.MonkeyPatch) -> None:
    stub = [sys.executable, str(ROOT / "tests/integration/stub_trainer.py")]
    environment.delenv("TRAINERS")
    first = up()
    environment.setenv("TRAINERS", str(own_trainers(stack, mine=stub)))
    started = run("start")
    assert "the functions start again with other settings: TRAINERS" in started.stdout
    registry = json.loads((stack / "trainers.json").read_text())
    assert {"mine", "ultralytics", "timm"} <= registry.keys()
    assert Path(registry["timm"]["command"]["train"][1]).is_file()

    environment.delenv("TRAINERS")
    again = up()
    assert again["functions"]["pid"] != first["functions"]["pid"]
    assert again["storage"]["pid"] == first["storage"]["pid"]
    upload("cats", {"stoker-framework": "mine"})
    in_state("SUCCEEDED", "cats")

    own_trainers(stack, mine=stub, other=stub)
    assert "other settings: TRAINERS" in run("start").stdout
    upload("dogs", {"stoker-framework": "other"})
    in_state("SUCCEEDED", "dogs")
    assert "other settings" not in run("start").stdout


def test_a_registry_that_cannot_be_used_is_refused_on_a_running_stack_too(
    stack: Path, environment: pytest.MonkeyPatch
) -> None:
    before = up()
    path = own_trainers(stack)
    path.write_text('{"mine": {"comand": {}}}')
    environment.setenv("TRAINERS", str(path))
    refused = run("start")

    assert refused.returncode == 1
    assert "comand" in refused.stderr
    environment.delenv("TRAINERS")
    assert up()["functions"]["pid"] == before["functions"]["pid"]


def test_a_file_beside_the_registry_needs_no_slash(stack: Path, environment: pytest.MonkeyPatch) -> None:
    path = own_trainers(stack, shell=["sh", "noop.sh"])
    (path.parent / "noop.sh").write_text("exit 65\n")
    environment.setenv("TRAINERS", str(path))
    up()
    upload("cats", {"stoker-framework": "shell"})

    assert in_state("FAILED", "cats")["reason"] == "dataset_invalid"


def test_settings_that_the_stack_does_not_use_are_named(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MINIO_SECRET_KEY", "wrong")
    started = run("start")

    assert started.returncode == 0
    assert "not used: " in started.stdout
    assert "MINIO_SECRET_KEY" in started.stdout
