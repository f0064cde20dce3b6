"""Fixtures are in ``tests/fixtures``, by subject; the helpers that tests call can be imported from here."""

import os

from infra.local.stopping import raise_on_signals
from tests.fixtures.databases import a_database, migrate
from tests.fixtures.environment import AWAY, BUCKET, NOW, ROOT, SECRET, eventually, forget, free_ports, seconds
from tests.fixtures.functions import Client, answering, is_up, served, served_and_up
from tests.fixtures.s3 import s3_client, s3_running
from tests.fixtures.store import call, claim, record_heartbeat
from tests.fixtures.tokens import api_headers, callback_headers

__all__ = [
    "AWAY",
    "BUCKET",
    "NOW",
    "ROOT",
    "SECRET",
    "Client",
    "a_database",
    "answering",
    "api_headers",
    "call",
    "callback_headers",
    "claim",
    "eventually",
    "forget",
    "free_ports",
    "is_up",
    "migrate",
    "record_heartbeat",
    "s3_client",
    "s3_running",
    "seconds",
    "served",
    "served_and_up",
]
pytest_plugins = [
    "tests.fixtures.environment",
    "tests.fixtures.databases",
    "tests.fixtures.s3",
    "tests.fixtures.store",
    "tests.fixtures.functions",
    "tests.fixtures.tokens",
    "tests.fixtures.laptop",
]

# The developer's own settings must not reach a test or the processes that it starts.
for name in list(os.environ):
    if name.split("_")[0] in {"STOKER", "DATABASE", "JWT", "MINIO", "R2", "STORAGE", "LOCAL", "OIDC", "K", "TRAINERS"}:
        del os.environ[name]
os.environ["JWT_SECRETS"] = f"test:{SECRET}"


def pytest_configure() -> None:
    """Reserve ports for this worker of pytest-xdist; tear down after SIGTERM as after Ctrl-C."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    size = 9_999 // count
    os.environ["STOKER_PORTS"] = f"{11_000 + number * size}-{11_000 + (number + 1) * size}"
    raise_on_signals()
