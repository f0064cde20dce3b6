"""A short run with each fault at least once; ``./taskw chaos JOBS=10000`` is a long one."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.plan import FAULTS, KINDS, faults, works
from tests.conftest import ROOT, eventually
from tests.stopping import processes_of, started, stopped

JOBS, SEED = 40, 1


@pytest.mark.timeout(600)
def test_no_fault_loses_duplicates_or_misreports_a_job(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.chaos", "--jobs", str(JOBS), "--seed", str(SEED), "--report", str(report)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580, check=False)

    assert result.returncode == 0, result.stdout + result.stderr
    content = json.loads(report.read_text())
    assert content["counts"]["jobs accepted"] == JOBS
    assert set(content["jobs"]) == set(KINDS)
    assert set(FAULTS) <= set(content["faults"])


def test_a_plan_depends_only_on_its_seed() -> None:
    assert works(300, 7) == works(300, 7)
    assert faults(300, 7) == faults(300, 7)
    assert works(300, 7) != works(300, 8)
    assert faults(300, 7) != faults(300, 8)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_stopped_run_has_a_result_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    report = tmp_path / "report.json"
    with started("tests.chaos", "--jobs", "300", "--seed", "1", "--report", str(report)) as run:
        eventually(lambda: has_trainer(run.folder), within_seconds=300)
        printed = stopped(run, number)

    assert f"stopped by {number.name}; not checked: jobs lost" in printed
    written = json.loads(report.read_text())
    assert written["counts"]["jobs accepted"] > 0
    assert "jobs created twice" in written["failed_checks"]


def has_trainer(folder: Path) -> bool:
    return any("chaos/trainer.py" in word for command in processes_of(folder).values() for word in command)


@pytest.mark.timeout(600)
def test_a_run_that_is_stopped_at_its_start_leaves_nothing() -> None:
    with started("tests.chaos") as run:
        eventually(lambda: any(run.folder.glob("stoker-chaos-*/postgresql")), within_seconds=180)
        stopped(run, signal.SIGTERM)
