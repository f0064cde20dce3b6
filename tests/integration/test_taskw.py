"""taskw: what it does before Task runs; the shell is real, nothing is downloaded."""

import os
import shutil
import subprocess
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
    shutil.copy(ROOT / "taskw", folder)
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


def installed(checkout: Path) -> None:
    """Put a Task in place that says what it was called with."""
    versions = next(line for line in (ROOT / "taskw").read_text().splitlines() if line.startswith("versions="))
    path = checkout / ".stoker/tools/path"
    path.mkdir(parents=True)
    (path.parent / "versions").write_text(versions.split('"')[1] + "\n")
    (path / "task").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 7\n')
    (path / "task").chmod(0o755)


def test_once_installed_it_hands_on_words_and_exit_code_from_any_folder(checkout: Path) -> None:
    installed(checkout)
    result = taskw(checkout, "submit", "DATASET=a b")

    assert result.stdout.splitlines() == ["--exit-code", "--dir", str(checkout), "submit", "DATASET=a b"]
    assert result.returncode == 7
    assert result.stderr == ""


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
