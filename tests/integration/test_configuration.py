"""An operator's mistake: detected before a process is ready, answered with 503, and no upload is lost."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from functions.domain.errors import ConfigurationError
from functions.reconcile import sweeping
from functions.runtime import configuration
from functions.runtime.registry import trainers
from functions.store import queries
from tests.conftest import AWAY, BUCKET, ROOT, SECRET, api_headers, forget, served

pytestmark = pytest.mark.usefixtures("sqlite")
METADATA = {"stoker-framework": "stub", "stoker-model": "stub-1", "stoker-hyperparameters": '{"calls": false}'}
GOOD = {"framework": "stub", "model_name": "stub-1", "dataset_id": "digits"}

MISTAKES = [
    ({"TRAINERS": ""}, "TRAINERS: set it to the JSON file"),
    ({"TRAINERS": "/nowhere/nosuch.json"}, "TRAINERS: the file /nowhere/nosuch.json cannot be read: No such file"),
    ({"TRAINERS": str(ROOT)}, "cannot be read: Is a directory"),
    ({"DATABASE_URL": "mysql://me:hunter2@db/stoker"}, "DATABASE_URL: use sqlite:///<file> or postgresql://"),
    ({"DATABASE_URL": "sqlite:stoker.db"}, "DATABASE_URL: use sqlite:///<file>"),
    ({"JWT_SECRETS": ""}, "JWT_SECRETS: set it to kid:secret"),
    ({"JWT_SECRETS": "a:short"}, "JWT_SECRETS: the secret of kid 'a' is weak"),
    ({"MINIO_ENDPOINT": ""}, "no storage is set up: set MINIO_ENDPOINT"),
    ({"MINIO_ENDPOINT": "s3.example.com"}, "MINIO_ENDPOINT: use an address such as https://host:port"),
    ({"STORAGE_TYPE": "r2"}, "set R2_ENDPOINT, R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY"),
    ({"STORAGE_TYPE": "ftp"}, "STORAGE_TYPE: use one of minio, r2"),
    ({"STORAGE_BUCKET": ""}, "STORAGE_BUCKET: set it"),
    ({"HEARTBEAT_SECONDS": "often"}, "HEARTBEAT_SECONDS: use a number, more than 0"),
    ({"LOCAL_JOB_LIMIT": "0"}, "LOCAL_JOB_LIMIT: use a whole number, at least 1"),
    ({"DEFAULT_FRAMEWORK": "keras"}, "DEFAULT_FRAMEWORK: keras is not in TRAINERS; use stub"),
    ({"K_SINK": "broker:80"}, "K_SINK: use an address"),
    ({"K_SINK_TOKEN_FILE": "/nowhere/token"}, "K_SINK_TOKEN_FILE: the file /nowhere/token cannot be read"),
    ({"OIDC_ISSUER": "issuer"}, "OIDC_ISSUER: use an address"),
    ({"OIDC_ISSUER": "https://issuer", "OIDC_SCOPE": "job:write"}, "OIDC_SCOPE: use some of jobs:read"),
    ({"OIDC_ISSUER": "https://issuer", "OIDC_AUDIENCE": ""}, "OIDC_AUDIENCE: set it"),
    ({"SIGN_IN_CLIENT_ID": "console"}, "SIGN_IN_CLIENT_ID: set SIGN_IN_ISSUER too"),
    ({"SIGN_IN_CLIENT_SCOPE": "profile"}, "SIGN_IN_CLIENT_SCOPE: include openid"),
    ({"SIGN_IN_ISSUER": "https://issuer", "SIGN_IN_SCOPE": "admin"}, "SIGN_IN_SCOPE: use some of jobs:read"),
    ({"JOB_LINK_DAYS": "31"}, "JOB_LINK_DAYS"),
    ({"OIDC_CA_FILE": "/nowhere/ca.crt"}, "OIDC_CA_FILE: the file /nowhere/ca.crt cannot be read"),
]


@pytest.mark.parametrize(("variables", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_the_check_reports_an_error_and_prints_no_secret(
    environment: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    forget()

    with pytest.raises(ConfigurationError) as raised:
        configuration.check()
    assert message in str(raised.value)
    assert not any(secret in str(raised.value) for secret in ("hunter2", "short", AWAY["MINIO_SECRET_KEY"], SECRET))


@pytest.mark.parametrize(
    ("registry", "message"),
    [
        ('{"stub": ', "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "must hold a JSON object"),
        ('{"stub": {"imgae": "x"}}', "the trainer stub in .*: imgae: there is no such field; do you mean image\\?"),
        ('{"stub": {"declaration": "none.json"}}', "the declaration .*none.json cannot be used: No such file"),
        ('{"stub": {"declaration": {"models": 1}}}', "declaration.*"),
        ('{"stub": {"models": "*"}}', "the trainer stub in .*: models: use a list, each text"),
        ('{"stub": {"env": {"A=B": "x"}}}', "'A=B' is no environment variable"),
    ],
)
def test_a_registry_that_cannot_be_used_is_explained(tmp_path: Path, registry: str, message: str) -> None:
    (tmp_path / "trainers.json").write_text(registry)
    forget()

    with pytest.raises(ConfigurationError, match=message):
        trainers()


def test_all_errors_are_reported_at_once(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TRAINERS", "nosuch.json")
    environment.setenv("JWT_SECRETS", "")
    forget()

    with pytest.raises(ConfigurationError) as raised:
        configuration.check()
    assert [line.partition(":")[0] for line in str(raised.value).splitlines()] == ["JWT_SECRETS", "TRAINERS"]


def test_good_settings_pass() -> None:
    configuration.check()


@pytest.mark.parametrize("target", ["front", "heartbeat", "uploads"])
def test_a_server_with_a_mistake_does_not_start_and_says_why(
    environment: pytest.MonkeyPatch, tmp_path: Path, target: str
) -> None:
    environment.setenv("DATABASE_URL", "nosuch")
    source = ROOT / f"functions/{target}.py"
    with (tmp_path / "log").open("wb") as output, served(source, target, output=output) as (process, _):
        assert process.wait(60) == os.EX_CONFIG
    assert "DATABASE_URL: use" in (tmp_path / "log").read_text()


def test_a_process_with_a_mistake_is_not_ready(
    function: Callable[[str], Any], environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = function("create_job")
    assert client.get("/healthz").status_code == 200

    environment.setenv("TRAINERS", "nosuch.json")
    forget()
    assert client.get("/healthz").status_code == 503

    environment.setenv("TRAINERS", str(tmp_path / "trainers.json"))
    forget()
    assert client.get("/healthz").status_code == 200


def test_the_check_is_a_command(environment: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "functions.runtime.configuration"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0

    environment.setenv("TRAINERS", "nosuch.json")
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == os.EX_CONFIG
    assert refused.stderr == f"TRAINERS: the file {ROOT}/nosuch.json cannot be read: No such file or directory\n"


def notification(s3: Any, key: str) -> dict[str, Any]:
    """Upload a dataset, and return the storage's notification."""
    etag = s3.put_object(Bucket=BUCKET, Key=key, Body=b"x", Metadata=METADATA)["ETag"].strip('"')
    record = {"bucket": {"name": BUCKET}, "object": {"key": key, "eTag": etag}}
    return {"Records": [{"eventName": "ObjectCreated:Put", "s3": record}]}


@pytest.mark.usefixtures("no_trainer_left")
def test_an_upload_that_meets_a_broken_registry_is_503_and_becomes_a_job_once_it_is_mended(
    function: Callable[[str], Any],
    s3: Any,
    tmp_path: Path,
    now: datetime,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, registry = function("create_job"), tmp_path / "trainers.json"
    message, good = notification(s3, "datasets/cats.zip"), registry.read_text()

    registry.write_text(good[:-3])
    refused = client.post("/", json=message, headers=api_headers("datasets:notify"))
    sweeping.run(now=now + timedelta(minutes=5))
    assert (refused.status_code, refused.headers["Content-Type"]) == (503, "application/problem+json")
    assert refused.headers["Retry-After"]
    assert "TRAINERS: the file" in refused.json()["detail"]
    assert [(line.levelname, line.message) for line in caplog.records][:1] == [("ERROR", "misconfigured")]
    assert queries.rejected_events(after=0, limit=9)[0] == []
    assert queries.jobs({}, cursor=None, limit=9)[0] == []

    registry.write_text(good)
    sweeping.run(now=now + timedelta(minutes=6))
    assert client.post("/", json=message, headers=api_headers("datasets:notify")).status_code == 202
    assert [job.dataset_id for job in queries.jobs({}, cursor=None, limit=9)[0]] == ["cats"]


@pytest.mark.parametrize(
    "variables",
    [{"TRAINERS": "nosuch.json"}, {"DEFAULT_FRAMEWORK": "keras"}, {"DATABASE_URL": "mysql://db"}, {"JWT_SECRETS": ""}],
    ids=str,
)
def test_a_request_that_meets_a_mistake_is_503_and_writes_nothing(
    function: Callable[[str], Any], environment: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    client, headers, url = function("create_job"), api_headers(), os.environ["DATABASE_URL"]
    for name, value in variables.items():
        environment.setenv(name, value)
    forget()
    event = {"specversion": "1.0", "id": "1", "source": "/x", "type": "dev.stoker.job.create", "data": GOOD}
    answers = [
        client.post("/v1/jobs", json=GOOD, headers=headers),
        client.post(
            "/v1/jobs", content=json.dumps(event), headers=headers | {"Content-Type": "application/cloudevents+json"}
        ),
    ]

    assert [answer.status_code for answer in answers] == [503, 503]
    environment.setenv("DATABASE_URL", url)
    forget()
    assert queries.jobs({}, cursor=None, limit=9)[0] == []
    assert queries.rejected_events(after=0, limit=9)[0] == []


@pytest.mark.parametrize("mistake", [{"MINIO_ENDPOINT": "s3.example.com"}, {"MINIO_SECRET_KEY": ""}], ids=str)
def test_an_upload_that_meets_a_mistake_about_the_storage_is_503_and_not_rejected(
    function: Callable[[str], Any], environment: pytest.MonkeyPatch, s3: Any, now: datetime, mistake: dict[str, str]
) -> None:
    message = notification(s3, "datasets/cats.zip")
    for name, value in mistake.items():
        environment.setenv(name, value)
    forget()
    refused = function("create_job").post("/", json=message, headers=api_headers("datasets:notify"))
    sweeping.run(now=now + timedelta(minutes=5))

    assert (refused.status_code, next(iter(mistake)) in refused.json()["detail"]) == (503, True)
    assert queries.rejected_events(after=0, limit=9)[0] == []


def test_uploads_without_a_broker_is_503_and_says_what_to_set(function: Callable[[str], Any]) -> None:
    refused = function("uploads").post("/v1/uploads", json={}, headers=api_headers("datasets:notify"))

    assert refused.status_code == 503
    assert "K_SINK: set it to the address of the Broker" in refused.json()["detail"]


@pytest.mark.usefixtures("no_trainer_left")
def test_a_defect_that_one_upload_meets_keeps_no_other_from_its_job(
    environment: pytest.MonkeyPatch, s3: Any, now: datetime
) -> None:
    from functions.events import intake

    for name in ("a", "b", "c"):
        notification(s3, f"datasets/{name}.zip")
    upload = intake.upload

    def defective(raised: Any, *, now: datetime) -> Any:
        if raised.keys == ("datasets/b.zip",):
            raise ValueError("a defect")
        return upload(raised, now=now)

    environment.setattr(intake, "upload", defective)
    sweeping.run(now=now + timedelta(minutes=5))

    assert {job.dataset_id for job in queries.jobs({}, cursor=None, limit=9)[0]} == {"a", "c"}
    assert queries.rejected_events(after=0, limit=9)[0] == []


@pytest.mark.parametrize("target", ["heartbeat", "event", "done", "presign", "uploads", "dead_letter"])
def test_a_broken_registry_stops_no_function_that_does_not_read_it(
    environment: pytest.MonkeyPatch, target: str
) -> None:
    environment.setenv("TRAINERS", "none.json")
    environment.setenv("FUNCTION_TARGET", target)
    forget()

    configuration.check()


@pytest.mark.parametrize("target", ["create_job", "sweep", "jobs", "datasets", "front"])
def test_a_broken_registry_stops_the_functions_that_read_it(environment: pytest.MonkeyPatch, target: str) -> None:
    environment.setenv("TRAINERS", "none.json")
    environment.setenv("FUNCTION_TARGET", target)
    forget()

    with pytest.raises(ConfigurationError, match="TRAINERS"):
        configuration.check()
