"""The contract's side of the trainers is one text, though they share no package."""

from pathlib import Path

import pytest

from tests.conftest import ROOT

TRAINERS = sorted(path.parent for path in (ROOT / "trainer-images").glob("*/utils.py"))
FIRST = TRAINERS[0]
SHARED = sorted(path.relative_to(FIRST) for path in (FIRST / "utils.py", *(FIRST / "contract").glob("*.py")))


def test_there_is_more_than_one_trainer() -> None:
    assert len(TRAINERS) > 1


@pytest.mark.parametrize("trainer", TRAINERS[1:], ids=lambda path: path.name)
@pytest.mark.parametrize("file", SHARED, ids=str)
def test_utils_and_contract_are_the_same_bytes_in_every_trainer(trainer: Path, file: Path) -> None:
    assert (trainer / file).read_bytes() == (FIRST / file).read_bytes()


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda path: path.name)
def test_no_trainer_imports_the_functions(trainer: Path) -> None:
    own = [path for path in trainer.glob("**/*.py") if ".venv" not in path.parts and "tests" not in path.parts]

    assert own
    assert [path for path in own if "functions." in path.read_text() and "import functions" in path.read_text()] == []
