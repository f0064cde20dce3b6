"""The documents match the code: commands, variables, states, reasons."""

import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from client import task_aliases
from client.cli import app
from functions.domain.states import NEXT, Reason, State
from functions.runtime.settings import Settings
from tests.conftest import ROOT

DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
TASK = re.compile(r"\./taskw ([a-z][a-z:-]*)")
#: a command at the beginning of a line of an example, or in code
COMMAND = re.compile(r"(?:^|`|\$ )stoker ([a-z]+)", re.MULTILINE)


def tasks() -> set[str]:
    """Return the names of all tasks in our files."""
    results: set[str] = set()
    for file in ROOT.glob("**/Taskfile.yml"):
        if {".stoker", ".venv", "node_modules"} & set(file.parts):
            continue
        text = file.read_text()
        prefix = {"node": "cluster:", "kind": "kind:"}.get(file.parent.name, "")
        results |= {prefix + name for name in re.findall(r"^  ([a-z][a-z:-]*):$", text, re.MULTILINE)}
    return results


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_in_the_documents_is_a_task(document: Path) -> None:
    assert set(TASK.findall(document.read_text())) <= tasks()


def test_the_short_list_of_tasks_names_tasks_only_and_every_alias() -> None:
    text = (ROOT / "infra/local/tasks.txt").read_text()
    listed = set(re.findall(r"(?:^  |   )([a-z]+)  +[a-z]", text, re.MULTILINE))

    assert listed <= tasks()
    assert task_aliases.ALIASES.keys() <= tasks()
    assert task_aliases.ALIASES.keys() - listed == set()
    assert max(len(line) for line in text.splitlines()) <= 110
    assert len(text.splitlines()) <= 30


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_in_the_documents_leads_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text())

    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_in_the_documents_exists(document: Path) -> None:
    known = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}

    assert set(COMMAND.findall(document.read_text())) <= known


def test_the_readmes_diagram_is_the_state_machine() -> None:
    diagram = re.search(r"PENDING -> .*", (ROOT / "README.md").read_text())

    assert diagram is not None
    first, second, third, last = (step.split(" | ") for step in diagram[0].split(" -> "))
    assert {*first, *second, *third, *last} == set(State)
    assert set(last) == {state for state, following in NEXT.items() if not following}
    assert State(second[0]) in NEXT[State(first[0])]
    assert State(third[0]) in NEXT[State(second[0])]


def test_every_reason_is_explained() -> None:
    text = (ROOT / "docs/ENVIRONMENTS.md").read_text() + (ROOT / "README.md").read_text()

    assert [reason for reason in Reason if f"`{reason}`" not in text] == []


def test_every_variable_of_the_functions_is_documented_with_its_default() -> None:
    rows = re.findall(r"^\| (`[A-Z0-9_`, ]+) \| ([^|]+) \|", (ROOT / "docs/ENVIRONMENTS.md").read_text(), re.MULTILINE)
    documented = {name: default for names, default in rows for name in re.findall(r"[A-Z_0-9]+", names)}
    known = {field.name.upper(): field.default for field in msgspec.structs.fields(Settings)}

    assert documented.keys() - {"JWT_SECRETS", "JWT_SECRETS_FILE"} == known.keys()
    for name, default in known.items():
        if default and name != "OIDC_AUDIENCE":
            shown = f"{default:g}" if isinstance(default, float) and default < 1e5 else str(default).removesuffix(".0")
            assert f"`{shown}`" in documented[name], name


def test_lock_files_name_public_registries_only() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "*.lock"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()

    for file in tracked:
        urls = set(re.findall(r"https?://([^/\"]+)", (ROOT / file).read_text()))
        assert urls <= {"pypi.org", "files.pythonhosted.org", "download.pytorch.org"}, file


def test_the_plugin_guides_example_is_the_tested_file() -> None:
    guide = (ROOT / "docs/PLUGIN_GUIDE.md").read_text()
    code = (ROOT / "examples/trainer-softmax/train.py").read_text()

    assert f"```python\n{code}```" in guide
    assert len(code.splitlines()) < 100
