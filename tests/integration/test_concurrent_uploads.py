"""One upload is one job, however often and however concurrently its notification is delivered."""

import copy
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from functions.store import queries
from tests.conftest import BUCKET, api_headers, served_and_up
from tests.unit.vendors import FIXTURES

DELIVERIES, AT_A_TIME = 1_000, 32
pytestmark = pytest.mark.usefixtures("database_url", "no_trainer_left")


def upload(s3: Any, content: bytes) -> bytes:
    """Upload a dataset that asks for the stub trainer; return MinIO's notification of it."""
    plan = json.dumps({"calls": False, "seconds": 600})
    metadata = {"stoker-framework": "stub", "stoker-model": "stub-1", "stoker-hyperparameters": plan}
    put = s3.put_object(Bucket=BUCKET, Key="datasets/cats.zip", Body=content, Metadata=metadata)
    body: Any = copy.deepcopy(json.loads(FIXTURES["minio_put"]))
    body["Records"][0]["s3"]["object"] |= {"key": "datasets/cats.zip", "eTag": put["ETag"].strip('"')}
    return json.dumps(body).encode()


def deliver(addresses: list[str], bodies: Iterable[bytes]) -> list[tuple[int, bytes]]:
    """Deliver all notifications, many at a time, to the replicas in turn."""
    # A connection each: httpcore 1.0.9 may close one that it keeps as another thread begins to use it (its issue 1110).
    headers = {"Content-Type": "application/json", "Connection": "close", **api_headers("datasets:notify")}
    with httpx.Client(headers=headers, timeout=60) as client, ThreadPoolExecutor(AT_A_TIME) as pool:
        urls = (f"{address}/v1/jobs" for address in itertools.cycle(addresses))
        answers = pool.map(lambda body, url: client.post(url, content=body), bodies, urls)
        return [(answer.status_code, answer.content) for answer in answers]


@pytest.fixture
def create_job(s3: Any) -> Iterator[list[str]]:
    """Serve create-job as a cluster that has scaled up does: by two processes, of 8 threads each."""
    del s3  # its address is in the environment
    with served_and_up("create_job") as one, served_and_up("create_job") as another:
        yield [one, another]


def launches() -> list[str]:
    return [str(path) for path in Path(os.environ["LOCAL_RUNS_DIR"]).glob("*/*") if re.search(r"/[0-9]+$", str(path))]


def jobs() -> list[Any]:
    return queries.jobs({}, cursor=None, limit=100)[0]


def test_a_thousand_concurrent_deliveries_of_one_upload_make_one_job_and_one_launch(
    s3: Any, create_job: list[str]
) -> None:
    answers = deliver(create_job, [upload(s3, b"one")] * DELIVERIES)

    assert set(answers) == {(202, b"")}
    assert len(jobs()) == 1
    assert len(launches()) == 1


def test_other_bytes_under_the_same_key_are_another_job(s3: Any, create_job: list[str]) -> None:
    first = upload(s3, b"one")
    deliver(create_job, [first] * 20)
    deliver(create_job, [upload(s3, b"two"), first] * 50)

    assert len(jobs()) == 2
    assert queries.rejected_events(after=0, limit=9)[0] == []
