"""Heartbeats per second through one replica on PostgreSQL, each committed before its response."""

import itertools
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from functions.api import tokens
from functions.domain.states import State
from functions.store import heartbeats
from tests.bench.conftest import QUICK, Figure, by_turns
from tests.bench.load import CONNECTIONS, per_second, posts_per_second
from tests.conftest import callback_headers, eventually, free_ports, served_and_up

MLFLOW = "mlflow==3.17.2"
TURNS = 3 if QUICK else 11
#: calls of each connection in a turn
TIMES = 30 if QUICK else 300
MLFLOW_TIMES = 5 if QUICK else 20
METRICS = {"loss": 0.25, "mAP50": 0.75, "mAP50-95": 0.5}
Measure = Callable[[], float]

pytestmark = [
    pytest.mark.parametrize("database_url", ["postgresql"], indirect=True),
    pytest.mark.timeout(1800),
]


@pytest.fixture
def jobs(database_url: str, a_job: Callable[..., str]) -> list[str]:
    del database_url
    return [a_job(State.RUNNING) for _ in range(CONNECTIONS)]


@contextmanager
def through_a_replica(jobs: list[str]) -> Iterator[Measure]:
    beat = {"epoch": 3, "epochs": 8, "metrics": METRICS}
    requests = [(f"/v1/jobs/{job}/heartbeat", beat, callback_headers(job)) for job in jobs]
    with served_and_up("heartbeat") as address:
        yield partial(posts_per_second, address, requests, TIMES)


@contextmanager
def by_psycopg(database_url: str, jobs: list[str]) -> Iterator[Measure]:
    """Run the same two statements in a transaction, with one connection per thread."""
    of_postgresql = heartbeats._UPDATE.replace(heartbeats._MERGED, heartbeats._MERGED_AT_ONCE)
    insert, update = map(heartbeats._psycopg, (heartbeats._INSERT, of_postgresql))
    # PostgreSQL needs the type of a parameter that is not compared with a column at its first use.
    insert = insert.replace("SELECT %(job_id)s", "SELECT %(job_id)s::varchar")
    numbers = itertools.count()
    values: dict[str, Any] = {
        "attempt": None, "launch": None, "epoch": 3, "epochs": 8, "step": None, "eta_seconds": None, "metrics": json.dumps(METRICS),
        "ce_source": "/bench", "at": tokens.now().astimezone(UTC),
    }  # fmt: skip

    def beat(connection: psycopg.Connection, job: str) -> None:
        mine = values | {"job_id": job, "ce_id": f"{os.getpid()}-{next(numbers)}"}
        assert connection.execute(insert.encode(), mine).rowcount == 1
        assert connection.execute(update.encode(), mine).rowcount == 1
        connection.commit()

    with ExitStack() as stack:
        connections = [stack.enter_context(psycopg.connect(database_url)) for _ in jobs]
        beats: list[Callable[[], None]] = [
            partial(beat, connection, job) for connection, job in zip(connections, jobs, strict=True)
        ]
        yield partial(per_second, beats, TIMES)


@contextmanager
def through_mlflow(server: str, folder: Path) -> Iterator[Measure]:
    """MLflow's tracking server, logging the same metrics to the same PostgreSQL."""
    port = free_ports(1)[0]
    name = f"mlflow_{uuid4().hex}"
    with psycopg.connect(server.format("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    command = ["uv", "run", "--isolated", "--no-project", "--with", MLFLOW, "--with", "psycopg[binary]"]
    command += ["mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", server.format(name), "--artifacts-destination", str(folder / "artifacts")]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    with (folder / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=os.environ | quiet, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: is_healthy(address) or process.poll() is not None, within_seconds=600)
        assert process.poll() is None, (folder / "mlflow.log").read_text()[-2000:]
        runs = [mlflow_run(address) for _ in range(CONNECTIONS)]
        metrics = [{"key": key, "value": value, "timestamp": 0, "step": 3} for key, value in METRICS.items()]
        requests: list[tuple[str, object, dict[str, str]]] = [
            ("/api/2.0/mlflow/runs/log-batch", {"run_id": run, "metrics": metrics}, {}) for run in runs
        ]
        yield partial(posts_per_second, address, requests, MLFLOW_TIMES)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_healthy(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=2).is_success
    except httpx.TransportError:
        return False


def mlflow_run(address: str) -> str:
    requested = {"experiment_id": "0", "start_time": 0}
    answer = httpx.post(f"{address}/api/2.0/mlflow/runs/create", json=requested, timeout=60).raise_for_status()
    return str(answer.json()["run"]["info"]["run_id"])


def bench_heartbeats_a_second(jobs: list[str], database_url: str, report: Callable[[Figure], None]) -> None:
    with through_a_replica(jobs) as ours, by_psycopg(database_url, jobs) as bare:
        measured, baseline = by_turns(TURNS, ours, bare)
    name = f"heartbeats through one replica, {CONNECTIONS} trainers"
    report(Figure(name, "bare psycopg, same statements", "/s", measured, baseline, ">= 0.6"))


def bench_heartbeats_against_mlflow(
    jobs: list[str], postgresql_server: str, tmp_path: Path, report: Callable[[Figure], None]
) -> None:
    with through_a_replica(jobs) as ours, through_mlflow(postgresql_server, tmp_path) as theirs:
        measured, baseline = by_turns(TURNS, ours, theirs)
    name = f"heartbeats through one replica, same metrics, {CONNECTIONS} trainers"
    report(Figure(name, f"MLflow {MLFLOW.partition('==')[2]}, log-batch", "/s", measured, baseline, ">= 20"))
