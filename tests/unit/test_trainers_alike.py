"""Files that trainers share are identical copies, because trainers share no package."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

TRAINERS = sorted(path.parent for path in (ROOT / "trainer-images").glob("*/utils.py"))
EXAMPLE = ROOT / "examples/trainer-softmax"
FIRST = TRAINERS[0]
#: the contract's modules, and those that each of them imports; they import no other module of the trainer
IMPORTS = {
    "utils.py": {"callbacks", "checkpoint_storage", "console", "storage"},
    "callbacks.py": {"console", "storage"},
    "checkpoint_storage.py": set[str](),
    "console.py": set[str](),
    "storage.py": set[str](),
}
OF_ALL = list(IMPORTS)
LINE_LIMIT = 400
#: all files except ``__init__.py``, which differs
OF_DATASETS = sorted(path.name for path in (FIRST / "dataset").iterdir() if path.is_file() and path.stem != "__init__")
OF_REPORTS = sorted(path.name for path in (FIRST / "reports").iterdir() if path.is_file())
OF_TRAINERS = [
    "checking.py",
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


@pytest.mark.parametrize("name", OF_ALL)
@pytest.mark.parametrize("trainer", [*TRAINERS, EXAMPLE], ids=lambda path: path.name)
def test_the_contracts_modules_import_one_another_one_way(trainer: Path, name: str) -> None:
    own = {path.stem for path in trainer.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    nodes = list(ast.walk(ast.parse((trainer / name).read_text())))
    imported = {str(node.module).partition(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}

    assert own & imported == IMPORTS[name]


@pytest.mark.parametrize("name", OF_ALL)
def test_the_contracts_modules_are_short(name: str) -> None:
    assert len((FIRST / name).read_text().splitlines()) <= LINE_LIMIT


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda path: path.name)
def test_no_trainer_imports_the_functions(trainer: Path) -> None:
    own = [path for path in trainer.glob("**/*.py") if ".venv" not in path.parts and "tests" not in path.parts]

    assert own
    assert [path for path in own if "functions." in path.read_text() and "import functions" in path.read_text()] == []
