"""The commands in docs/OPERATIONS.md work: its SQL is run on the store's tables, its shell commands are parsed."""

import re
import subprocess

import psycopg
import pytest

from tests.conftest import ROOT

TEXT = (ROOT / "docs/OPERATIONS.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", TEXT, re.MULTILINE | re.DOTALL)


def test_every_query_runs_on_the_tables_as_they_are(postgresql_server: str) -> None:
    (queries,) = blocks("sql")
    assert queries.count("SELECT") == 6

    with psycopg.connect(postgresql_server.format("template_stoker")) as connection:
        connection.execute(queries)


@pytest.mark.parametrize("command", blocks("sh"), ids=lambda command: command.split("\n")[0][:40])
def test_every_command_is_one_that_a_shell_reads(command: str) -> None:
    subprocess.run(["sh", "-n"], input=command, text=True, check=True)


def test_the_manifests_that_it_names_exist() -> None:
    manifests = "".join(file.read_text() for file in ROOT.glob("knative/**/*.yaml"))
    named = {"event-callers", "broker", "trainers", "job-changes", "stricter.yaml", "external-secrets", "one-service"}

    assert {name for name in named if name not in TEXT or name not in manifests} == set()
    assert set(re.findall(r"^   \| `([a-z-]+)` \|", TEXT, re.MULTILINE)) == {
        path.name for path in ROOT.glob("knative/components/*")
    } - {"broker", "job-changes"}
