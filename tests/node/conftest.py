"""Stoker on the node of ``./taskw cluster:up``: a user's view of it: an address, a token and a bucket."""

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import boto3
import httpx
import pytest
from botocore.config import Config

from infra.local.minting import mint
from infra.node.layout import kubectl
from tests import conftest

STOKER, TRAINERS = "stoker", "stoker-trainers"
FUNCTIONS = (
    "create-job",
    "heartbeat",
    "event",
    "done",
    "cancel",
    "jobs",
    "console",
    "datasets",
    "metrics",
    "presign",
    "sweep",
    "uploads",
    "dead-letter",
)
FINAL = {"SUCCEEDED", "FAILED", "CANCELLED"}


@pytest.fixture(autouse=True)
def environment() -> None:
    """Leave the environment as it is: the functions run in the cluster, not here."""


def get(kind: str, *words: str, namespace: str = STOKER) -> list[dict[str, Any]]:
    """Return objects of the cluster."""
    items: list[dict[str, Any]] = json.loads(kubectl("get", kind, *words, "-n", namespace, "-o", "json"))["items"]
    return items


@pytest.fixture(scope="session")
def secret() -> dict[str, str]:
    """Return the operator's secrets."""
    held = json.loads(kubectl("get", "secret", "stoker", "-n", STOKER, "-o", "json"))["data"]
    return {name: base64.b64decode(value).decode() for name, value in held.items()}


def address_of(service: str, *, namespace: str = STOKER) -> str:
    """Return where a Service answers, from the node itself."""
    spec = json.loads(kubectl("get", "service", service, "-n", namespace, "-o", "json"))["spec"]
    return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}"


class Patient(httpx.HTTPTransport):
    """As the README advises: requests are repeated after a response of 502 to 504, with the same Idempotency-Key."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request until it is answered, for two minutes at most."""
        end = time.monotonic() + 120
        while (answer := super().handle_request(request)).status_code in {502, 503, 504} and time.monotonic() < end:
            answer.close()
            time.sleep(1)
        return answer


@pytest.fixture(scope="session")
def api(secret: dict[str, str]) -> Iterator[httpx.Client]:
    """Return a caller of the front, who may do all that a caller may."""
    token = mint(secret["JWT_SECRETS"], "tester", "jobs:read jobs:write datasets:notify", 6 * 3600)
    # A connection each: httpcore 1.0.9 may close one that it keeps as another thread begins to use it (its issue 1110).
    headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
    with httpx.Client(base_url=address_of("front"), headers=headers, timeout=90, transport=Patient()) as caller:
        yield caller


@pytest.fixture(scope="session")
def bucket(secret: dict[str, str]) -> Any:
    """Return a client of the cluster's storage."""
    return boto3.client(
        "s3",
        endpoint_url=address_of("storage"),
        aws_access_key_id=secret["MINIO_ACCESS_KEY"],
        aws_secret_access_key=secret["MINIO_SECRET_KEY"],
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )


@pytest.fixture(scope="session")
def dataset(bucket: Any) -> str:
    """Return a dataset that has no job: a test copies it to ``datasets/*.zip`` when it needs one."""
    bucket.put_object(
        Bucket=STOKER,
        Key="datasets/here.zip",
        Body=ZIP,
        Metadata={"stoker-framework": "stub", "stoker-model": "stub", "stoker-epochs": "1"},
    )
    return "here"


def eventually(condition: Callable[[], Any], *, within_seconds: float) -> Any:
    """Return the condition's first true value, evaluated twice a second: each look at a cluster is a process."""
    return conftest.eventually(condition, within_seconds=within_seconds, every_seconds=0.5)


#: an empty archive, which is one all the same
ZIP = b"PK\x05\x06" + bytes(18)


def uploaded(name: str) -> dict[str, Any]:
    """Return a storage's notification of the upload of a dataset with the content ``ZIP``, in MinIO's format."""
    record = {
        "eventName": "s3:ObjectCreated:Put",
        "eventSource": "minio:s3",
        "eventVersion": "2.0",
        "s3": {
            "bucket": {"name": STOKER},
            "object": {"key": f"datasets/{name}.zip", "eTag": hashlib.md5(ZIP).hexdigest(), "size": len(ZIP)},
        },
    }
    return {"EventName": record["eventName"], "Key": f"{STOKER}/datasets/{name}.zip", "Records": [record]}


@pytest.fixture(scope="session")
def submit(api: httpx.Client, dataset: str) -> Callable[..., str]:
    """Return a function that requests a job and returns its id."""

    def ask(**fields: Any) -> str:
        job = {"framework": "stub", "model_name": "stub", "dataset_id": dataset, "epochs": 3}
        body = job | {"attempt_limit": 1} | fields
        answer = api.post("/v1/jobs", json=body, headers={"Idempotency-Key": uuid4().hex})
        assert answer.status_code in {200, 201}, answer.text
        return str(answer.json()["id"])

    return ask


@pytest.fixture(scope="session")
def job(api: httpx.Client) -> Callable[[str], dict[str, Any]]:
    """Return a function that reads a job."""

    def read(job_id: str) -> dict[str, Any]:
        answer = api.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        row: dict[str, Any] = answer.json()
        return row

    return read


@pytest.fixture(scope="session")
def ended(job: Callable[[str], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Return a function that waits until a job has ended, and returns it."""

    def wait(job_id: str, *, within_seconds: float = 240) -> dict[str, Any]:
        end = time.monotonic() + within_seconds
        while (row := job(job_id))["state"] not in FINAL:
            assert time.monotonic() < end, f"not within {within_seconds} s: {row}"
            time.sleep(0.5)
        return row

    return wait


def left_of(job_id: str) -> list[str]:
    """Return a job's objects that are still in the cluster: Jobs that have not ended, pods that run, and their Secrets."""
    words = ("-n", TRAINERS, "-l", f"stoker.dev/job-id={job_id}", "-o", "json")
    items = json.loads(kubectl("get", "jobs,pods,secrets", *words))["items"]
    return [f"{one['kind']} {one['metadata']['name']}" for one in items]


def freed(job_id: str, *, within_seconds: float = 90) -> None:
    """Wait until no pod of a job holds a GPU or memory any more."""

    def running() -> bool:
        pods = get("pods", "-l", f"stoker.dev/job-id={job_id}", namespace=TRAINERS)
        return all(pod["status"]["phase"] in {"Succeeded", "Failed"} for pod in pods)

    eventually(running, within_seconds=within_seconds)


def report(text: str) -> None:
    """Print a measured figure where the test's reader sees it."""
    print(f"  {text}", flush=True)
