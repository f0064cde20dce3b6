"""Uploads whose notification was lost: sweep finds them in the bucket, and each is still one job."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from functions.events import intake
from functions.reconcile import sweeping
from functions.runtime import logs
from functions.store import queries
from tests.conftest import BUCKET, seconds
from tests.unit.vendors import FIXTURES

pytestmark = pytest.mark.usefixtures("sqlite", "s3", "no_trainer_left")
METADATA = {"stoker-framework": "stub", "stoker-model": "stub-1", "stoker-hyperparameters": '{"calls": false}'}


def test_an_upload_whose_notification_was_lost_becomes_one_job(s3: Any, now: datetime) -> None:
    s3.put_object(Bucket=BUCKET, Key="datasets/cats.zip", Body=b"x", Metadata=METADATA)
    s3.put_object(Bucket=BUCKET, Key="datasets/dogs.zip", Body=b"y", Metadata=METADATA | {"stoker-epochs": "many"})
    sweeping.run(now=now + seconds(10))
    assert queries.jobs({}, cursor=None, limit=10)[0] == []

    for minute in (2, 3, 4):
        sweeping.run(now=now + timedelta(minutes=minute))
    assert [job.dataset_id for job in queries.jobs({}, cursor=None, limit=10)[0]] == ["cats"]
    reasons = [row.reason for row in queries.rejected_events(after=0, limit=9)[0]]
    assert reasons == ["datasets/dogs.zip: epochs: use a whole number from 1 to 100,000"]


def test_an_upload_that_sweep_finds_is_no_part_of_another_jobs_trace(s3: Any, a_job: Any, now: datetime) -> None:
    other = queries.job(a_job(now=now))
    s3.put_object(Bucket=BUCKET, Key="datasets/cats.zip", Body=b"x", Metadata=METADATA)
    sweeping.run(now=now + timedelta(minutes=2))

    (found,), _ = queries.jobs({"dataset_id": "cats"}, cursor=None, limit=10)
    assert found.trace_id == logs.context.get()["trace_id"] != other.trace_id


def test_an_upload_that_sweep_has_found_is_no_second_job_when_its_notification_comes_late(
    s3: Any, now: datetime
) -> None:
    put = s3.put_object(Bucket=BUCKET, Key="datasets/a b+ü.zip", Body=b"x", Metadata=METADATA)
    for minute in (2, 3):
        sweeping.run(now=now + timedelta(minutes=minute))
    notification = json.loads(FIXTURES["aws_put"])
    notification["Records"][0]["s3"]["object"] |= {"eTag": put["ETag"].strip('"')}
    notification["Records"][0]["s3"]["object"].pop("versionId", None)
    intake.deliver(
        intake.records(notification), json.dumps(notification).encode(), may_create=True, now=now + timedelta(minutes=4)
    )

    assert [job.dataset_id for job in queries.jobs({}, cursor=None, limit=10)[0]] == ["a b+ü"]
    assert queries.rejected_events(after=0, limit=9)[0] == []
