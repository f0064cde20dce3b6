"""taskw: its work before, during and after a run of Task; with a real shell and without downloads."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from infra.local import ports, run_task
from tests.conftest import ROOT

TOOLS = ("cat", "dirname", "ln", "mkdir", "mv", "rm")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder with taskw in it, whose name has a space."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    (folder / "infra/local").mkdir(parents=True)
    for name in ("taskw", "infra/local/run_task.py"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def taskw(checkout: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(checkout / "taskw"), *words],
        cwd="/",
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def installed(checkout: Path, task: str = 'printf "%s\\n" "$@"\nexit 7\n') -> None:
    """Install a stand-in for Task; the default one prints its arguments."""
    versions = next(line for line in (ROOT / "taskw").read_text().splitlines() if line.startswith("versions="))
    path = checkout / ".stoker/tools/path"
    path.mkdir(parents=True)
    (path.parent / "versions").write_text(versions.split('"')[1] + "\n")
    (path / "task").write_text(f"#!/bin/sh\n{task}")
    (path / "task").chmod(0o755)
    (path.parent / "bin").mkdir()
    (path.parent / "bin/python").symlink_to(sys.executable)


def test_taskw_passes_arguments_and_the_exit_code_from_any_folder(checkout: Path) -> None:
    installed(checkout)
    result = taskw(checkout, "submit", "DATASET=a b")

    assert result.stdout.splitlines() == ["--exit-code", "--dir", str(checkout), "submit", "DATASET=a b"]
    assert result.returncode == 7
    assert result.stderr == ""


def taskfiles(checkout: Path) -> None:
    for name in ("Taskfile.yml", "infra/local/Taskfile.yml", "client/Taskfile.yml", "infra/node/Taskfile.yml"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["demo", "FRAMWORK=timm"], "demo takes no variable FRAMWORK; did you mean FRAMEWORK?"),
        (["demo", "framework=timm"], "demo takes no variable framework; did you mean FRAMEWORK?"),
        (["chaos", "JOB=3"], "chaos takes no variable JOB; did you mean JOBS?"),
        (["lint", "X=1"], "lint takes no variable X; it takes none"),
        (["up", "TRAINERS=x.json"], "settings of the stack are written before the command: TRAINERS=x.json ./taskw up"),
        (["submitt", "DATASET=x"], "there is no task submitt; did you mean submit?"),
    ],
)
def test_arguments_that_task_would_ignore_silently_are_refused(checkout: Path, words: list[str], message: str) -> None:
    installed(checkout)
    taskfiles(checkout)
    result = taskw(checkout, *words)

    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["demo", "FRAMEWORK=timm"],
        ["status", "JSON=1"],
        ["contract", "TRAINER=timm", "ONLY=resume", "REPORT=r.json", "IMAGE=x"],
        ["chaos", "JOBS=3", "SEED=1", "MINUTES=2"],
        ["attack", "TOKENS=1", "SEED=2"],
        ["serve", "FUNCTION=jobs", "PORT=1"],
        ["test:cluster", "ONLY=x", "QUICK=1"],
        ["cluster:trainer", "FRAMEWORK=timm"],
        ["bench", "ONLY=x", "QUICK=1"],
        ["token", "SCOPE=x", "SUBJECT=y", "HOURS=1", "JSON=1"],
        ["submit", "EPOCH=3"],  # an alias, which checks its variables itself
        ["--list"],
        [],
    ],
)
def test_arguments_of_a_task_are_passed_on(checkout: Path, words: list[str]) -> None:
    installed(checkout)
    taskfiles(checkout)

    assert taskw(checkout, *words).stdout.splitlines()[3:] == words


def test_the_help_of_a_task_is_that_of_its_command(checkout: Path) -> None:
    installed(checkout)
    taskfiles(checkout)

    assert taskw(checkout, "jobs", "--help").stdout.splitlines()[3:] == ["help", "NAME=jobs"]


#: as Task does: it only prints that it received a signal, and waits for its command
TASK = """trap 'echo "task: Signal received"' TERM HUP
"{python}" -c '
import signal, sys, time
for name in ("SIGTERM", "SIGHUP"):
    signal.signal(getattr(signal, name), lambda number, frame: sys.exit("command: " + signal.Signals(number).name))
print("ready", flush=True)
time.sleep(60)
' &
while :; do wait $!; code=$?; kill -0 $! 2>/dev/null || exit $code; done
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_stops_taskw_stops_the_command_that_it_runs(checkout: Path, number: signal.Signals) -> None:
    installed(checkout, TASK.format(python=sys.executable))
    command = ["/bin/sh", str(checkout / "taskw"), "x"]
    started = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    started.send_signal(number)
    try:
        _, errors = started.communicate(timeout=30)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)

    assert started.returncode == 1
    assert f"command: {number.name}" in errors


def test_without_python_it_says_what_to_install(checkout: Path, tmp_path: Path) -> None:
    few = tmp_path / "bin"
    few.mkdir()
    for name in TOOLS:
        (few / name).symlink_to(str(shutil.which(name)))
    result = taskw(checkout, PATH=str(few))

    assert result.returncode == 1
    assert "Python 3.11 or newer is needed" in result.stderr


def test_when_pip_fails_it_says_so_and_leaves_nothing_behind(checkout: Path) -> None:
    (checkout / ".stoker/tools.999999999").mkdir(parents=True)  # of a taskw that was killed
    nowhere = f"http://127.0.0.1:{ports.free()}/"
    result = taskw(checkout, PIP_INDEX_URL=nowhere, PIP_RETRIES="0", PIP_FIND_LINKS="")

    assert result.returncode == 1
    assert "pip could not install uv==" in result.stderr
    assert list((checkout / ".stoker").iterdir()) == []


def test_it_knows_the_tasks_of_every_taskfile_that_is_included() -> None:
    included = re.findall(r"^    taskfile: (\S+)$", (ROOT / "Taskfile.yml").read_text(), re.MULTILINE)

    assert {"Taskfile.yml", *included} == {name for names in run_task._FILES.values() for name in names}
    assert "console" in run_task.task_blocks(ROOT)
