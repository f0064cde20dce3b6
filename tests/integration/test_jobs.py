"""jobs, the read side, through functions-framework."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from functions.domain.spec import Origin, Spec
from functions.domain.states import State
from functions.runtime import storage
from functions.store import jobs as jobs_store
from functions.store import upkeep
from functions.store.heartbeats import Heartbeat
from tests.conftest import BUCKET, NOW, api_headers, call, claim, forget, record_heartbeat, seconds

pytestmark = pytest.mark.usefixtures("database_url")


@pytest.fixture
def get(function: Callable[[str], Any]) -> Callable[..., Any]:
    client = function("jobs")
    return lambda path, scope="jobs:read", **query: client.get(path, params=query, headers=api_headers(scope))


def ids(answer: Any) -> list[str]:
    return [job["id"] for job in answer.json()["jobs"]]


def test_pages_hold_every_job_once_newest_first_while_jobs_are_added(get: Any, a_job: Any) -> None:
    made = [a_job(now=NOW + timedelta(seconds=number // 2)) for number in range(7)]  # pairs of one moment
    first = get("/v1/jobs", limit=3)
    a_job(now=NOW + timedelta(hours=1))
    second = get("/v1/jobs", limit=3, cursor=first.json()["next_cursor"])
    third = get("/v1/jobs", limit=3, cursor=second.json()["next_cursor"])

    seen = [*ids(first), *ids(second), *ids(third)]
    assert sorted(seen) == sorted(made)
    assert seen[-1] in made[:2]
    assert third.json()["next_cursor"] is None


def test_a_waiting_job_has_a_place_among_all_that_wait_in_the_order_in_which_they_were_made(
    get: Any, a_job: Any
) -> None:
    states = (State.QUEUED, State.RUNNING, State.PENDING, State.CANCELLED, State.QUEUED)
    made = [a_job(state, now=NOW + timedelta(seconds=number)) for number, state in enumerate(states)]
    shown = [get(f"/v1/jobs/{job_id}").json() for job_id in made]

    places = [(job.get("queue_position"), job.get("queue_length")) for job in shown]
    assert places == [(1, 3), (None, None), (2, 3), (None, None), (3, 3)]


def test_a_job_whose_dataset_is_checked_keeps_its_place_since_its_training_starts_before_younger_jobs(
    get: Any, a_job: Any
) -> None:
    spec = Spec(framework="stub", model_name="stub-1", dataset_id="digits")
    job, _ = jobs_store.create(spec, identity=None, trace_id="0" * 32, now=NOW, checking=True)
    younger = a_job(State.QUEUED, now=NOW + timedelta(seconds=1))
    before = get(f"/v1/jobs/{younger}").json()
    claim(job.id, now=NOW + timedelta(seconds=2))
    while_checked = [get(f"/v1/jobs/{job_id}").json() for job_id in (job.id, younger)]

    assert (before["queue_position"], before["queue_length"]) == (2, 2)
    places = [(job["queue_position"], job["queue_length"]) for job in while_checked]
    assert places == [(1, 2), (2, 2)]


def test_an_owner_is_compared_as_the_token_names_it(get: Any) -> None:
    owner = "Zoe\u0308"  # not in Unicode's composed form
    spec = Spec(framework="stub", model_name="stub-1", dataset_id="digits")
    job, _ = jobs_store.create(spec, identity=None, trace_id="0" * 32, now=NOW, origin=Origin(owner))

    assert ids(get("/v1/jobs", owner=get(f"/v1/jobs/{job.id}").json()["owner"])) == [job.id]


def test_filters_compare_for_equality_and_are_combined_with_and(get: Any, a_job: Any) -> None:
    a_job(State.RUNNING, dataset_id="cats")
    wanted = a_job(State.FAILED, dataset_id="cats")
    a_job(State.FAILED, dataset_id="dogs")

    assert ids(get("/v1/jobs", state="FAILED", dataset_id="cats", framework="stub")) == [wanted]
    assert ids(get("/v1/jobs", framework="timm")) == []


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/v1/jobs", {"state": "LOST"}, "state"),
        ("/v1/jobs", {"limit": 0}, "limit"),
        ("/v1/jobs", {"limit": 501}, "limit"),
        ("/v1/jobs", {"limit": "many"}, "limit"),
        ("/v1/jobs", {"after": "x"}, "after"),
        ("/v1/jobs", {"cursor": "x"}, "after"),
        ("/v1/jobs", {"colour": "red"}, "colour"),
        ("/v1/rejected-events", {"after": -1}, "after"),
    ],
    ids=str,
)
def test_a_query_that_cannot_be_used_names_its_parameter(
    get: Any, path: str, query: dict[str, Any], field: str
) -> None:
    answer = get(path, **query)

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_a_job_is_returned_with_all_public_fields_and_no_internal_ones(get: Any, a_job: Any) -> None:
    job = get(f"/v1/jobs/{a_job(State.FAILED)}").json()

    assert (job["state"], job["reason"], job["created_at"]) == ("FAILED", "trainer_error", "2026-01-01T00:00:00Z")
    assert not job.keys() & {"identity", "sequence", "launch", "submitted_at"}


def test_a_timeline_holds_every_move_and_a_history_every_metric(get: Any, a_job: Any) -> None:
    job_id = a_job(State.RUNNING)
    for epoch in (1, 2, 3):
        record_heartbeat(call(job_id), Heartbeat(epoch=epoch, metrics={"loss": 1 / epoch}), now=NOW + seconds(epoch))
    moves = get(f"/v1/jobs/{job_id}/events", kind="state").json()["events"]
    first = get(f"/v1/jobs/{job_id}/events", kind="heartbeat", limit=2).json()
    rest = get(f"/v1/jobs/{job_id}/events", kind="heartbeat", limit=2, after=first["next_after"]).json()

    assert [move["type"] for move in moves] == ["PENDING", "QUEUED", "RUNNING"]
    assert [beat["metrics"]["loss"] for beat in first["events"] + rest["events"]] == [1, 1 / 2, 1 / 3]
    assert rest["next_after"] is None


def test_artifacts_are_listed_with_links_that_work(get: Any, a_job: Any, s3: Any) -> None:
    import httpx

    job_id = a_job(State.SUCCEEDED)
    s3.put_object(Bucket=BUCKET, Key=f"checkpoints/job-{job_id}/best.pt", Body=b"weights")
    s3.put_object(Bucket=BUCKET, Key=f"checkpoints/job-{job_id}-other/best.pt", Body=b"not ours")
    (artifact,) = get(f"/v1/jobs/{job_id}/artifacts").json()["artifacts"]

    assert (artifact["key"], artifact["size_bytes"]) == (f"checkpoints/job-{job_id}/best.pt", 7)
    assert httpx.get(artifact["url"], timeout=60).content == b"weights"


def test_links_to_artifacts_name_the_public_endpoint_of_the_storage_and_trainers_links_do_not(
    get: Any, a_job: Any, s3: Any, s3_server: str, environment: pytest.MonkeyPatch
) -> None:
    import httpx

    public = s3_server.replace("127.0.0.1", "localhost")
    environment.setenv("STORAGE_PUBLIC_ENDPOINT", public)
    forget()
    job_id = a_job(State.SUCCEEDED)
    key = f"checkpoints/job-{job_id}/best.pt"
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"weights")
    (artifact,) = get(f"/v1/jobs/{job_id}/artifacts").json()["artifacts"]

    assert artifact["url"].startswith(f"{public}/")
    assert httpx.get(artifact["url"], timeout=60).content == b"weights"
    assert storage.link("GET", key).startswith(f"{s3_server}/")


def test_rejected_events_are_shown_with_their_reason(get: Any) -> None:
    upkeep.reject("no such framework", '{"Records": []}', now=NOW)

    (event,) = get("/v1/rejected-events").json()["events"]
    assert (event["reason"], event["body"]) == ("no such framework", '{"Records": []}')


@pytest.mark.parametrize("path", ["/v1/jobs/none", "/v1/jobs/none/events", "/v1/jobs/none/artifacts", "/v1/nothing"])
def test_unknown_jobs_and_paths_are_404(get: Any, path: str) -> None:
    assert get(path).status_code == 404


def test_reading_takes_a_scope_for_jobs(get: Any) -> None:
    assert get("/v1/jobs", scope="datasets:notify").status_code == 403
    assert get("/v1/jobs", scope="jobs:write").status_code == 200


@pytest.mark.parametrize("state", ["running", "Running", "RUNNING"])
def test_a_state_is_written_in_any_case(function: Callable[[str], Any], a_job: Any, state: str) -> None:
    job_id = a_job(State.RUNNING)
    a_job(State.QUEUED)
    results = function("jobs").get("/v1/jobs", params={"state": state}, headers=api_headers()).json()["jobs"]

    assert [job["id"] for job in results] == [job_id]


def test_an_unknown_state_is_refused_with_the_known_ones(function: Callable[[str], Any]) -> None:
    refused = function("jobs").get("/v1/jobs", params={"state": "done", "limit": "0"}, headers=api_headers())

    assert refused.json()["errors"] == [
        {"field": "state", "detail": "use one of PENDING, QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED"},
        {"field": "limit", "detail": "use a whole number from 1 to 500"},
    ]
