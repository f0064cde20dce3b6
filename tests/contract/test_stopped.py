"""The kit, stopped by a signal: it prints and writes the verdicts so far, and leaves no process or file."""

import json
import signal
from pathlib import Path

import pytest

from tests.conftest import eventually
from tests.contract.rules import RULES
from tests.stopping import processes_of, read_until, started, stopped

pytestmark = pytest.mark.timeout(600)
OF_PLAIN = [rule.name for rule in RULES if rule.scenario == "plain"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_kit_that_is_stopped_has_a_result_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    report = tmp_path / "report.json"
    with started("tests.contract", "stub", "--report", str(report)) as kit:
        read_until(kit, OF_PLAIN[-1])
        eventually(report.exists)
        assert processes_of(kit.folder)
        printed = stopped(kit, number)

    assert f"{len(OF_PLAIN)} of {len(RULES)} rules are kept" in printed
    assert f"stopped by {number.name}; undecided: outage" in printed
    written = json.loads(report.read_text())
    assert [row["rule"] for row in written["rules"]] == OF_PLAIN
    assert written["undecided"] == [rule.name for rule in RULES if rule.scenario != "plain"]


def test_a_kit_that_is_stopped_while_it_starts_its_services_leaves_nothing() -> None:
    with started("tests.contract", "stub") as kit:
        read_until(kit, f"{len(RULES)} rules")
        stopped(kit, signal.SIGTERM)
