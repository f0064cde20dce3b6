"""Names, tags, notes and owners of jobs: how they are set, changed and searched for."""

import unicodedata
from collections.abc import Callable
from typing import Any

import pytest

from functions.api import tokens
from functions.domain.states import State
from functions.events import intake
from functions.events.notifications import Upload
from functions.store import jobs, queries, upkeep
from functions.store.views import JOB_PLACE
from tests.conftest import BUCKET, NOW, api_headers, seconds

pytestmark = pytest.mark.usefixtures("database_url")


@pytest.fixture
def get(function: Callable[[str], Any]) -> Callable[..., Any]:
    client = function("jobs")
    return lambda path="/v1/jobs", **query: client.get(path, params=query, headers=api_headers("jobs:read"))


@pytest.fixture
def patch(function: Callable[[str], Any]) -> Callable[..., Any]:
    client = function("jobs")
    return lambda job_id, body, scope="jobs:write": client.request(
        "PATCH", f"/v1/jobs/{job_id}", json=body, headers=api_headers(scope)
    )


@pytest.fixture
def listed(get: Callable[..., Any]) -> Callable[..., list[str]]:
    def listed(**query: Any) -> list[str]:
        response = get(**query)
        assert response.status_code == 200, response.text
        return [job["id"] for job in response.json()["jobs"]]

    return listed


@pytest.mark.usefixtures("dataset", "no_trainer_left")
def test_a_requested_job_has_a_name_tags_notes_and_the_callers_name(function: Callable[[str], Any]) -> None:
    decomposed = unicodedata.normalize("NFD", "Zürich (2) & more")
    body = {
        "framework": "stub",
        "model_name": "stub-1",
        "dataset_id": "digits",
        "hyperparameters": {"calls": False},
        "name": decomposed,
        "tags": ["night", "ré".replace("é", "e\u0301"), "night"],
        "notes": "first\r\nsecond\tline",
    }
    job = function("create_job").post("/v1/jobs", json=body, headers=api_headers()).json()

    assert (job["name"], job["tags"], job["notes"]) == ("Zürich (2) & more", ["night", "ré"], "first\nsecond\tline")
    assert job["owner"] == "tester"
    assert not job["spec"].keys() & {"name", "tags", "notes"}
    assert (job["resumed_from"], job["cloned_from"]) == (None, None)


@pytest.mark.usefixtures("dataset", "no_trainer_left")
def test_the_same_key_with_another_name_is_the_same_job(function: Callable[[str], Any]) -> None:
    body = {
        "framework": "stub",
        "model_name": "stub-1",
        "dataset_id": "digits",
        "hyperparameters": {"calls": False},
    }
    headers = api_headers(**{"Idempotency-Key": "once"})
    first = function("create_job").post("/v1/jobs", json=body | {"name": "a"}, headers=headers)
    second = function("create_job").post("/v1/jobs", json=body | {"name": "b"}, headers=headers)

    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json()["name"] == "a"


@pytest.mark.usefixtures("no_trainer_left")
def test_an_uploads_metadata_names_tags_and_describes_its_job(s3: Any, now: Any) -> None:
    metadata = {
        "stoker-framework": "stub",
        "stoker-model": "stub-1",
        "stoker-hyperparameters": '{"calls": false}',
        "stoker-name": "=?utf-8?b?WsO8cmljaA==?=",
        "stoker-tags": "night, small ,",
        "stoker-notes": "by cron",
        "stoker-owner": "ada",
    }
    s3.put_object(Bucket=BUCKET, Key="datasets/cats.zip", Body=b"cats", Metadata=metadata)
    intake.upload(Upload(BUCKET, ("datasets/cats.zip",), ""), now=now)

    (job,) = queries.jobs({}, cursor=None, limit=9)[0]
    assert (job.name, job.tags, job.notes, job.owner) == ("Zürich", ["night", "small"], "by cron", "ada")


def test_unknown_metadata_is_refused_with_the_nearest_name(s3: Any, now: Any) -> None:
    metadata = {"stoker-framework": "stub", "stoker-model": "stub-1", "stoker-epoch": "3"}
    s3.put_object(Bucket=BUCKET, Key="datasets/cats.zip", Body=b"cats", Metadata=metadata)
    intake.deliver([Upload(BUCKET, ("datasets/cats.zip",), "")], b"", may_create=False, now=now)

    (rejected,), _ = queries.rejected_events(after=0, limit=9)
    assert rejected.reason == "datasets/cats.zip: epoch: there is no such field; do you mean epochs?"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "a/b"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\u202eb"}, "name"),
        ({"name": ""}, "name"),
        ({"tags": ["a,b"]}, "tags[0]"),
        ({"tags": [""]}, "tags[0]"),
        ({"tags": ["x" * 51]}, "tags[0]"),
        ({"tags": [f"{number}" for number in range(21)]}, "tags"),
        ({"notes": "x" * 4_001}, "notes"),
        ({"notes": "a\0b"}, "notes"),
        ({"nmae": "x"}, "nmae"),
    ],
    ids=str,
)
def test_what_is_too_long_or_not_printable_is_refused_on_its_field(
    patch: Any, a_job: Any, body: dict[str, Any], field: str
) -> None:
    job_id = a_job()
    refused = patch(job_id, body)

    assert (refused.status_code, [error["field"] for error in refused.json()["errors"]]) == (422, [field])


@pytest.mark.parametrize("state", [State.PENDING, State.RUNNING, State.FAILED])
def test_a_patch_changes_what_it_names_and_nothing_else(patch: Any, get: Any, a_job: Any, state: State) -> None:
    def job_of(job_id: str) -> dict[str, Any]:
        job = get(f"/v1/jobs/{job_id}").json()
        return {name: value for name, value in job.items() if name not in JOB_PLACE}  # which only GET of one job has

    job_id = a_job(state)
    before = job_of(job_id)
    first = patch(job_id, {"name": "night run", "tags": ["b", "a"], "notes": "x"}).json()
    second = patch(job_id, {"name": None, "tags": ["c"]}).json()

    assert first == before | {"name": "night run", "tags": ["b", "a"], "notes": "x"}
    assert second == before | {"name": None, "tags": ["c"], "notes": "x"}
    assert patch(job_id, {}).json() == second == job_of(job_id)


def test_a_patch_of_an_unknown_job_is_404_and_needs_the_scope(patch: Any, a_job: Any) -> None:
    assert patch("none", {"name": "x"}).status_code == 404
    assert patch(a_job(), {"name": "x"}, "jobs:read").status_code == 403


def test_a_name_is_found_by_a_part_in_any_case(listed: Any, a_job: Any) -> None:
    street, percent, _ = a_job(name="Große Straße 7"), a_job(name="100% _day"), a_job()

    assert listed(name="STRASSE") == [street]
    assert listed(name="GROSSE STR") == listed(name="große str") == [street]
    assert listed(name="0%") == listed(name="_d") == [percent]
    assert listed(name="%7") == []


def test_tags_filter_whole_and_follow_their_changes(listed: Any, patch: Any, a_job: Any) -> None:
    older = a_job(tags=["night", "a"], now=NOW)
    newer = a_job(State.RUNNING, tags=["night"], now=NOW + seconds(5))
    a_job(tags=["nights"])

    assert listed(tag="night") == [newer, older]
    assert listed(tag="night", sort="created_at") == [older, newer]
    assert listed(tag="night", state="RUNNING") == [newer]
    patch(newer, {"tags": ["day"]})
    assert (listed(tag="night"), listed(tag="day")) == ([older], [newer])


def test_owner_and_time_filter(listed: Any, a_job: Any) -> None:
    made = [a_job(now=NOW + seconds(number)) for number in range(4)]

    assert listed(created_after=(NOW + seconds(1)).isoformat(), created_before=(NOW + seconds(3)).isoformat()) == [
        made[2],
        made[1],
    ]
    assert listed(owner="nobody") == []


@pytest.mark.usefixtures("dataset", "no_trainer_left")
def test_a_list_of_an_owners_jobs(function: Callable[[str], Any], listed: Any, a_job: Any) -> None:
    a_job()
    body = {"framework": "stub", "model_name": "stub-1", "dataset_id": "digits", "hyperparameters": {"calls": False}}
    job = function("create_job").post("/v1/jobs", json=body, headers=api_headers()).json()

    assert listed(owner="tester") == [job["id"]]


@pytest.mark.parametrize("sort", ["created_at", "-created_at"])
@pytest.mark.parametrize(
    "query",
    [
        {"state": "PENDING,running, FAILED"},
        {"tag": "t"},
        {"name": "n"},
        {"state": "RUNNING,PENDING,FAILED", "tag": "t"},
    ],
    ids=str,
)
def test_pages_hold_every_job_once_in_order(get: Any, a_job: Any, query: dict[str, Any], sort: str) -> None:
    states = [State.PENDING, State.RUNNING, State.FAILED, State.CANCELLED]
    made = [a_job(states[number % 4], name="Night", tags=["t"], now=NOW + seconds(number // 2)) for number in range(12)]
    expected = [made[number] for number in range(12) if "state" not in query or number % 4 < 3]
    pages, after = [], None
    while True:
        page = get(**query, sort=sort, limit=2, **({"after": after} if after else {})).json()
        pages.append([job["id"] for job in page["jobs"]])
        after = page["next_after"]
        assert page["next_cursor"] == after
        if after is None:
            break
    seen = [job_id for page in pages for job_id in page]

    moment = {job_id: (number // 2, job_id) for number, job_id in enumerate(made)}
    assert seen == sorted(expected, key=moment.__getitem__, reverse=sort.startswith("-"))


def test_a_state_may_be_repeated_or_separated_by_commas(function: Callable[[str], Any], a_job: Any) -> None:
    running, failed = a_job(State.RUNNING), a_job(State.FAILED)
    a_job(State.CANCELLED)
    for query in ("state=running&state=FAILED", "state=RUNNING,failed"):
        page = function("jobs").get(f"/v1/jobs?{query}", headers=api_headers()).json()["jobs"]
        assert {job["id"] for job in page} == {running, failed}


def test_changes_of_a_description_and_moves_do_not_lose_each_other(a_job: Any) -> None:
    job_id = a_job(State.RUNNING)
    jobs.describe(job_id, {"name": "a"})
    jobs.move(job_id, State.CANCELLED, now=tokens.now())
    jobs.describe(job_id, {"notes": "b"})

    job = queries.job(job_id)
    assert (job.state, job.name, job.notes) == (State.CANCELLED, "a", "b")
    assert upkeep.open_jobs() == []
