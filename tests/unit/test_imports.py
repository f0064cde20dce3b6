"""What each function may import before its first request: a cold start pays for all of it."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT, SECRET

ORM = {"sqlalchemy", "sqlmodel", "pydantic"}
#: imported by the first request that needs them: storage, launchers, the sink
LATER = {"boto3", "botocore", "kubernetes", "yaml", "urllib3", "requests", "psutil"}
NEVER = {"alembic", "cryptography", "httpx", "rich", "typer", "numpy"}
BUDGET = {
    "heartbeat": LATER,
    "event": LATER,
    "done": LATER,
    "jobs": LATER,
    "presign": LATER,
    "cancel": LATER,
    "create_job": LATER,
    "sweep": LATER,
    "uploads": ORM | LATER | {"psycopg"},
    "dead_letter": LATER,
}


@pytest.mark.parametrize("function", BUDGET)
def test_a_function_imports_only_what_its_own_path_needs(function: str) -> None:
    code = f"import sys; import functions.{function}; print('\\n'.join(sys.modules))"
    environment = {**os.environ, "JWT_SECRETS": f"test:{SECRET}"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )

    imported = {name.partition(".")[0] for name in result.stdout.split()}
    assert imported & (BUDGET[function] | NEVER) == set()


def test_every_function_has_a_budget() -> None:
    import functions.front

    assert {route.function for route in functions.front.ROUTES} == set(BUDGET)
