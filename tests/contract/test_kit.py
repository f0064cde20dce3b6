"""The kit finds each broken rule, and passes a trainer that keeps them all, even one of forty lines of shell."""

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
from tests.contract.stand import Stand, read, standing

pytestmark = [pytest.mark.timeout(600)]
NAMES = {rule.name for rule in RULES}
#: a trainer that breaks the one cannot keep the other
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
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Put the parts up once; each test tries its own trainer there."""
    with standing(read(SHIPPED / "stub.json"), tmp_path_factory.mktemp("stand")) as stand:
        yield stand


def broken_by(stand: Stand, rule: str) -> set[str]:
    """Return the rules of this rule's run that the stub breaks when it is told to break this one."""
    stub = read(SHIPPED / "stub.json")
    place = {"Bucket": BUCKET, "Key": "elsewhere/x"}
    elsewhere = stand.storage.generate_presigned_url("put_object", Params=place)
    stand.trainer = msgspec.structs.replace(stub, variables={"BROKEN": rule, "ELSEWHERE": elsewhere}, seconds=60)
    scenario = next(one.scenario for one in RULES if one.name == rule)
    return {verdict.rule.name for verdict in tried(stand, scenario, RULES) if verdict.broken}


@pytest.mark.parametrize("rule", sorted(NAMES))
def test_a_trainer_that_breaks_a_rule_fails_that_rule(stand: Stand, rule: str) -> None:
    found = broken_by(stand, rule)

    assert rule in found
    assert found <= {rule} | FOLLOWS.get(rule, set())


@pytest.mark.parametrize("name", ["stub", "shell", "softmax"])
def test_a_trainer_that_keeps_the_contract_passes(stand: Stand, name: str) -> None:
    stand.trainer = read(SHIPPED / f"{name}.json")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # softmax needs numpy
    stand.trainer = msgspec.structs.replace(stand.trainer, variables=stand.trainer.variables | {"PATH": path})
    verdicts = [verdict for scenario in SCENARIOS for verdict in tried(stand, scenario, RULES)]

    assert {rule.name: wrong for rule, wrong in verdicts if wrong and (rule.is_required or name != "shell")} == {}


def test_the_shell_trainer_is_shorter_than_forty_lines() -> None:
    assert len((SHIPPED / "shell.sh").read_text().splitlines()) < 40
