"""create-job, through functions-framework as callers, Brokers and storages meet it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

from functions.api import tokens
from functions.store import queries
from tests.conftest import BUCKET, SECRET, api_headers, callback_headers, forget, seconds
from tests.unit.test_notifications import OTHERS, UPLOADS
from tests.unit.vendors import CONTENT, ETAG, FIXTURES, KEY, PLAIN

pytestmark = pytest.mark.usefixtures("sqlite", "dataset", "no_trainer_left")
GOOD = {"framework": "stub", "model_name": "stub-1", "dataset_id": "digits", "hyperparameters": {"calls": False}}


@pytest.fixture
def client(function: Callable[[str], Any]) -> Any:
    return function("create_job")


def jobs() -> list[Any]:
    return queries.jobs({}, cursor=None, limit=100)[0]


def rejected() -> list[Any]:
    return queries.rejected_events(after=0, limit=100)[0]


def test_a_request_becomes_a_job_that_is_launched(client: Any) -> None:
    answer = client.post("/v1/jobs", json=GOOD | {"epochs": 3}, headers=api_headers())

    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
    assert {name: answer.json()[name] for name in ("state", "framework", "dataset_id", "epochs", "attempt")} == {
        "state": "QUEUED",
        "framework": "stub",
        "dataset_id": "digits",
        "epochs": 3,
        "attempt": 0,
    }


@pytest.mark.parametrize("has_own", [False, True])
def test_a_model_in_another_case_is_the_declared_one_unless_weights_have_this_name(
    client: Any, s3: Any, tmp_path: Path, *, has_own: bool
) -> None:
    registry = json.loads((tmp_path / "trainers.json").read_text())
    registry["stub"] |= {"models": ["*"], "declaration": {"models": ["*.pt", "yolo11n.pt"]}}
    (tmp_path / "trainers.json").write_text(json.dumps(registry))
    forget()
    if has_own:
        s3.put_object(Bucket=BUCKET, Key="models/YOLO11n.pt", Body=b"weights")

    response = client.post("/v1/jobs", json=GOOD | {"model_name": "YOLO11n.pt"}, headers=api_headers())

    assert response.json()["model_name"] == ("YOLO11n.pt" if has_own else "yolo11n.pt")


@pytest.fixture
def declared(tmp_path: Path) -> None:
    """Let the stub declare two models, and that others need their weights in the bucket."""
    registry = json.loads((tmp_path / "trainers.json").read_text())
    models = {"models": ["*.pt", "yolo11n.pt", "yolo11m.pt", "yolov5n.pt"], "bucket_models": ["*.pt"]}
    registry["stub"] |= {"models": ["*"], "declaration": models}
    (tmp_path / "trainers.json").write_text(json.dumps(registry))
    forget()


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize("model", ["yolo11n.pt", "YOLO11N.pt", "yolov5n.pt", "mine/cats.pt"])
def test_a_model_that_is_declared_or_whose_weights_are_in_the_bucket_is_taken(client: Any, s3: Any, model: str) -> None:
    s3.put_object(Bucket=BUCKET, Key="models/mine/cats.pt", Body=b"weights")

    assert client.post("/v1/jobs", json=GOOD | {"model_name": model}, headers=api_headers()).status_code == 201


@pytest.mark.usefixtures("declared")
def test_weights_that_are_neither_declared_nor_in_the_bucket_are_refused_with_the_nearest_names(client: Any) -> None:
    def refused(model: str) -> Any:
        return client.post("/v1/jobs", json=GOOD | {"model_name": model}, headers=api_headers()).json()["errors"]

    assert refused("yolo11nn.pt") == [
        {
            "field": "model_name",
            "detail": "stub has no model yolo11nn.pt, and the bucket has no models/yolo11nn.pt; "
            "do you mean yolo11n.pt or yolo11m.pt or yolov5n.pt?",
        }
    ]
    assert refused("cats.pt")[0]["detail"].endswith("no models/cats.pt; put the weights there, or use another model")


@pytest.mark.usefixtures("declared")
def test_weights_of_a_model_are_not_looked_for_if_the_job_names_others_which_have_to_exist(
    client: Any, s3: Any
) -> None:
    s3.put_object(Bucket=BUCKET, Key="models/own.pt", Body=b"weights")
    job = GOOD | {"model_name": "gone.pt"}
    taken = client.post("/v1/jobs", json=job | {"checkpoint_key": "models/own.pt"}, headers=api_headers())
    refused = client.post("/v1/jobs", json=job | {"checkpoint_key": "models/none.pt"}, headers=api_headers())

    assert taken.status_code == 201
    assert [error["field"] for error in refused.json()["errors"]] == ["checkpoint_key"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"framework": "keras"}, "framework"),
        ({"framework": ""}, "framework"),
        ({"model_name": "yolo11n.yaml"}, "model_name"),
        ({"model_name": "stub/../x"}, "model_name"),
        ({"epochs": 0}, "epochs"),
        ({"epochs": 10**9}, "epochs"),
        ({"epochs": "10"}, "epochs"),
        ({"epochs": 1.5}, "epochs"),
        ({"epochs": True}, "epochs"),
        ({"learning_rate": -1}, "learning_rate"),
        ({"dataset_id": "a/b"}, "dataset_id"),
        ({"dataset_id": ".."}, "dataset_id"),
        ({"dataset_id": "a..b"}, "dataset_id"),
        ({"dataset_id": "a\nb"}, "dataset_id"),
        ({"dataset_id": "a\0b"}, "dataset_id"),
        ({"dataset_id": "x" * 201}, "dataset_id"),
        ({"dataset_id": None}, "dataset_id"),
        ({"checkpoint_key": "../secrets"}, "checkpoint_key"),
        ({"checkpoint_key": "/etc/passwd"}, "checkpoint_key"),
        ({"task": "evaluate"}, "task"),
        ({"task": "predict"}, "checkpoint_key"),
        ({"device": "cuda; rm -rf /"}, "device"),
        ({"gpus": -1}, "gpus"),
        ({"gpu_type": "a b"}, "gpu_type"),
        ({"queue": "-"}, "queue"),
        ({"hyperparameters": []}, "hyperparameters"),
        ({"attempt_limit": 0}, "attempt_limit"),
        ({"longest_running_seconds": 10**12}, "longest_running_seconds"),
        ({"created_at": "2999-01-01T00:00:00Z"}, "created_at"),
        ({"epoch": 3}, "epoch"),
    ],
    ids=str,
)
def test_a_field_that_cannot_be_used_is_named_and_nothing_is_written(
    client: Any, change: dict[str, Any], field: str
) -> None:
    answer = client.post("/v1/jobs", json=GOOD | change, headers=api_headers())

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert len(answer.json()["trace_id"]) == 32
    assert jobs() == []


def test_a_request_is_validated_without_its_dataset_and_makes_no_job(client: Any) -> None:
    def validated(**change: Any) -> Any:
        return client.post("/v1/validate", json=GOOD | {"dataset_id": "later"} | change, headers=api_headers())

    assert (validated().status_code, validated().content) == (204, b"")
    changes: list[dict[str, Any]] = [{"device": "cuda"}, {"gpus": 64}, {"hyperparameters": []}, {"dataset_id": "a/b"}]
    for change in changes:
        refused = validated(**change)
        assert (refused.status_code, [error["field"] for error in refused.json()["errors"]]) == (422, list(change))
    assert client.post("/v1/validate", json=GOOD, headers=api_headers("jobs:read")).status_code == 403
    assert jobs() == []


def test_a_check_needs_no_gpu_and_no_model(client: Any, tmp_path: Path) -> None:
    registry = json.loads((tmp_path / "trainers.json").read_text())
    registry["stub"]["command"]["check"] = registry["stub"]["command"]["train"]
    (tmp_path / "trainers.json").write_text(json.dumps(registry))
    forget()
    change = {"task": "check", "model_name": "no-model-of-it", "gpus": 4, "gpu_type": "H100", "nodes": 2, "device": "0"}
    answer = client.post("/v1/jobs", json=GOOD | change, headers=api_headers())

    assert (answer.status_code, answer.json()["task"]) == (201, "check")
    assert not {"gpus", "gpu_type", "nodes", "device"} & answer.json()["spec"].keys()


@pytest.mark.parametrize("missing", ["framework", "model_name", "dataset_id"])
def test_a_field_that_is_missing_is_named(client: Any, missing: str) -> None:
    requested = {name: value for name, value in GOOD.items() if name != missing}
    if missing == "framework":
        requested["model_name"] = "of no framework"
    answer = client.post("/v1/jobs", json=requested, headers=api_headers())

    assert [error["field"] for error in answer.json()["errors"]] == [missing]


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 422),
        (b"[]", "application/json", 422),
        (b"nonsense", "application/json", 422),
        (b'{"epochs": NaN}', "application/json", 422),
        (b'{"dataset_id": "\xff\xfe"}', "application/json", 422),
        (b'{"dataset_id": "\\ud800"}', "application/json", 422),
        (b'{"hyperparameters":' + b"[" * 20_000, "application/json", 422),
        (b"framework=stub", "application/x-www-form-urlencoded", 415),
        (b"<job/>", "application/xml", 415),
        (b'{"framework": "' + b"x" * 70_000 + b'"}', "application/json", 413),
        (b"x" * 10_000_000, "application/json", 413),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_body_that_cannot_be_read_is_refused_with_a_reason(
    client: Any, body: bytes, content_type: str, status: int
) -> None:
    answer = client.post("/v1/jobs", content=body, headers={"Content-Type": content_type, **api_headers()})

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["detail"]
    assert jobs() == []


def token(**changes: Any) -> str:
    now = tokens.now()
    claims = {"iss": "stoker", "aud": "api", "sub": "x", "scope": "jobs:write", "iat": now, "exp": now + seconds(60)}
    secret, algorithm, kid = (changes.pop(name, default) for name, default in TOKEN)
    return jwt.encode(claims | changes, secret, algorithm, headers={"kid": kid})


TOKEN = (("secret", SECRET), ("algorithm", "HS256"), ("kid", "test"))


@pytest.mark.parametrize(
    "authorization",
    [
        lambda: "",
        lambda: "Basic dGVzdDp0ZXN0",
        lambda: "Bearer",
        lambda: "Bearer not.a.token",
        lambda: "Bearer \xff\xfe.\xff.\xff",
        lambda: f"Bearer {token(secret='another secret of thirty-two bytes or more')}",
        lambda: f"Bearer {token(secret='', algorithm='none')}",
        lambda: f"Bearer {token(kid='old')}",
        lambda: f"Bearer {token(aud='callback')}",
        lambda: f"Bearer {token(iss='somebody')}",
        lambda: f"Bearer {token(exp=tokens.now() - seconds(60))}",
        lambda: f"Bearer {token(iat=tokens.now() + seconds(2 * 3600))}",
        lambda: f"Bearer {token()[:-4]}",
        lambda: callback_headers("some-job")["Authorization"],
    ],
)
def test_a_caller_without_a_valid_token_is_refused(client: Any, authorization: Callable[[], str]) -> None:
    answer = client.post("/v1/jobs", json=GOOD, headers={"Authorization": authorization()})

    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert (answer.headers["content-type"], bool(answer.json()["detail"])) == ("application/problem+json", True)
    assert jobs() == []


@pytest.mark.parametrize("scope", ["jobs:read", "datasets:notify"])
def test_a_token_without_the_scope_to_write_makes_no_job(client: Any, scope: str) -> None:
    answer = client.post("/v1/jobs", json=GOOD, headers=api_headers(scope))

    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert "jobs:write" in answer.json()["detail"]
    assert jobs() == []


def test_the_same_idempotency_key_is_the_same_job_and_refuses_another_body(client: Any) -> None:
    headers = api_headers(**{"Idempotency-Key": "order-7"})
    first, again = (client.post("/v1/jobs", json=GOOD, headers=headers) for _ in range(2))
    other = client.post("/v1/jobs", json=GOOD | {"epochs": 5}, headers=headers)

    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 422)
    assert first.json()["id"] == again.json()["id"]
    assert other.json()["errors"][0]["field"] == "Idempotency-Key"
    assert len(jobs()) == 1


def test_no_key_makes_a_new_job_each_time(client: Any) -> None:
    assert {client.post("/v1/jobs", json=GOOD, headers=api_headers()).status_code for _ in range(2)} == {201}
    assert len(jobs()) == 2


def test_an_unknown_path_or_method_is_refused(client: Any) -> None:
    assert client.post("/v1/jobs/../../etc", json=GOOD, headers=api_headers()).status_code == 404
    assert client.get("/v1/jobs", headers=api_headers()).status_code == 405
    assert client.get("/healthz").status_code == 200


METADATA = {"stoker-framework": "stub", "stoker-model": "stub-1", "stoker-hyperparameters": '{"calls": false}'}


@pytest.mark.parametrize(("name", "headers"), UPLOADS)
def test_every_storages_notification_makes_its_job(client: Any, s3: Any, name: str, headers: dict[str, str]) -> None:
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=CONTENT, Metadata=METADATA)
    answer = client.post("/v1/jobs", content=FIXTURES[name], headers=headers | api_headers("datasets:notify"))

    assert (answer.status_code, answer.content) == (202, b"")
    assert [(job.dataset_id, job.dataset_etag) for job in jobs()] == [("a b+ü", ETAG)]
    assert rejected() == []


def notify(client: Any, body: bytes) -> None:
    headers = api_headers("datasets:notify", **PLAIN)
    assert client.post("/v1/jobs", content=body, headers=headers).status_code == 202


@pytest.mark.parametrize("name", OTHERS)
def test_notifications_that_are_no_uploads_are_accepted_and_create_no_job(client: Any, name: str) -> None:
    answer = client.post(
        "/v1/jobs",
        content=FIXTURES[name],
        headers={"Content-Type": "application/json", **api_headers("datasets:notify")},
    )

    assert (answer.status_code, answer.content) == (202, b"")
    assert jobs() == []


def test_an_upload_whose_metadata_cannot_be_used_is_on_record_with_the_field(client: Any, s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=CONTENT, Metadata=METADATA | {"stoker-epochs": "many"})
    for _ in range(2):
        notify(client, FIXTURES["minio_put"])

    assert [row.reason for row in rejected()] == ["datasets/a b+ü.zip: epochs: use a whole number from 1 to 100,000"]


def test_an_event_asks_for_a_job_once(client: Any) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "dev.stoker.job.create", "data": GOOD}
    for _ in range(2):
        answer = client.post("/", json=event, headers={"Content-Type": "application/cloudevents+json", **api_headers()})
        assert (answer.status_code, answer.content) == (202, b"")

    assert len(jobs()) == 1


def nested(depth: int) -> Any:
    """Return arrays in an object in a request's object, so deep in all."""
    value: Any = []
    for _ in range(depth - 3):
        value = [value]
    return {"calls": False, "x": value}


def test_what_is_nested_deeper_than_32_levels_is_refused_before_anything_is_written(client: Any) -> None:
    assert (
        client.post("/v1/jobs", json=GOOD | {"hyperparameters": nested(32)}, headers=api_headers()).status_code == 201
    )
    for depth in (33, 500, 960, 980):
        content = (
            json.dumps(GOOD | {"hyperparameters": nested(depth)})
            if depth < 500
            else ('{"dataset_id": "digits", "hyperparameters": {"x": ' + "[" * depth + "]" * depth + "}}")
        )
        refused = client.post("/v1/jobs", content=content, headers=api_headers())
        assert refused.status_code == 422
        assert refused.json()["errors"] == [{"field": "body", "detail": "it is nested deeper than 32 levels"}]
    assert len(jobs()) == 1


@pytest.mark.parametrize("text", ["é", "日", "x", "\u0001"])
def test_hyperparameters_that_do_not_fit_an_environment_are_refused(client: Any, text: str) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "dev.stoker.job.create"}
    large = GOOD | {"hyperparameters": {"calls": False, "words": text * 70_000}}
    answer = client.post(
        "/",
        content=json.dumps(event | {"data": large}, ensure_ascii=False),
        headers=api_headers() | {"Content-Type": "application/cloudevents+json"},
    )

    assert answer.status_code == 202
    assert [row.reason for row in rejected()] == ["event 1 of /shop: hyperparameters: use at most 65,536 bytes of JSON"]


def test_hyperparameters_of_a_full_body_start_a_trainer_whatever_they_are_written_in(client: Any) -> None:
    content = json.dumps(GOOD | {"hyperparameters": {"calls": False, "words": "é" * 30_000}}, ensure_ascii=False)
    answer = client.post("/v1/jobs", content=content, headers=api_headers())

    assert (answer.status_code, answer.json()["message"]) == (201, None)


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"task": "evaluate"}, "use one of check, predict, train"),
        ({"device": "gpu"}, "use cpu, mps, or the numbers of GPUs, such as 0,1"),
        ({"model_name": "a//b"}, "use a key of 1 to 900 characters, names joined by single slashes, without .., backslashes or control characters, that does not begin with a dot, a dash or a space"),
        ({"epochs": "many"}, "use a whole number from 1 to 100,000"),
        ({"learning_rate": 0}, "use a number, more than 0 and at most 1,000"),
        ({"queue": "a b"}, "use 1 to 63 letters, digits, dots, dashes and underscores, the first and last a letter or digit"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_allowed_values(client: Any, change: dict[str, Any], detail: str) -> None:
    answer = client.post("/v1/jobs", json=GOOD | change, headers=api_headers())

    assert [error["detail"] for error in answer.json()["errors"]] == [detail]
