"""What a user of the stack does: asks for jobs, uploads datasets, cancels; and the timer's sweep. Each until it is heard."""

import http.client
import json
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

from client.home import home
from infra.local import bucket
from infra.local.minting import mint
from tests.chaos.plan import Work

_TOKEN_SECONDS = 30 * 24 * 3600
_AGAIN_SECONDS = 0.3
_EMPTY_ZIP = b"PK\5\6" + bytes(18)


class RefusedError(Exception):
    """Something that no retry can mend."""


def dataset_id(seed: int, work: Work) -> str:
    """Return a name that no other job's dataset has."""
    return f"chaos-{seed}-{work.number}"


def ask(variables: Mapping[str, str], seed: int, work: Work) -> str:
    """Ask for a job, or upload its dataset; return the job's id, or nothing where an upload is yet to become one."""
    if work.is_upload:
        _upload(seed, work, _asked(work))
        return ""
    _upload(seed, work, {})  # without metadata it becomes no job
    body = {
        "framework": "stub",
        "model_name": "stub-1",
        "dataset_id": dataset_id(seed, work),
        "hyperparameters": work.plan,
        "attempt_limit": work.launches,
    }
    headers = {"Idempotency-Key": dataset_id(seed, work)}
    return str(_heard(variables, "/v1/jobs", body, headers, {200, 201})["id"])


def _asked(work: Work) -> dict[str, str]:
    return {
        "stoker-framework": "stub",
        "stoker-model": "stub-1",
        "stoker-attempt-limit": str(work.launches),
        "stoker-hyperparameters": json.dumps(work.plan),
    }


def _upload(seed: int, work: Work, metadata: Mapping[str, str]) -> None:
    path = home() / f"upload-{work.number}.zip"
    path.write_bytes(_EMPTY_ZIP)
    while True:
        try:
            bucket.upload(path, f"datasets/{dataset_id(seed, work)}.zip", metadata)
        except OSError:
            time.sleep(_AGAIN_SECONDS)
        else:
            return


def cancel(variables: Mapping[str, str], job_id: str) -> None:
    """Cancel a job."""
    _heard(variables, f"/v1/jobs/{job_id}/cancel", {}, {}, {200, 409})


def _heard(
    variables: Mapping[str, str], path: str, body: Any, headers: dict[str, str], good: set[int]
) -> dict[str, Any]:
    while True:
        status, answer = _post(variables["STOKER_URL"], path, json.dumps(body).encode(), _token(variables) | headers)
        if status in good:
            return dict(json.loads(answer))
        if status not in {0, 500, 502, 503}:
            raise RefusedError(f"{path}: {status} {answer!r}")
        time.sleep(_AGAIN_SECONDS)


def sweep(variables: Mapping[str, str], port: int) -> int:
    """Ask for one sweep; return the status, 0 for none."""
    return _post(f"http://127.0.0.1:{port}", "/v1/sweep", b"", _token(variables), seconds=60)[0]


def _post(address: str, path: str, body: bytes, headers: dict[str, str], seconds: float = 15) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=seconds)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def _token(variables: Mapping[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {_minted(variables['JWT_SECRETS'])}"}


@cache
def _minted(secrets: str) -> str:
    return mint(secrets, "chaos", "jobs:read jobs:write datasets:notify", _TOKEN_SECONDS)
