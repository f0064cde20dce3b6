"""A short run, with each fault at least once; thousands of jobs are ``./taskw chaos JOBS=10000``."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.plan import FAULTS, KINDS, faults, works
from tests.conftest import ROOT

JOBS, SEED = 40, 1


@pytest.mark.timeout(600)
def test_no_fault_costs_a_job_anything(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.chaos", "--jobs", str(JOBS), "--seed", str(SEED), "--report", str(report)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580, check=False)

    assert result.returncode == 0, result.stdout + result.stderr
    told = json.loads(report.read_text())
    assert told["seen"]["jobs accepted"] == JOBS
    assert set(told["jobs"]) == set(KINDS)
    assert set(FAULTS) <= set(told["faults"])


def test_a_seed_is_all_that_a_plan_depends_on() -> None:
    assert works(300, 7) == works(300, 7)
    assert faults(300, 7) == faults(300, 7)
    assert works(300, 7) != works(300, 8)
    assert faults(300, 7) != faults(300, 8)
