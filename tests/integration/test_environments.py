"""Tasks that need different packages leave each other's alone: a copy of the checkout, real Task, real uv."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy the project's files, without its environments; Task and uv are linked."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    if (ROOT / ".stoker/tools").exists():  # else taskw installs them
        (tmp_path / ".stoker").mkdir()
        (tmp_path / ".stoker/tools").symlink_to(ROOT / ".stoker/tools")
    return tmp_path


def packages_after(checkout: Path, task: str) -> set[str]:
    """Run a task, and return the packages of the project's environment then."""
    result = subprocess.run([checkout / "taskw", task], cwd=checkout, capture_output=True, text=True, check=False)
    assert "storage" in result.stdout or "etcd" in result.stdout, result.stderr  # it got as far as showing a status
    return {path.name for path in checkout.glob(".venv/lib/python*/site-packages/*.dist-info")}


def test_tasks_of_the_local_stack_and_of_the_node_uninstall_nothing_of_each_other(checkout: Path) -> None:
    first = packages_after(checkout, "status")

    assert packages_after(checkout, "cluster:status") == first
    assert packages_after(checkout, "status") == first
