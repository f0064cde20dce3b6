"""Keys are rotated in two steps while jobs are submitted: two replicas read each step at moments of their own."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from functions.api import tokens
from tests.conftest import SECRET, api_headers, eventually, free_ports, served_and_up

pytestmark = [pytest.mark.usefixtures("sqlite", "dataset", "no_trainer_left"), pytest.mark.timeout(180)]
OLD, NEW = f"test:{SECRET}", f"new:{SECRET[::-1]}"
STEPS = (f"{OLD},{NEW}", f"{NEW},{OLD}", NEW)


class Replica:
    """A process with all functions; trainers that it launches call the other replica back."""

    def __init__(self, folder: Path, port: int, other: int, parts: ExitStack) -> None:
        self.file = folder / f"JWT_SECRETS-{port}"
        self.write(OLD)
        variables = {
            "JWT_SECRETS_FILE": str(self.file),
            "BACKEND_BASE_URL": f"http://127.0.0.1:{other}",
            "LOCAL_JOB_LIMIT": "20",
        }
        self.address = parts.enter_context(served_and_up("front", variables, port=port))

    def write(self, secrets: str) -> None:
        """Replace the file as the kubelet does: at once."""
        part = self.file.with_suffix(".part")
        part.write_text(secrets)
        part.rename(self.file)

    def call(self, method: str, path: str, headers: dict[str, str], **body: Any) -> Any:
        answer = httpx.request(method, self.address + path, json=body or None, headers=headers, timeout=30)
        assert answer.is_success, answer.text
        return answer.json()


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[tuple[Replica, Replica]]:
    first, second = free_ports(2)
    with ExitStack() as parts:
        yield Replica(tmp_path, first, second, parts), Replica(tmp_path, second, first, parts)


def test_no_job_and_no_call_fails_while_keys_are_rotated(
    replicas: tuple[Replica, Replica], environment: pytest.MonkeyPatch
) -> None:
    headers, job_ids = api_headers(), []

    def submit_to_each() -> None:
        for replica in replicas:
            requested = {"framework": "stub", "model_name": "stub-1", "dataset_id": "digits", "attempt_limit": 1}
            created = replica.call(
                "POST", "/v1/jobs", headers, **requested, hyperparameters={"epochs": 2, "seconds": 0.2}
            )
            job_ids.append(created["id"])

    def all_succeeded() -> bool:
        states = {job_id: replicas[0].call("GET", f"/v1/jobs/{job_id}", headers)["state"] for job_id in job_ids}
        assert "FAILED" not in states.values(), states
        return set(states.values()) == {"SUCCEEDED"}

    submit_to_each()
    for step in STEPS:
        if step == NEW:  # a day later: no token of the old key is in use any more
            eventually(all_succeeded, within_seconds=60)
            environment.setenv("JWT_SECRETS", NEW)
            headers = api_headers()
            assert jwt.get_unverified_header(headers["Authorization"].split()[1])["kid"] == "new"
        for replica in replicas:
            replica.write(step)
            submit_to_each()

    eventually(all_succeeded, within_seconds=60)
    assert list(tokens.keys()) == ["new"]
