"""Files that trainers share are identical copies, because trainers share no package."""

from pathlib import Path

import pytest

from tests.conftest import ROOT

TRAINERS = sorted(path.parent for path in (ROOT / "trainer-images").glob("*/utils.py"))
EXAMPLE = ROOT / "examples/trainer-softmax"
FIRST = TRAINERS[0]
OF_ALL = ["utils.py"]
#: all but what puts the parts together
OF_DATASETS = sorted(path.name for path in (FIRST / "dataset").iterdir() if path.is_file() and path.stem != "__init__")
OF_REPORTS = sorted(path.name for path in (FIRST / "reports").iterdir() if path.is_file())
OF_TRAINERS = [
    "checking.py",
    "console_capture.py",
    "declaration.py",
    "download.py",
    "mlflow_tracking.py",
    "system_metrics.py",
    *(f"dataset/{name}" for name in OF_DATASETS),
    *(f"reports/{name}" for name in OF_REPORTS),
    *(f"tests/{path.name}" for path in sorted((FIRST / "tests").glob("fixtures_*.py"))),
]
COPIES = [(trainer, name) for trainer in TRAINERS[1:] for name in (*OF_ALL, *OF_TRAINERS)]
COPIES += [(EXAMPLE, name) for name in OF_ALL]


def test_there_is_more_than_one_trainer() -> None:
    assert len(TRAINERS) > 1


@pytest.mark.parametrize(("trainer", "name"), COPIES, ids=lambda value: getattr(value, "name", value))
def test_shared_files_are_the_same_bytes_in_each_trainer(trainer: Path, name: str) -> None:
    assert (trainer / name).read_bytes() == (FIRST / name).read_bytes(), f"copy {FIRST.name}/{name} to {trainer.name}"
    assert not (trainer / name).is_symlink()


@pytest.mark.parametrize("trainer", [*TRAINERS, EXAMPLE], ids=lambda path: path.name)
def test_utils_imports_no_module_of_its_trainer(trainer: Path) -> None:
    own = {path.stem for path in trainer.glob("*.py")} - {"utils"}
    imported = [line.split()[1] for line in (trainer / "utils.py").read_text().splitlines() if "import " in line]

    assert not own & set(imported)


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda path: path.name)
def test_no_trainer_imports_the_functions(trainer: Path) -> None:
    own = [path for path in trainer.glob("**/*.py") if ".venv" not in path.parts and "tests" not in path.parts]

    assert own
    assert [path for path in own if "functions." in path.read_text() and "import functions" in path.read_text()] == []
