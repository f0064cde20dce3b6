"""Restarts, an upgrade, a rollback and evictions while 20 jobs run: no call fails, and no job notices.

The callers repeat nothing, and trainers call back all the time.
"""

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from infra.node import images
from infra.node.layout import apply, kubectl
from infra.node.stoker import MIGRATE, OVERLAY
from tests.node.conftest import STOKER, address_of, eventually, get, report

pytestmark = pytest.mark.timeout(1500)
COUNT = 20
#: a later release: another image, with a migration that this one does not know
NEXT = "stoker.local/functions:2"
DOCKERFILE = f"FROM {images.FUNCTIONS}\nCOPY later.py /srv/functions/store/migrations/versions/9001_later.py\n"
MIGRATION = '''"""A column and an index of a later release."""

import sqlalchemy as sa
from alembic import op

revision = "9001"
down_revision = "{newest}"


def upgrade() -> None:
    """Go forward."""
    op.add_column("job", sa.Column("later", sa.String(), nullable=True))
    op.create_index("job_later", "job", ["later"])
'''
UNDO = """
DROP INDEX IF EXISTS job_later; ALTER TABLE job DROP COLUMN IF EXISTS later;
UPDATE alembic_version SET version_num = '{newest}' WHERE version_num = '9001';
"""
KUSTOMIZATION = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [{overlay}]
images: [{{name: stoker.local/functions, newTag: "{tag}"}}]
patches:
  - target: {{kind: Job, name: migrate}}
    patch: |
      - op: replace
        path: /metadata/name
        value: {job}
    options: {{allowNameChange: true}}
"""


@pytest.fixture(scope="module")
def running(submit: Callable[..., str], job: Callable[[str], dict[str, Any]], api: httpx.Client) -> Iterator[list[str]]:
    """Let 20 jobs run; at the end each still runs in its first attempt, and is cancelled."""
    ids = [submit(model_name="slow-3", epochs=100_000) for _ in range(COUNT)]
    eventually(lambda: all(job(job_id)["state"] == "RUNNING" for job_id in ids), within_seconds=600)
    yield ids
    rows = [job(job_id) for job_id in ids]
    for job_id in ids:
        api.post(f"/v1/jobs/{job_id}/cancel", json={})
    assert {(row["state"], row["attempt"]) for row in rows} == {("RUNNING", 1)}


class Load:
    """Callers that make one call after another, and repeat none."""

    def __init__(self, ids: list[str], token: str) -> None:
        self.outcomes: Counter[str] = Counter()
        self.slowest = 0.0
        self._over = threading.Event()
        self._ids, self._headers = ids, {"Authorization": token}
        self.made: list[str] = []

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Call, each in a thread with a connection that it keeps, until the block ends."""
        threads = [
            threading.Thread(target=self._caller, args=(call,)) for call in (self._read, self._write, self._create)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _caller(self, call: Callable[[httpx.Client, int], httpx.Response]) -> None:
        name = call.__name__.strip("_")
        with httpx.Client(base_url=address_of("front"), headers=self._headers, timeout=90) as client:
            number = 0
            while not self._over.is_set():
                began = time.monotonic()
                try:
                    outcome = str(call(client, number).status_code)
                except httpx.TransportError as error:
                    outcome = f"{type(error).__name__}: {error}"
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.outcomes[f"{name} {outcome}"] += 1
                number += 1
                self._over.wait(5 if name == "create" else 0.2)

    def _read(self, client: httpx.Client, number: int) -> httpx.Response:
        return client.get(f"/v1/jobs/{self._ids[number % COUNT]}")

    def _write(self, client: httpx.Client, number: int) -> httpx.Response:
        return client.patch(f"/v1/jobs/{self._ids[number % COUNT]}", json={"notes": f"call {number}"})

    def _create(self, client: httpx.Client, number: int) -> httpx.Response:
        # It waits for a GPU, which the node does not have.
        body = {"framework": "stub", "model_name": "stub", "dataset_id": "here", "gpus": 1, "name": f"roll {number}"}
        response = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": uuid4().hex})
        if response.is_success:
            self.made.append(response.json()["id"])
        return response


@pytest.fixture
def load(
    running: list[str], api: httpx.Client, job: Callable[[str], dict[str, Any]], request: pytest.FixtureRequest
) -> Iterator[None]:
    """Call the functions during a test; afterwards check that no call has failed and that all jobs have continued."""
    before = {job_id: job(job_id)["epoch"] or 0 for job_id in running}
    load = Load(running, api.headers["Authorization"])
    began = time.monotonic()
    with load.calling():
        yield
    took = time.monotonic() - began
    eventually(lambda: all((job(job_id)["epoch"] or 0) > before[job_id] for job_id in running), within_seconds=120)
    for job_id in load.made:
        api.post(f"/v1/jobs/{job_id}/cancel", json={})
    report(
        f"{request.node.name}: {took:.0f} s, slowest call {load.slowest:.1f} s, {dict(sorted(load.outcomes.items()))}"
    )
    assert set(load.outcomes) == {"read 200", "write 200", "create 201"}


def fronts() -> dict[str, Any]:
    """Return the front's pods by name."""
    return {one["metadata"]["name"]: one for one in get("pods", "-l", "app.kubernetes.io/name=front")}


def until_replaced(old: set[str]) -> None:
    """Wait until the front's old pods have drained and ended."""
    eventually(lambda: not fronts().keys() & old, within_seconds=400)
    kubectl("rollout", "status", "deployment/front", "-n", STOKER, "--timeout=200s")


def until_ready(image: str) -> None:
    """Wait until each function is served by a revision with an image, and no pod of another revision is left."""
    kubectl("wait", "--for=condition=Ready", "ksvc", "--all", "-n", STOKER, "--timeout=300s")
    eventually(lambda: images_of(get("ksvc")) == {image} and are_newest(), within_seconds=300)


def images_of(services: list[dict[str, Any]]) -> set[str]:
    return {one["spec"]["template"]["spec"]["containers"][0]["image"] for one in services}


def are_newest() -> bool:
    newest = {one["status"].get("latestReadyRevisionName") for one in get("ksvc")}
    pods = get("pods", "-l", "serving.knative.dev/service")
    return {pod["metadata"]["labels"]["serving.knative.dev/revision"] for pod in pods} <= newest


@pytest.mark.usefixtures("load")
def test_a_rolling_restart_of_the_front() -> None:
    old = set(fronts())
    kubectl("rollout", "restart", "deployment/front", "-n", STOKER)
    until_replaced(old)


@pytest.mark.usefixtures("load")
def test_a_drain_that_evicts_one_front_after_the_other() -> None:
    for name in fronts():
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": STOKER}}
        path = f"/api/v1/namespaces/{STOKER}/pods/{name}/eviction"
        kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
        until_replaced({name})


@pytest.mark.usefixtures("load")
def test_a_restart_of_all_functions_as_documented() -> None:
    at = {"stoker.dev/restarted-at": str(time.time_ns())}
    patch = json.dumps({"spec": {"template": {"metadata": {"annotations": at}}}})
    for service in get("ksvc"):
        kubectl("patch", "ksvc", service["metadata"]["name"], "-n", STOKER, "--type=merge", "-p", patch)
    until_ready(images.FUNCTIONS)


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Callable[[str, str], str]]:
    """Build the later release. Returns a function that applies a release and returns what its migration logged."""
    newest = max(OVERLAY.parents[2].glob("functions/store/migrations/versions/*.py")).name.partition("_")[0]
    (tmp_path / "later.py").write_text(MIGRATION.format(newest=newest))
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    images.build(NEXT, tmp_path / "Dockerfile", folder=tmp_path)
    overlay = os.path.relpath(OVERLAY.resolve(), tmp_path.resolve())

    def release(tag: str, job: str) -> str:
        (tmp_path / "kustomization.yaml").write_text(KUSTOMIZATION.format(overlay=overlay, tag=tag, job=job))
        apply(kubectl("kustomize", str(tmp_path)))
        kubectl("wait", "--for=condition=Complete", f"job/{job}", "-n", STOKER, "--timeout=300s")
        return kubectl("logs", f"job/{job}", "-n", STOKER)

    yield release
    kubectl("delete", "job", "-l", MIGRATE, "-n", STOKER)
    words = (
        "psql",
        "-h",
        "/tmp",
        "-U",
        "stoker",
        "-v",
        "ON_ERROR_STOP=1",
        "postgres",
        "-c",
        UNDO.format(newest=newest),
    )
    kubectl("exec", "statefulset/postgres", "-n", STOKER, "--", *words)


@pytest.mark.usefixtures("load")
def test_an_upgrade_with_a_migration_and_a_rollback_to_the_older_image(release: Callable[[str, str], str]) -> None:
    assert "the schema is current" in release("2", "migrate-2")
    until_ready(NEXT)

    assert "the schema is newer than this release" in release("1", "migrate-3")
    until_ready(images.FUNCTIONS)
