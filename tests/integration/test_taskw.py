"""taskw: what it does before Task runs, and around it; the shell is real, nothing is downloaded."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from infra.local import ports
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
    """Put a Task in place; without another one, it prints what it was called with."""
    versions = next(line for line in (ROOT / "taskw").read_text().splitlines() if line.startswith("versions="))
    path = checkout / ".stoker/tools/path"
    path.mkdir(parents=True)
    (path.parent / "versions").write_text(versions.split('"')[1] + "\n")
    (path / "task").write_text(f"#!/bin/sh\n{task}")
    (path / "task").chmod(0o755)
    (path.parent / "bin").mkdir()
    (path.parent / "bin/python").symlink_to(sys.executable)


def test_once_installed_it_hands_on_words_and_exit_code_from_any_folder(checkout: Path) -> None:
    installed(checkout)
    result = taskw(checkout, "submit", "DATASET=a b")

    assert result.stdout.splitlines() == ["--exit-code", "--dir", str(checkout), "submit", "DATASET=a b"]
    assert result.returncode == 7
    assert result.stderr == ""


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
