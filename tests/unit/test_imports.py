"""Limits on imports of each function, because imports make cold starts slower."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

ORM = {"sqlalchemy", "sqlmodel", "pydantic"}
#: imported by the first request that needs them: storage, launchers, the sink
LATER = {"boto3", "botocore", "kubernetes", "yaml", "urllib3", "requests", "psutil"}
NEVER = {"alembic", "cryptography", "httpx", "rich", "typer", "numpy"}
BUDGET = {
    "heartbeat": LATER,
    "event": LATER,
    "done": LATER,
    "jobs": LATER,
    "datasets": LATER,
    "metrics": LATER,
    "presign": LATER,
    "cancel": LATER,
    "create_job": LATER,
    "sweep": LATER,
    "uploads": ORM | LATER | {"psycopg"},
    "dead_letter": LATER,
    "console": ORM | LATER | {"psycopg"},
}
#: imported by metrics alone
METRICS = {"prometheus_client"}


@pytest.mark.parametrize("function", BUDGET)
def test_a_function_imports_only_what_its_requests_need(function: str) -> None:
    imported = {name.partition(".")[0] for name in ran(f"import functions.{function}; print(*sys.modules)").split()}

    never = NEVER if function == "metrics" else NEVER | METRICS
    assert imported & (BUDGET[function] | never) == set()


def test_an_import_reads_no_setting_and_no_secret_and_configures_no_logging() -> None:
    assert (
        ran("import functions.front; print(logging.root.handlers, logging.getLogger('stoker').handlers)") == "[] []\n"
    )


def ran(code: str) -> str:
    """Return the output of a new process in which every setting is missing or unusable."""
    wrong = dict.fromkeys(("DATABASE_URL", "LOG_FORMAT", "TRAINERS", "LAUNCHER", "STORAGE_TYPE"), "unusable")
    environment = {name: value for name, value in os.environ.items() if name != "JWT_SECRETS"} | wrong
    command = [sys.executable, "-c", f"import logging, sys; {code}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment).stdout


def test_every_function_has_a_budget() -> None:
    import functions.front

    assert {route.function for route in functions.front.ROUTES} == set(BUDGET)
