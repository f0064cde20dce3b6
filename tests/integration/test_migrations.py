"""The migrations create exactly the declared tables."""

import hashlib
import json
import subprocess
import sys
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlmodel import SQLModel

from functions.domain import identities
from functions.store import jobs, migrate, queries, views
from functions.store.session import engine
from tests.conftest import NOW, api_headers

OLD_JOB = text(
    "INSERT INTO job (id, identity, state, framework, task, dataset_id, model_name, spec, trace_id, attempt,"
    " attempt_limit, launch, sequence, metrics, artifacts, created_at) VALUES (:id, :identity, 'PENDING', 'stub', 'train',"
    " 'digits', 'stub-1', '{}', '0', 0, 1, 1, 1, '{}', '[]', :at)"
)
OLD_REJECTED = text("INSERT INTO rejected_event (identity, reason, body, at) VALUES (:identity, 'r', 'b', :at)")


@pytest.mark.usefixtures("database_url")
def test_migrations_create_what_the_tables_say() -> None:
    with engine().connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, SQLModel.metadata) == []


@pytest.mark.usefixtures("database_url")
def test_each_migration_can_be_undone_and_done_again() -> None:
    command.downgrade(migrate.configuration(), "0001")
    command.upgrade(migrate.configuration(), "head")

    test_migrations_create_what_the_tables_say()


OLD = [
    (
        '["upload", "stoker", "datasets/\\u00fc\\ud83d\\ude00.zip", "9b2cf535f27731c974343645a3985328"]',
        "9b2cf535f27731c974343645a3985328",
    ),
    (
        '["upload", "stoker", "datasets/a.zip", "9b2cf535f27731c974343645a3985328-12"]',
        "9b2cf535f27731c974343645a3985328-12",
    ),
    # a version, where the notification had no ETag
    ('["upload", "stoker", "datasets/b.zip", "3HL4kqtJlcpXroDTDmJ.rmSpXd3dIbrH"]', None),
    ('["event", "/shop", "9b2cf535f27731c974343645a3985328"]', None),
    ('["idempotency-key", "ada", "order-7: 100%"]', None),
    (None, None),
]


@pytest.mark.usefixtures("database_url")
def test_jobs_of_earlier_releases_have_identities_as_digests_and_their_dataset_version() -> None:
    command.downgrade(migrate.configuration(), "0003")
    with engine().begin() as connection:
        for number, (identity, _) in enumerate(OLD):
            connection.execute(OLD_JOB, {"id": f"job{number}", "identity": identity, "at": NOW})
        for identity in (OLD[0][0], "d" * 64):
            connection.execute(OLD_REJECTED, {"identity": identity, "at": NOW})
    for _ in range(2):  # a digest is not digested again
        command.upgrade(migrate.configuration(), "head")
        command.downgrade(migrate.configuration(), "0003")
    command.upgrade(migrate.configuration(), "head")

    with engine().connect() as connection:
        stored = connection.execute(text("SELECT identity, dataset_etag FROM job ORDER BY id")).all()
        rejected = connection.execute(text("SELECT identity FROM rejected_event ORDER BY id")).scalars().all()
    digests = [identity and hashlib.sha256(identity.encode()).hexdigest() for identity, _ in OLD]
    assert [row[0] for row in stored] == digests
    assert stored[1][0] == identities.of_upload("stoker", "datasets/a.zip", "9b2cf535f27731c974343645a3985328-12")
    assert stored[3][0] == identities.of_event("/shop", "9b2cf535f27731c974343645a3985328")
    assert rejected == [digests[0], "d" * 64]


@pytest.mark.usefixtures("database_url")
def test_the_dataset_version_of_a_job_of_an_earlier_release_comes_from_its_upload() -> None:
    command.downgrade(migrate.configuration(), "0003")
    with engine().begin() as connection:
        for number, (identity, _) in enumerate(OLD):
            connection.execute(OLD_JOB, {"id": f"job{number}", "identity": identity, "at": NOW})
    command.upgrade(migrate.configuration(), "head")

    with engine().connect() as connection:
        stored = connection.execute(text("SELECT dataset_etag FROM job ORDER BY id")).scalars().all()
    assert stored == [etag for _, etag in OLD]


@pytest.mark.usefixtures("database_url")
def test_a_job_of_the_release_before_has_no_description_and_can_get_one() -> None:
    command.downgrade(migrate.configuration(), "0008")
    with engine().begin() as connection:
        connection.execute(OLD_JOB, {"id": "job1", "identity": None, "at": NOW})
    command.upgrade(migrate.configuration(), "head")
    with engine().begin() as connection:  # as functions of that release still do while others run the new one
        connection.execute(OLD_JOB, {"id": "job2", "identity": None, "at": NOW})

    for job_id in ("job1", "job2"):
        shown = views.job_json(queries.job(job_id))
        assert (shown["name"], shown["tags"], shown["notes"], shown["owner"]) == (None, [], None, None)
        jobs.describe(job_id, {"name": "Night", "tags": ["a"]})
    found, _ = queries.jobs({}, cursor=None, limit=9, search=queries.Search(name="NIGHT", tag="a"))
    assert {job.id for job in found} == {"job1", "job2"}


@pytest.mark.usefixtures("database_url")
def test_an_older_release_says_that_the_schema_is_newer_and_works_with_it(function: Any) -> None:
    """As after a roll back: the migration of a later release has added a column, an index and a table."""
    with engine().begin() as connection:
        connection.execute(text("ALTER TABLE job ADD COLUMN later VARCHAR"))
        connection.execute(text("CREATE INDEX job_by_later ON job (later)"))
        connection.execute(text("CREATE TABLE later (id VARCHAR PRIMARY KEY)"))
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    done = subprocess.run(
        [sys.executable, "-m", "functions.store.migrate"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (line,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert (line["schema"], line["severity"]) == ("9999", "WARNING")
    assert "newer than this release" in line["message"]

    with engine().begin() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"
        connection.execute(OLD_JOB, {"id": "job1", "identity": None, "at": NOW})
    response = function("cancel").post("/v1/jobs/job1/cancel", headers=api_headers())
    assert (response.status_code, response.json()["state"]) == (200, "CANCELLED")
    assert "later" not in response.json()


@pytest.mark.usefixtures("database_url")
def test_a_schema_that_no_release_knows_is_an_error() -> None:
    with engine().begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))

    done = subprocess.run(
        [sys.executable, "-m", "functions.store.migrate"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "0000" in done.stderr
