"""A job trains on one version of its dataset, identified by its ETag, whatever is uploaded later."""

import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from alembic import command
from sqlalchemy import text

from functions.api import tokens
from functions.domain.states import State
from functions.launchers import launching
from functions.reconcile import sweeping
from functions.store import migrate, queries
from functions.store.session import engine
from functions.store.tables import Job
from tests.conftest import BUCKET, api_headers, forget
from tests.integration.test_migrations import OLD_JOB, OLD_REJECTED
from tests.unit.vendors import CONTENT, ETAG, FIXTURES, KEY, STRUCTURED, record

pytestmark = pytest.mark.usefixtures("no_trainer_left")
#: the plan of a trainer that ends at once
IDLE = '{"calls": false}'
METADATA = {"stoker-framework": "stub", "stoker-model": "stub-1", "stoker-hyperparameters": IDLE}
GOOD = {"framework": "stub", "model_name": "stub-1", "dataset_id": "digits", "hyperparameters": {"calls": False}}
LONG_AGO = "datasets/before the upgrade.zip"


@pytest.fixture
def client(function: Callable[[str], Any]) -> Any:
    return function("create_job")


def jobs() -> list[Job]:
    return queries.jobs({}, cursor=None, limit=100)[0]


def rejected() -> list[str]:
    return [row.reason for row in queries.rejected_events(after=0, limit=100)[0]]


def put(s3: Any, key: str, content: bytes = b"x", **metadata: Any) -> str:
    """Upload a dataset, and return its ETag; ``epochs=2`` becomes its metadata ``stoker-epochs``."""
    object_metadata = METADATA | {f"stoker-{name}": str(value) for name, value in metadata.items()}
    return str(s3.put_object(Bucket=BUCKET, Key=key, Body=content, Metadata=object_metadata)["ETag"].strip('"'))


def notify(client: Any, key: str, etag: str | None, **changes: Any) -> None:
    """Deliver a notification in AWS' format, with the key exactly as given."""
    body = {"Records": [record(key=key, eTag=etag, versionId=None, **changes)]}
    assert client.post("/v1/jobs", json=body, headers=api_headers("datasets:notify")).status_code == 202


@pytest.mark.usefixtures("sqlite")
def test_a_requested_job_has_the_current_version_of_its_dataset(client: Any, s3: Any, dataset: str) -> None:
    first = client.post("/v1/jobs", json=GOOD, headers=api_headers()).json()
    changed = put(s3, "datasets/digits.zip", b"others")
    second = client.post("/v1/jobs", json=GOOD, headers=api_headers()).json()

    assert (first["dataset_etag"], second["dataset_etag"]) == (dataset, changed)
    environments = [launching.environment(queries.job(one["id"]), now=tokens.now()) for one in (first, second)]
    assert [one["DATASET_ETAG"] for one in environments] == [dataset, changed]


@pytest.mark.usefixtures("sqlite")
def test_a_job_whose_dataset_version_is_unknown_has_no_variable_for_it(a_job: Any) -> None:
    assert "DATASET_ETAG" not in launching.environment(queries.job(a_job()), now=tokens.now())


@pytest.mark.usefixtures("sqlite", "dataset")
def test_a_missing_dataset_is_named_by_its_key_and_creates_no_job(client: Any) -> None:
    answer = client.post("/v1/jobs", json=GOOD | {"dataset_id": "cats"}, headers=api_headers())

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "dataset_id")
    assert "datasets/cats.zip" in answer.json()["detail"]
    assert jobs() == []


@pytest.mark.usefixtures("sqlite")
def test_a_requested_version_must_be_the_current_one(client: Any, dataset: str) -> None:
    statuses, fields = [], []
    for etag in (dataset, f'"{dataset}"', "0" * 32, "ü"):
        answer = client.post("/v1/jobs", json=GOOD | {"dataset_etag": etag}, headers=api_headers())
        statuses.append(answer.status_code)
        fields += [one["field"] for one in answer.json().get("errors", [])]

    assert (statuses, fields) == ([201, 201, 422, 422], ["dataset_etag"] * 2)
    assert {job.dataset_etag for job in jobs()} == {dataset}


@pytest.mark.usefixtures("sqlite", "dataset")
def test_a_repeated_request_is_answered_with_its_job_whatever_became_of_the_dataset(
    client: Any, s3: Any, environment: pytest.MonkeyPatch
) -> None:
    headers = api_headers(**{"Idempotency-Key": "order-7"})
    first = client.post("/v1/jobs", json=GOOD, headers=headers)
    s3.delete_object(Bucket=BUCKET, Key="datasets/digits.zip")
    second = client.post("/v1/jobs", json=GOOD, headers=headers)
    environment.setenv("MINIO_ENDPOINT", "http://127.0.0.1:9")
    forget()
    third = client.post("/v1/jobs", json=GOOD, headers=headers)

    assert [answer.status_code for answer in (first, second, third)] == [201, 200, 200]
    assert len({answer.json()["id"] for answer in (first, second, third)}) == 1


@pytest.mark.usefixtures("sqlite", "dataset")
def test_an_unreachable_storage_is_503_and_creates_no_job(client: Any, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MINIO_ENDPOINT", "http://127.0.0.1:9")
    forget()

    answer = client.post("/v1/jobs", json=GOOD, headers=api_headers())
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert jobs() == []


@pytest.mark.usefixtures("sqlite", "dataset")
def test_an_event_that_requests_a_job_of_no_dataset_is_on_record(client: Any) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "dev.stoker.job.create"}
    body = json.dumps(event | {"data": GOOD | {"dataset_id": "cats"}})
    answer = client.post("/", content=body, headers=api_headers(**STRUCTURED))

    assert (answer.status_code, jobs()) == (202, [])
    assert ["datasets/cats.zip" in reason for reason in rejected()] == [True]


@pytest.mark.usefixtures("sqlite")
def test_a_late_notification_does_not_affect_a_newer_version(client: Any, s3: Any) -> None:
    """Both versions were uploaded while the functions were away; the notifications come in any order, and twice."""
    first = put(s3, "datasets/cats.zip", b"one", epochs=2)
    second = put(s3, "datasets/cats.zip", b"two", epochs=9)
    for etag in (first, second, first, second):
        notify(client, "datasets%2Fcats.zip", etag)

    assert [(job.dataset_etag, job.epochs) for job in jobs()] == [(second, 9)]
    assert [("datasets/cats.zip" in reason, first in reason, "overwritten" in reason) for reason in rejected()] == [
        (True, True, True)
    ]


@pytest.mark.usefixtures("sqlite")
def test_a_dataset_deleted_before_its_notification_is_on_record(client: Any, s3: Any) -> None:
    etag = put(s3, "datasets/cats.zip")
    s3.delete_object(Bucket=BUCKET, Key="datasets/cats.zip")
    notify(client, "datasets%2Fcats.zip", etag)

    assert jobs() == []
    assert ["datasets/cats.zip" in reason and "deleted" in reason for reason in rejected()] == [True]


@pytest.mark.usefixtures("sqlite")
def test_a_repeated_notification_of_an_overwritten_version_that_has_its_job_changes_nothing(
    client: Any, s3: Any
) -> None:
    first = put(s3, "datasets/a b.zip", b"one", epochs=2)
    notify(client, "datasets%2Fa+b.zip", first)
    put(s3, "datasets/a b.zip", b"two", epochs=9)
    notify(client, "datasets%2Fa+b.zip", first)

    assert [(job.dataset_etag, job.epochs) for job in jobs()] == [(first, 2)]
    assert rejected() == []


@pytest.mark.usefixtures("sqlite")
def test_bytes_that_were_overwritten_and_come_back_have_their_job_also_by_sweep(
    client: Any, s3: Any, now: datetime
) -> None:
    first = put(s3, "datasets/cats.zip", b"one")
    put(s3, "datasets/cats.zip", b"two")
    notify(client, "datasets%2Fcats.zip", first)
    put(s3, "datasets/cats.zip", b"one")
    sweeping.run(now=now + timedelta(minutes=2))

    assert [job.dataset_etag for job in jobs()] == [first]
    assert len(rejected()) == 1


@pytest.mark.usefixtures("sqlite")
@pytest.mark.parametrize("name", ["a+b", "a%20b", "a=b @ 1+1"])
def test_a_key_that_a_storage_sends_as_it_is_makes_no_job_of_another_dataset(client: Any, s3: Any, name: str) -> None:
    put(s3, "datasets/a b.zip", b"of spaces", epochs=2)
    etag = put(s3, f"datasets/{name}.zip", b"of others", epochs=9)
    notify(client, f"datasets/{name}.zip", etag)

    made = [(job.dataset_id, job.epochs) for job in jobs()]
    # A name that no job can have is on record.
    assert made == [(name, 9)] or (
        made == [] and any(f"datasets/{name}.zip" in row or "dataset_id" in row for row in rejected())
    )


@pytest.mark.usefixtures("sqlite")
def test_a_key_that_a_storage_encodes_is_that_dataset_though_one_has_the_encoded_name(client: Any, s3: Any) -> None:
    etag = put(s3, "datasets/a b.zip", b"of spaces", epochs=2)
    put(s3, "datasets/a+b.zip", b"of others", epochs=9)
    notify(client, "datasets%2Fa+b.zip", etag)
    notify(client, "datasets/a+b.zip", etag)

    assert [(job.dataset_id, job.epochs) for job in jobs()] == [("a b", 2)]
    assert rejected() == []


@pytest.mark.usefixtures("sqlite")
def test_a_notification_without_an_etag_makes_the_job_that_sweep_would_make(
    client: Any, s3: Any, now: datetime
) -> None:
    etag = put(s3, "datasets/cats.zip")
    notify(client, "datasets%2Fcats.zip", None)
    notify(client, "datasets%2Fcats.zip", etag)
    sweeping.run(now=now + timedelta(minutes=2))

    assert [job.dataset_etag for job in jobs()] == [etag]
    assert rejected() == []


@pytest.mark.usefixtures("sqlite")
def test_the_object_says_what_its_job_is_and_not_who_notifies(client: Any, s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=CONTENT, Metadata=METADATA | {"stoker-epochs": "2"})
    body = json.loads(FIXTURES["minio_put"])
    body["Records"][0]["s3"]["object"]["userMetadata"] = {
        "X-Amz-Meta-Stoker-Epochs": "100000",
        "X-Amz-Meta-Stoker-Task": "predict",
    }
    client.post("/v1/jobs", json=body, headers=api_headers("datasets:notify"))

    assert [(job.epochs, job.task, job.dataset_etag) for job in jobs()] == [(2, "train", ETAG)]


@pytest.mark.usefixtures("sqlite")
def test_the_same_bytes_with_other_settings_are_on_record_with_the_job_that_they_made(client: Any, s3: Any) -> None:
    etag = put(s3, "datasets/cats.zip", epochs=2)
    notify(client, "datasets%2Fcats.zip", etag)
    put(s3, "datasets/cats.zip", epochs=9)
    for _ in range(2):
        notify(client, "datasets%2Fcats.zip", etag)

    (job,) = jobs()
    assert job.epochs == 2
    assert [(job.id in reason, "datasets/cats.zip" in reason, "POST /v1/jobs" in reason) for reason in rejected()] == [
        (True, True, True)
    ]


BROKEN = {
    "a wrong secret": ("MINIO_SECRET_KEY", "mistyped", "MINIO_SECRET_KEY"),
    "an unknown key": ("MINIO_ACCESS_KEY", "mistyped", "MINIO_ACCESS_KEY"),
    "no such bucket": ("STORAGE_BUCKET", "mistyped", "STORAGE_BUCKET"),
}


@pytest.mark.usefixtures("sqlite", "dataset")
@pytest.mark.parametrize(("variable", "value", "named"), BROKEN.values(), ids=BROKEN)
def test_a_configuration_error_is_503_on_every_path_and_loses_nothing(  # noqa: PLR0913, PLR0917 -- fixtures
    function: Any, s3: Any, environment: pytest.MonkeyPatch, a_job: Any, now: datetime,
    variable: str, value: str, named: str,
) -> None:  # fmt: skip
    job_id = a_job(State.SUCCEEDED, now=now)
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=CONTENT, Metadata=METADATA)
    client, notified = function("create_job"), json.loads(FIXTURES["aws_put"])
    notified["Records"][0]["s3"]["bucket"]["name"] = value if variable == "STORAGE_BUCKET" else BUCKET
    environment.setenv(variable, value)
    forget()

    calls: list[Callable[[], Any]] = [
        lambda: client.post("/v1/jobs", json=GOOD, headers=api_headers()),
        lambda: client.post("/v1/jobs", json=notified, headers=api_headers("datasets:notify")),
        lambda: function("jobs").get(f"/v1/jobs/{job_id}/artifacts", headers=api_headers()),
    ]
    for call in calls:
        answer = call()
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5"), answer.content
        assert named in answer.json()["detail"]
    # SeaweedFS makes a bucket of whatever is written to.
    environment.setenv("RETENTION_DAYS", "0" if variable == "STORAGE_BUCKET" else "1")
    forget()
    sweeping.run(now=now + timedelta(days=2))
    assert queries.archive_key(job_id) is None
    assert [job.id for job in jobs()] == [job_id]
    assert rejected() == []

    good = {"MINIO_SECRET_KEY": "test-secret-key", "MINIO_ACCESS_KEY": "test-key", "STORAGE_BUCKET": BUCKET}
    environment.setenv(variable, good[variable])
    forget()
    sweeping.run(now=now + timedelta(days=2, minutes=2))
    assert {job.dataset_id for job in jobs()} == {"digits", "a b+ü"}


def word(dice: random.Random) -> str:
    """Return a word of Chinese that no index of PostgreSQL can hold."""
    return "".join(chr(dice.randrange(0x4E00, 0x9FFF)) for _ in range(1000))


@pytest.mark.usefixtures("database_url", "dataset")
def test_an_event_with_a_long_id_in_any_script_makes_its_job_once(client: Any) -> None:
    dice = random.Random(1)
    event = {
        "specversion": "1.0",
        "id": word(dice),
        "source": word(dice),
        "type": "dev.stoker.job.create",
        "data": GOOD,
    }
    for _ in range(2):
        answer = client.post("/", content=json.dumps(event), headers=api_headers(**STRUCTURED))
        assert answer.status_code == 202

    assert len(jobs()) == 1
    assert len(jobs()[0].identity or "") == 64


@pytest.mark.usefixtures("database_url", "dataset")
def test_a_key_of_an_event_or_request_may_be_as_long_as_its_header_allows(
    client: Any, function: Any, a_job: Any
) -> None:
    dice = random.Random(2)
    key = "".join(chr(dice.randrange(0xA1, 0xFF)) for _ in range(256)).replace("\xad", "x")
    first, again = (client.post("/v1/jobs", json=GOOD, headers={**api_headers(), "Idempotency-Key": key}) for _ in "12")
    job_id = a_job(State.RUNNING)
    token = {"Authorization": "Bearer " + tokens.mint_callback(job_id, 3600, now=tokens.now())}
    event_response = function("event").post(
        f"/v1/jobs/{job_id}/event", json={"type": "log"}, headers={**token, "ce-id": key, "ce-source": key}
    )

    assert [first.status_code, again.status_code, event_response.status_code] == [201, 200, 200]


@pytest.mark.usefixtures("database_url")
def test_an_upload_of_before_the_upgrade_is_the_same_job_when_it_is_notified_again_and_to_sweep(
    client: Any, s3: Any, now: datetime
) -> None:
    etag = put(s3, LONG_AGO)
    refused = put(s3, "datasets/refused.zip", epochs="many")
    command.downgrade(migrate.configuration(), "0003")
    with engine().begin() as connection:
        identity = json.dumps(["upload", BUCKET, LONG_AGO, etag])
        connection.execute(OLD_JOB, {"id": "old", "identity": identity, "at": now})
        connection.execute(text("UPDATE job SET spec = :spec"), {"spec": json.dumps({
            "framework": "stub", "model_name": "stub-1", "dataset_id": "before the upgrade", "hyperparameters": {"calls": False},
        })})  # fmt: skip
        identity = json.dumps(["upload", BUCKET, "datasets/refused.zip", refused])
        connection.execute(OLD_REJECTED, {"identity": identity, "at": now})
    command.upgrade(migrate.configuration(), "head")
    forget()

    notify(client, LONG_AGO.replace("/", "%2F").replace(" ", "+"), etag)
    sweeping.run(now=now + timedelta(minutes=2))
    assert [(job.id, job.dataset_etag) for job in jobs()] == [("old", etag)]
    assert rejected() == ["r"]
