"""The kit detects each broken rule, and passes a trainer that keeps all of them, even forty lines of shell."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.conftest import BUCKET
from tests.contract.__main__ import SHIPPED, tried
from tests.contract.rules import RULES
from tests.contract.scenarios import SCENARIOS
from tests.contract.workbench import Workbench, read, workbench_running

pytestmark = [pytest.mark.timeout(600)]
NAMES = {rule.name for rule in RULES}
#: the rules that a trainer also breaks when it breaks the key
FOLLOWS = {
    "started-first": {"attempt"},
    "checkpoints": {"artifacts-exist"},
    "done-once": {"artifacts-exist", "done-marker", "exit-0", "token-renewal"},
    "outage": {"retries", "same-id", "retry-after"},
    "retries": {"outage"},
    "sigterm-saves": {"resume"},
    "usable-bodies": {"heartbeat-by-epoch", "token-renewal"},
}


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """Start the services once; each test runs its own trainer."""
    with workbench_running(read(SHIPPED / "stub.json"), tmp_path_factory.mktemp("workbench")) as workbench:
        yield workbench


def broken_by(workbench: Workbench, rule: str) -> set[str]:
    """Return the rules of this rule's scenario that the stub breaks with BROKEN set to this rule."""
    stub = read(SHIPPED / "stub.json")
    target = {"Bucket": BUCKET, "Key": "elsewhere/x"}
    elsewhere = workbench.storage.generate_presigned_url("put_object", Params=target)
    workbench.trainer = msgspec.structs.replace(stub, variables={"BROKEN": rule, "ELSEWHERE": elsewhere}, seconds=60)
    scenario = next(row.scenario for row in RULES if row.name == rule)
    return {verdict.rule.name for verdict in tried(workbench, scenario, RULES) if verdict.broken}


@pytest.mark.parametrize("rule", sorted(NAMES))
def test_a_trainer_that_breaks_a_rule_fails_that_rule(workbench: Workbench, rule: str) -> None:
    broken = broken_by(workbench, rule)

    assert rule in broken
    assert broken <= {rule} | FOLLOWS.get(rule, set())


@pytest.mark.parametrize("name", ["stub", "shell", "softmax"])
def test_a_trainer_that_keeps_the_contract_passes(workbench: Workbench, name: str) -> None:
    workbench.trainer = read(SHIPPED / f"{name}.json")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # softmax needs numpy
    workbench.trainer = msgspec.structs.replace(
        workbench.trainer, variables=workbench.trainer.variables | {"PATH": path}
    )
    verdicts = [verdict for scenario in SCENARIOS for verdict in tried(workbench, scenario, RULES)]

    assert {rule.name: wrong for rule, wrong in verdicts if wrong and (rule.is_required or name != "shell")} == {}


def test_the_shell_trainer_is_shorter_than_forty_lines() -> None:
    assert len((SHIPPED / "shell.sh").read_text().splitlines()) < 40
