"""Jobs that are made of other jobs, the deletion of jobs, and requests that could never run."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from sqlmodel import select

from functions.api import tokens
from functions.domain.errors import WrongState
from functions.domain.spec import Origin, Spec
from functions.domain.states import State
from functions.events import intake
from functions.events.notifications import Upload
from functions.reconcile import sweeping
from functions.runtime import storage
from functions.store import jobs, queries
from functions.store.heartbeats import Heartbeat
from functions.store.session import read
from functions.store.tables import JobEvent, JobTag, Outbox
from tests.conftest import AWAY, BUCKET, NOW, api_headers, call, forget, record_heartbeat, seconds

pytestmark = pytest.mark.usefixtures("database_url", "dataset", "no_trainer_left")

QUIET = {"calls": False}


@pytest.fixture
def post(function: Callable[[str], Any]) -> Callable[..., Any]:
    client = function("create_job")
    return lambda path, body=None, **headers: client.post(
        f"/v1/jobs{path}", json=body or {}, headers=api_headers(**headers)
    )


@pytest.fixture
def delete(function: Callable[[str], Any]) -> Callable[..., Any]:
    client = function("jobs")
    return lambda job_id, scope="jobs:write": client.delete(f"/v1/jobs/{job_id}", headers=api_headers(scope))


@pytest.fixture
def old(a_job: Any, s3: Any) -> Callable[..., str]:
    """Make an ended job with checkpoints."""

    def make(state: State = State.FAILED, **fields: Any) -> str:
        job_id = a_job(state, epochs=5, hyperparameters=QUIET | {"lr": 1}, **fields)
        for name in ("last.pt", "best.pt"):
            s3.put_object(Bucket=BUCKET, Key=f"checkpoints/job-{job_id}/{name}", Body=f"{name} of old".encode())
        return str(job_id)

    return make


def keys(s3: Any, prefix: str) -> list[str]:
    return [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_a_resumed_job_starts_from_a_copy_of_the_last_checkpoint(post: Any, old: Any, s3: Any, state: State) -> None:
    job_id = old(state, name="night", tags=["a"], notes="n")
    resumed = post(f"/{job_id}/resume", {"epochs": 9, "hyperparameters": {"lr": None, "x": 2}, "name": "again"})
    job = resumed.json()

    assert (resumed.status_code, resumed.headers["Location"]) == (201, f"/v1/jobs/{job['id']}")
    assert (job["resumed_from"], job["cloned_from"], job["owner"]) == (job_id, None, "tester")
    assert (job["spec"]["epochs"], job["spec"]["hyperparameters"]) == (9, QUIET | {"x": 2})
    assert (job["name"], job["tags"], job["notes"]) == ("again", ["a"], "n")
    copied = s3.get_object(Bucket=BUCKET, Key=f"checkpoints/job-{job['id']}/last.pt")["Body"].read()
    assert copied == b"last.pt of old"
    assert storage.size_of(f"checkpoints/job-{job['id']}/best.pt") is not None
    assert queries.job(job_id).state == state


def test_a_job_that_is_made_of_another_has_the_name_with_the_next_number(post: Any, old: Any) -> None:
    job_id = old(name="Cats")
    names = [post(f"/{job_id}/{verb}").json()["name"] for verb in ("resume", "clone", "resume")]
    (second, *_), _ = queries.jobs({}, cursor=None, limit=1, search=queries.Search(name="cats (2)"))

    assert names == ["Cats (2)", "Cats (3)", "Cats (4)"]
    assert post(f"/{second.id}/clone").json()["name"] == "Cats (5)"
    assert post(f"/{second.id}/clone", {"name": "Cats"}).json()["name"] == "Cats"
    assert post(f"/{old()}/clone").json()["name"] is None
    assert post(f"/{old(name='x' * 200)}/clone").json()["name"] == "x" * 188 + " (2)"


@pytest.mark.parametrize("state", [State.PENDING, State.RUNNING, State.SUCCEEDED])
def test_only_a_failed_or_cancelled_job_is_resumed(post: Any, old: Any, state: State) -> None:
    refused = post(f"/{old(state)}/resume")

    assert (refused.status_code, refused.json()["state"]) == (409, state)
    assert ("it has not ended" in refused.json()["detail"]) == (state != State.SUCCEEDED)


def test_a_clone_trains_on_from_the_weights_that_the_refusal_of_a_resume_names(post: Any, old: Any, s3: Any) -> None:
    job_id = old(State.SUCCEEDED)
    key = f"checkpoints/job-{job_id}/best.pt"
    refused = post(f"/{job_id}/resume")
    clone = post(f"/{job_id}/clone", {"checkpoint_key": key, "epochs": 20})
    s3.delete_object(Bucket=BUCKET, Key=key)

    assert f"checkpoint_key {key} (stoker clone {job_id} --from-job {job_id} --epochs N)" in refused.json()["detail"]
    assert (clone.status_code, clone.json()["cloned_from"]) == (201, job_id)
    assert (clone.json()["spec"]["checkpoint_key"], clone.json()["epochs"]) == (key, 20)
    assert post(f"/{job_id}/clone", {"checkpoint_key": key}).json()["errors"] == [
        {"field": "checkpoint_key", "detail": f"the bucket has no {key}; name weights that it has"}
    ]


def test_a_job_is_resumed_also_if_the_weights_that_it_started_from_are_gone(post: Any, old: Any) -> None:
    assert post(f"/{old(checkpoint_key='models/gone.pt')}/resume").status_code == 201


def test_a_job_without_a_checkpoint_is_not_resumed_and_leaves_nothing(post: Any, a_job: Any) -> None:
    job_id = a_job(State.FAILED, hyperparameters=QUIET)
    refused = post(f"/{job_id}/resume")

    assert (refused.status_code, refused.json()["state"]) == (409, "FAILED")
    assert "last.pt" in refused.json()["detail"]
    assert [job.id for job in queries.jobs({}, cursor=None, limit=9)[0]] == [job_id]
    assert post("/none/resume").status_code == post("/none/clone").status_code == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [({"model_name": "stub-2"}, "model_name"), ({"task": "predict"}, "task"), ({"epoch": 1}, "epoch")],
)
def test_a_resumed_job_keeps_what_its_checkpoint_is_of(post: Any, old: Any, change: Any, field: str) -> None:
    refused = post(f"/{old()}/resume", change)

    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)


def test_a_resumed_job_needs_the_dataset_as_it_was(post: Any, s3: Any) -> None:
    first = post("", {"model_name": "stub-1", "dataset_id": "digits", "hyperparameters": QUIET}).json()
    jobs.move(first["id"], State.CANCELLED, now=tokens.now())
    s3.put_object(Bucket=BUCKET, Key=f"checkpoints/job-{first['id']}/last.pt", Body=b"x")
    s3.put_object(Bucket=BUCKET, Key="datasets/digits.zip", Body=b"other digits")
    refused = post(f"/{first['id']}/resume")

    assert refused.json()["errors"][0]["field"] == "dataset_etag"
    assert post(f"/{first['id']}/clone").status_code == 201
    assert post(f"/{first['id']}/resume", {"dataset_etag": None}).status_code == 201


def test_a_clone_has_the_same_settings_with_changes_in_any_state(post: Any, a_job: Any) -> None:
    job_id = a_job(State.RUNNING, epochs=5, seed=7, hyperparameters=QUIET, name="n")
    clone = post(f"/{job_id}/clone", {"epochs": None, "model_name": "stub-2"})
    job = clone.json()

    assert (clone.status_code, job["cloned_from"], job["resumed_from"]) == (201, job_id, None)
    assert job["spec"] == {
        "framework": "stub",
        "model_name": "stub-2",
        "dataset_id": "digits",
        "seed": 7,
        "hyperparameters": QUIET,
    }
    assert job["name"] == "n (2)"
    assert post(f"/{job_id}/clone", {"modle_name": "x"}).json()["errors"] == [
        {"field": "modle_name", "detail": "there is no such field; do you mean model_name?"}
    ]


def test_a_repeated_clone_is_the_same_job(post: Any, a_job: Any) -> None:
    job_id, other = a_job(hyperparameters=QUIET), a_job(hyperparameters=QUIET)
    first = post(f"/{job_id}/clone", **{"Idempotency-Key": "k"})
    again = post(f"/{job_id}/clone", **{"Idempotency-Key": "k"})

    assert (first.status_code, again.status_code, again.json()["id"]) == (201, 200, first.json()["id"])
    assert post(f"/{other}/clone", **{"Idempotency-Key": "k"}).status_code == 422


def test_deleting_a_job_deletes_its_objects_and_sends_an_event(delete: Any, old: Any, s3: Any) -> None:
    job_id, other = old(State.CANCELLED, tags=["a"]), old()
    for folder in ("logs", "results/samples"):
        top, _, rest = folder.partition("/")
        s3.put_object(Bucket=BUCKET, Key=f"{top}/job-{job_id}/{rest}x", Body=b"x")
    assert delete(job_id, "jobs:read").status_code == 403
    assert delete(job_id).status_code == 204
    assert delete(job_id).status_code == 404

    assert [job.id for job in queries.jobs({}, cursor=None, limit=9)[0]] == [other]
    assert [key for key in keys(s3, "") if job_id in key] == []
    assert len(keys(s3, f"checkpoints/job-{other}/")) == 2
    with read() as session:
        assert session.exec(select(JobEvent).where(JobEvent.job_id == job_id)).all() == []
        assert session.exec(select(JobTag)).all() == []
        events = session.exec(select(Outbox).where(Outbox.job_id == job_id).order_by(Outbox.sequence)).all()  # type: ignore[arg-type]
    assert events[-1].type == "dev.stoker.job.deleted"
    assert [row.sequence for row in events] == [1, 2, 3, 4]


@pytest.mark.parametrize("state", [State.PENDING, State.QUEUED, State.RUNNING])
def test_an_open_job_is_not_deleted(delete: Any, a_job: Any, state: State) -> None:
    job_id = a_job(state)
    refused = delete(job_id)

    assert (refused.status_code, refused.json()["state"]) == (409, state)
    with pytest.raises(WrongState):
        jobs.remove(job_id, now=NOW)
    assert queries.job(job_id).state == state


def test_nothing_is_deleted_while_the_storage_is_unreachable(
    delete: Any, old: Any, environment: pytest.MonkeyPatch
) -> None:
    job_id = old()
    for name, value in AWAY.items():
        environment.setenv(name, value)
    forget()

    assert delete(job_id).status_code == 503
    assert queries.job(job_id).state == State.FAILED


def test_a_late_callback_of_a_deleted_job_is_404(delete: Any, old: Any) -> None:
    from functions.domain.errors import NotFound

    job_id = old()
    delete(job_id)
    with pytest.raises(NotFound):
        record_heartbeat(call(job_id), Heartbeat(epoch=1), now=NOW)


def test_the_upload_of_a_deleted_job_makes_no_second_job(delete: Any, s3: Any, now: Any) -> None:
    metadata = {"stoker-model": "stub-1", "stoker-hyperparameters": json.dumps(QUIET)}
    etag = s3.put_object(Bucket=BUCKET, Key="datasets/cats.zip", Body=b"cats", Metadata=metadata)["ETag"].strip('"')
    s3.delete_object(Bucket=BUCKET, Key="datasets/digits.zip")
    uploaded = Upload(BUCKET, ("datasets/cats.zip",), etag)
    intake.upload(uploaded, now=now)
    (job,) = queries.jobs({}, cursor=None, limit=9)[0]
    jobs.move(job.id, State.CANCELLED, now=now)
    assert delete(job.id).status_code == 204
    intake.upload(uploaded, now=now)
    sweeping.run(now=now + seconds(3600))

    assert queries.jobs({}, cursor=None, limit=9)[0] == []
    assert queries.rejected_events(after=0, limit=9)[0] == []


@pytest.mark.parametrize("verb", ["clone", "resume"])
def test_a_key_that_is_used_again_with_other_changes_is_refused(post: Any, old: Any, verb: str) -> None:
    job_id, key = old(), {"Idempotency-Key": "once"}
    first = post(f"/{job_id}/{verb}", {"epochs": 9}, **key)
    again = post(f"/{job_id}/{verb}", {"epochs": 9}, **key)
    other = post(f"/{job_id}/{verb}", {"epochs": 10}, **key)

    assert (first.status_code, again.status_code, again.json()["id"]) == (201, 200, first.json()["id"])
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "Idempotency-Key")
    assert "another body; use a new key" in other.json()["detail"]


def test_of_equal_requests_at_once_one_resumes_and_the_others_leave_no_copies(post: Any, old: Any, s3: Any) -> None:
    job_id, start = old(), Barrier(4)

    def resume(_: int) -> Any:
        start.wait()
        return post(f"/{job_id}/resume", **{"Idempotency-Key": "once"}).json()["id"]

    with ThreadPoolExecutor(4) as pool:
        (new_id,) = set(pool.map(resume, range(4)))

    owners = {key.split("/")[1] for key in keys(s3, "checkpoints/")}
    assert owners == {f"job-{job_id}", f"job-{new_id}"}


def test_one_subject_creates_only_so_many_jobs_in_an_hour(
    post: Any, a_job: Any, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("JOBS_PER_HOUR", "2")
    forget()
    now = tokens.now()
    a_job()  # of nobody
    for age in (90, 50, 10):
        spec = Spec(framework="stub", model_name="stub-1", dataset_id="digits")
        at = now - timedelta(minutes=age)
        jobs.create(spec, identity=None, trace_id="0" * 32, now=at, origin=Origin("tester"))
    refused = post("", {"model_name": "stub-1", "dataset_id": "digits", "hyperparameters": QUIET})

    assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
    assert 500 < int(refused.headers["Retry-After"]) <= 600
    assert "JOBS_PER_HOUR" in refused.json()["detail"]
    environment.setenv("JOBS_PER_HOUR", "3")
    forget()
    assert post("", {"model_name": "stub-1", "dataset_id": "digits", "hyperparameters": QUIET}).status_code == 201


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"dataset_id": "digits.zip"}, "dataset_id", "leave .zip out"),
        ({"gpus": 64}, "gpus", "this machine has"),
    ],
)
def test_requests_that_could_never_run_are_refused_at_once(
    post: Any, change: dict[str, Any], field: str, words: str
) -> None:
    refused = post("", {"model_name": "stub-1", "dataset_id": "digits"} | change)

    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)
    assert words in refused.json()["detail"]
    assert queries.jobs({}, cursor=None, limit=9)[0] == []


def test_all_available_gpus_can_be_requested(post: Any) -> None:
    count = len(list(Path("/dev").glob("nvidia[0-9]*")))
    body = {"model_name": "stub-1", "dataset_id": "digits", "hyperparameters": QUIET, "gpus": count}

    assert post("", body).status_code == 201
