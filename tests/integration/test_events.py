"""Delivered events: handled independently, with the token's rights only; rejections are stored with a reason."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from functions.domain.states import State
from functions.events import sink
from functions.reconcile import sweeping
from functions.store import queries
from tests.conftest import BUCKET, api_headers, forget

pytestmark = pytest.mark.usefixtures("sqlite", "dataset", "no_trainer_left")
GOOD = {"framework": "stub", "model_name": "stub-1", "dataset_id": "digits", "hyperparameters": {"calls": False}}
CREATE = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "dev.stoker.job.create", "data": GOOD}
CANCEL = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "dev.stoker.job.cancel"}
METADATA = {"stoker-framework": "stub", "stoker-model": "stub-1", "stoker-hyperparameters": '{"calls": false}'}
NOTIFY = "datasets:notify"


@pytest.fixture
def client(function: Callable[[str], Any]) -> Any:
    return function("create_job")


def send(client: Any, event: Any, scope: str = "jobs:write", path: str = "/") -> Any:
    """Send one event in structured mode, or several as a batch."""
    mode = "cloudevents-batch+json" if isinstance(event, list) else "cloudevents+json"
    headers = api_headers(scope) | {"Content-Type": f"application/{mode}"}
    return client.post(path, content=json.dumps(event), headers=headers)


def datasets() -> list[str]:
    return sorted(job.dataset_id for job in queries.jobs({}, cursor=None, limit=100)[0])


def reasons() -> list[str]:
    return [row.reason for row in queries.rejected_events(after=0, limit=100)[0]]


def uploaded(s3: Any, key: str, metadata: dict[str, str] | None = None) -> dict[str, Any]:
    """Upload a dataset, and return the storage's notification."""
    etag = s3.put_object(Bucket=BUCKET, Key=key, Body=b"x", Metadata=metadata or METADATA)["ETag"].strip('"')
    record = {"bucket": {"name": BUCKET}, "object": {"key": key, "eTag": etag}}
    return {"Records": [{"eventName": "ObjectCreated:Put", "s3": record}]}


@pytest.fixture
def a_and_b(s3: Any) -> None:
    for name in ("a", "b"):
        s3.put_object(Bucket=BUCKET, Key=f"datasets/{name}.zip", Body=b"x")


def asks(id_: str, dataset_id: str) -> dict[str, Any]:
    return CREATE | {"id": id_, "data": GOOD | {"dataset_id": dataset_id}}


def test_a_token_for_notifications_creates_no_job_by_an_event(client: Any) -> None:
    structured = send(client, CREATE, NOTIFY)
    binary = client.post(
        "/",
        json=GOOD,
        headers=api_headers(NOTIFY) | {f"ce-{name}": str(value) for name, value in CREATE.items() if name != "data"},
    )

    assert (structured.status_code, binary.status_code) == (403, 403)
    assert "jobs:write" in structured.json()["detail"]
    assert (datasets(), reasons()) == ([], [])


def test_events_of_a_batch_beyond_the_rights_of_the_token_are_refused_and_the_others_accepted(
    client: Any, s3: Any
) -> None:
    upload = {"specversion": "1.0", "id": "2", "source": "/s3", "type": "com.amazonaws.s3.x"}
    response = send(client, [CREATE, upload | {"data": uploaded(s3, "datasets/cats.zip")}], NOTIFY)

    assert response.status_code == 403
    assert datasets() == ["cats"]


def test_a_token_for_notifications_cancels_and_sweeps_nothing(function: Callable[[str], Any], a_job: Any) -> None:
    job_id = a_job(State.QUEUED)

    assert send(function("cancel"), CANCEL | {"subject": job_id}, NOTIFY, "/v1/cancel").status_code == 403
    assert function("sweep").post("/v1/sweep", headers=api_headers(NOTIFY)).status_code == 403
    assert queries.job(job_id).state == State.QUEUED


@pytest.mark.usefixtures("a_and_b")
@pytest.mark.parametrize(
    "bad",
    [{"specversion": "1.0"}, {"specversion": "1.0", "id": "3", "source": "/x", "type": "com.other", "data": {}}, 5],
)
def test_an_invalid_or_unknown_event_of_a_batch_does_not_affect_the_others(client: Any, bad: Any) -> None:
    assert send(client, [asks("1", "a"), bad, asks("2", "b")]).status_code == 202

    assert datasets() == ["a", "b"]
    assert len(reasons()) == 1


@pytest.mark.usefixtures("a_and_b")
def test_an_event_that_is_nested_too_deep_does_not_affect_the_others_of_its_batch(client: Any) -> None:
    deep = json.dumps(asks("2", "deep")).replace('{"calls": false}', '{"x": ' + "[" * 40 + "]" * 40 + "}")
    body = f"[{json.dumps(asks('1', 'a'))}, {deep}]"
    headers = api_headers() | {"Content-Type": "application/cloudevents-batch+json"}

    assert client.post("/", content=body, headers=headers).status_code == 202
    assert datasets() == ["a"]
    assert ["nested deeper than 32 levels" in reason for reason in reasons()] == [True]


def test_metadata_that_is_nested_deeper_than_32_levels_is_rejected(client: Any, s3: Any) -> None:
    deep = METADATA | {"stoker-hyperparameters": '{"x": ' + "[" * 40 + "]" * 40 + "}"}
    message = uploaded(s3, "datasets/cats.zip", deep)
    assert client.post("/", json=message, headers=api_headers(NOTIFY)).status_code == 202

    assert reasons() == [
        "datasets/cats.zip: hyperparameters: use one JSON object: it is nested deeper than 32 levels",
    ]


def test_an_event_over_the_limit_of_its_sender_is_refused_for_now_and_becomes_a_job_later(
    client: Any, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("JOBS_PER_HOUR", "1")
    forget()
    assert send(client, CREATE).status_code == 202
    early = send(client, CREATE | {"id": "2"})

    assert (early.status_code, datasets(), reasons()) == (429, ["digits"], [])
    assert int(early.headers["Retry-After"]) > 3_000
    environment.setenv("JOBS_PER_HOUR", "2")  # as after an hour
    forget()
    assert send(client, CREATE | {"id": "2"}).status_code == 202
    assert (datasets(), reasons()) == (["digits", "digits"], [])


def test_the_reason_of_a_rejected_event_names_the_event(client: Any) -> None:
    send(client, CREATE | {"data": GOOD | {"epochs": 0}})
    send(client, CREATE | {"data": "a job"})

    assert reasons() == [
        "event 1 of /shop: epochs: use a whole number from 1 to 100,000",
        "event 1 of /shop: its data must be a JSON object, as in POST /v1/jobs",
    ]


@pytest.mark.parametrize("key", ["datasets/cats.zip", "datasets/a..b.zip", "datasets/a/b.zip"])
def test_an_upload_that_is_rejected_is_listed_once_with_its_key(client: Any, s3: Any, now: datetime, key: str) -> None:
    message = uploaded(s3, key, METADATA | {"stoker-epochs": "many"})
    for _ in range(2):
        assert client.post("/", json=message, headers=api_headers(NOTIFY)).status_code == 202
        sweeping.run(now=now + timedelta(minutes=5))

    assert [reason.startswith(f"{key}: ") for reason in reasons() if not reason.startswith("datasets/digits")] == [True]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (CANCEL, "event 1 of type dev.stoker.job.cancel has no subject: set it to the job's id"),
        (CANCEL | {"subject": "no-such-job"}, "there is no job no-such-job"),
        (CREATE, "a CloudEvent of type dev.stoker.job.create does not cancel a job: filter it out in the Trigger"),
        ({"specversion": "1.0"}, "the CloudEvent cannot be used: id: it is missing"),
    ],
)
def test_an_event_that_cancels_no_job_is_rejected_with_a_reason(
    function: Callable[[str], Any], a_job: Any, event: dict[str, Any], reason: str
) -> None:
    job_id = a_job(State.QUEUED)
    response = send(function("cancel"), [event, CANCEL | {"subject": job_id}], path="/v1/cancel")

    assert response.status_code == 202
    assert [one.startswith(reason) for one in reasons()] == [True]
    assert queries.job(job_id).state == State.CANCELLED


@pytest.fixture
def broker(environment: pytest.MonkeyPatch, client: Any, function: Callable[[str], Any]) -> Any:
    """Send to /v1/uploads, and deliver the events that it sends to the Broker to create-job, with a Trigger's rights."""
    environment.setenv("K_SINK", "http://broker")
    forget()

    def deliver(headers: dict[str, str], body: bytes) -> int:
        assert headers["ce-type"] == "dev.stoker.upload"
        response = client.post("/", content=body, headers={**headers, **api_headers()})
        return int(response.status_code)

    environment.setattr(sink, "post", deliver)
    return function("uploads")


@pytest.mark.parametrize("mode", ["structured", "binary", "batched", "none"])
def test_an_upload_that_is_a_cloudevent_becomes_a_job_by_way_of_the_broker(broker: Any, s3: Any, mode: str) -> None:
    message = uploaded(s3, "datasets/caf%C3%A9.zip".replace("%C3%A9", "é"))
    message["Records"][0]["s3"]["object"]["key"] = "datasets/caf%C3%A9.zip"
    attributes = {"specversion": "1.0", "id": "1", "source": "/s3", "type": "aws.s3.object.created", "subject": "é"}
    if mode == "binary":
        headers = {f"ce-{name}": value for name, value in attributes.items()} | {"ce-subject": "%C3%A9"}
        response = broker.post("/v1/uploads", json=message, headers=api_headers(NOTIFY) | headers)
    elif mode == "none":
        response = broker.post("/v1/uploads", json=message, headers=api_headers(NOTIFY))
    else:
        event = attributes | {"data": message}
        response = send(broker, [event] if mode == "batched" else event, NOTIFY, "/v1/uploads")

    assert response.status_code == 202
    assert (datasets(), reasons()) == (["café"], [])


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_no_request_for_a_job_gets_through_the_broker_by_way_of_uploads(broker: Any, mode: str) -> None:
    if mode == "structured":
        response = send(broker, CREATE, NOTIFY, "/v1/uploads")
    else:
        headers = {f"ce-{name}": str(value) for name, value in CREATE.items() if name != "data"}
        response = broker.post("/v1/uploads", json=GOOD, headers=api_headers(NOTIFY) | headers)

    assert response.status_code == 202
    assert datasets() == []
    assert reasons() == [
        "a CloudEvent of type dev.stoker.job.create is not an upload notification: filter it out in the Trigger"
    ]
