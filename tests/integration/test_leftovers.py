"""Leftovers in a real bucket: what a trainer stores after its job's deletion, and datasets of predictions."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from functions.api import tokens
from functions.domain.errors import Busy
from functions.domain.states import State
from functions.reconcile import leftovers, sweeping
from functions.store import jobs, upkeep
from tests.conftest import AWAY, BUCKET, api_headers, callback_headers, forget

pytestmark = pytest.mark.usefixtures("database_url", "s3", "no_trainer_left")
SOON, LATER = timedelta(minutes=1), leftovers.STORED_WITHIN + timedelta(minutes=1)
ONE_DAY_ON = leftovers.TEMPORARY_FOR + timedelta(minutes=1)


@pytest.fixture
def delete(function: Callable[[str], Any]) -> Callable[[str], int]:
    client = function("jobs")
    return lambda job_id: int(client.delete(f"/v1/jobs/{job_id}", headers=api_headers()).status_code)


def keys(s3: Any, prefix: str = "") -> list[str]:
    return [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]


def put(s3: Any, key: str, **metadata: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"x", Metadata=metadata)


def test_objects_that_a_cancelled_trainer_stores_after_the_deletion_are_deleted(
    function: Any, delete: Any, a_job: Any, s3: Any
) -> None:
    now = tokens.now()
    job_id, other = a_job(State.RUNNING, now=now), a_job(State.CANCELLED, now=now)
    put(s3, f"checkpoints/job-{other}/last.pt")
    jobs.move(job_id, State.CANCELLED, now=now)
    wanted = {"method": "PUT", "key": f"checkpoints/job-{job_id}/last.pt"}
    presign = function("presign")
    link = presign.post(f"/v1/jobs/{job_id}/presign", json=wanted, headers=callback_headers(job_id))
    assert link.status_code == 200
    assert delete(job_id) == 204
    put(s3, f"checkpoints/job-{job_id}/last.pt")
    put(s3, f"logs/job-{job_id}/attempt-1.log")

    sweeping.run(now=now + SOON)
    assert len(keys(s3, f"checkpoints/job-{job_id}")) == 1, "the trainer may be storing more"
    sweeping.run(now=now + LATER)
    assert [key for key in keys(s3) if job_id in key] == []
    assert keys(s3, f"checkpoints/job-{other}") == [f"checkpoints/job-{other}/last.pt"]
    assert upkeep.deleted_jobs(before=now + LATER, limit=9) == []


def test_no_leftovers_are_listed_for_a_job_that_ended_long_before_its_deletion(delete: Any, a_job: Any) -> None:
    now = tokens.now()
    assert delete(a_job(State.SUCCEEDED, now=now - timedelta(days=2))) == 204

    assert upkeep.deleted_jobs(before=now + LATER, limit=9) == []


def test_an_unreachable_storage_is_tried_again(
    delete: Any, a_job: Any, s3: Any, environment: pytest.MonkeyPatch
) -> None:
    now = tokens.now()
    job_id = a_job(State.FAILED, now=now)
    assert delete(job_id) == 204
    put(s3, f"logs/job-{job_id}/attempt-1.log")
    with environment.context() as away:
        for name, value in AWAY.items():
            away.setenv(name, value)
        forget()
        with pytest.raises(Busy):
            leftovers.delete(now=now + LATER)
    forget()
    leftovers.delete(now=now + LATER)

    assert [key for key in keys(s3) if job_id in key] == []


def test_only_datasets_of_predictions_that_no_open_job_uses_are_deleted_after_a_day(a_job: Any, s3: Any) -> None:
    now, temporary = tokens.now(), {"job": "none", "temporary": "true"}
    put(s3, "datasets/predict-cats-1a2b3c4d.zip", **temporary)
    put(s3, "datasets/predict-used-1a2b3c4d.zip", **temporary)
    put(s3, "datasets/predict-mine.zip", job="none")
    put(s3, "datasets/cats.zip", **temporary)
    job_id = a_job(State.RUNNING, dataset_id="predict-used-1a2b3c4d")

    leftovers.delete(now=now + SOON)
    assert len(keys(s3, "datasets/predict-")) == 3
    leftovers.delete(now=now + ONE_DAY_ON)
    assert keys(s3, "datasets/predict-") == ["datasets/predict-mine.zip", "datasets/predict-used-1a2b3c4d.zip"]
    jobs.move(job_id, State.CANCELLED, now=now)
    leftovers.delete(now=now + ONE_DAY_ON)
    assert keys(s3, "datasets/") == ["datasets/cats.zip", "datasets/predict-mine.zip"]


def test_datasets_that_stay_do_not_keep_others_from_being_deleted(s3: Any, environment: pytest.MonkeyPatch) -> None:
    environment.setattr(leftovers, "_LIMIT", 1)
    put(s3, "datasets/predict-a-mine.zip", job="none")
    put(s3, "datasets/predict-b-1a2b3c4d.zip", job="none", temporary="true")

    leftovers.delete(now=tokens.now() + ONE_DAY_ON)

    assert keys(s3, "datasets/") == ["datasets/predict-a-mine.zip"]
