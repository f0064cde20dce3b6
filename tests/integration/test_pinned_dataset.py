"""A job trains on the bytes that it was made for, or FAILED: from the upload to the trainer, also when it starts again."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from functions.domain.states import State
from tests.conftest import BUCKET, eventually
from tests.integration.test_restart import Functions
from tests.unit.vendors import record

pytestmark = [
    pytest.mark.usefixtures("sqlite", "s3", "no_trainer_left"),
    pytest.mark.timeout(180),
]
FIRST, SECOND = b"one", b"other bytes"


@pytest.fixture
def functions() -> Iterator[Functions]:
    started = Functions()
    yield started
    started.kill()


def upload(functions: Functions, s3: Any, content: bytes, **plan: Any) -> str:
    """Upload a version of the dataset ``cats``, and notify of it; return its job, which trains by this plan."""
    metadata = {
        "stoker-framework": "stub",
        "stoker-model": "stub-1",
        "stoker-attempt-limit": "3",
        "stoker-epochs": str(plan["epochs"]),
        "stoker-hyperparameters": json.dumps({"dataset": True, **plan}),
    }
    etag = s3.put_object(Bucket=BUCKET, Key="datasets/cats.zip", Body=content, Metadata=metadata)["ETag"].strip('"')
    notified = {"Records": [record(key="datasets%2Fcats.zip", eTag=etag, versionId=None)]}
    functions.call("POST", "/v1/jobs", **notified)
    jobs = functions.call("GET", "/v1/jobs?dataset_id=cats")["jobs"]
    (job,) = (job for job in jobs if job["dataset_etag"] == etag)
    return str(job["id"])


def ended(functions: Functions, job_id: str) -> dict[str, Any]:
    """Sweep until a job has ended, and return it."""

    def look() -> dict[str, Any] | None:
        functions.call("POST", "/v1/sweep")
        job: dict[str, Any] = functions.job(job_id)
        return job if job["state"] in {State.SUCCEEDED, State.FAILED} else None

    return eventually(look, within_seconds=90, every_seconds=0.2)  # type: ignore[no-any-return]


def test_of_two_versions_uploaded_while_all_slots_are_taken_each_job_has_its_own_or_failed(
    functions: Functions, s3: Any
) -> None:
    blocking = upload(functions, s3, b"before", epochs=1, seconds=600)
    eventually(lambda: functions.job(blocking)["state"] == State.RUNNING, within_seconds=60)
    eventually(lambda: functions.job(blocking)["epoch"] == 1, within_seconds=60)
    first, second = upload(functions, s3, FIRST, epochs=2), upload(functions, s3, SECOND, epochs=9)
    functions.call("POST", f"/v1/jobs/{blocking}/cancel")

    overwritten, trained = ended(functions, first), ended(functions, second)
    assert (overwritten["state"], overwritten["reason"], overwritten["epochs"]) == ("FAILED", "dataset_invalid", 2)
    assert "datasets/cats.zip was overwritten" in overwritten["message"]
    assert overwritten["dataset_etag"] in overwritten["message"]
    assert (trained["state"], trained["epoch"], trained["epochs"]) == ("SUCCEEDED", 9, 9)
    assert trained["metrics"]["dataset_bytes"] == len(SECOND)


def test_another_attempt_never_goes_on_with_other_data(functions: Functions, s3: Any) -> None:
    job_id = upload(functions, s3, FIRST, epochs=2, killed_in_attempts=[1])
    eventually(lambda: functions.job(job_id)["epoch"] == 2, within_seconds=60)
    upload(functions, s3, SECOND, epochs=9)

    job = ended(functions, job_id)
    assert (job["state"], job["reason"], job["attempt"]) == ("FAILED", "dataset_invalid", 2)
    assert "overwritten" in job["message"]


def test_another_attempt_goes_on_where_the_data_are_the_same(functions: Functions, s3: Any) -> None:
    job_id = upload(functions, s3, FIRST, epochs=2, killed_in_attempts=[1])
    job = ended(functions, job_id)

    assert (job["state"], job["attempt"], job["metrics"]["dataset_bytes"]) == ("SUCCEEDED", 2, len(FIRST))


def test_the_local_launcher_names_no_image(functions: Functions, s3: Any) -> None:
    job = ended(functions, upload(functions, s3, FIRST, epochs=1))

    assert (job["image"], job["dataset_etag"] is None) == (None, False)
    listed = functions.call("GET", f"/v1/jobs/{job['id']}/artifacts")
    assert (listed["image"], listed["dataset_etag"]) == (None, job["dataset_etag"])
