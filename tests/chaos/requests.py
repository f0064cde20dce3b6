"""A user's requests: submit, upload, cancel; and the timer's sweep. Each is repeated until it is answered."""

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
_RETRY_SECONDS = 0.3
_EMPTY_ZIP = b"PK\5\6" + bytes(18)


class RejectedError(Exception):
    """A request that no retry can make succeed."""


def dataset_id(seed: int, work: Work) -> str:
    """Return the ID of a job's own dataset."""
    return f"chaos-{seed}-{work.number}"


def submit(variables: Mapping[str, str], seed: int, work: Work) -> str:
    """Submit a job, or upload its dataset; return the job's ID, or "" for an upload."""
    if work.is_upload:
        _upload(seed, work, _metadata(work))
        return ""
    _upload(seed, work, {})  # without metadata, an upload creates no job
    body = {
        "framework": "stub",
        "model_name": "stub-1",
        "dataset_id": dataset_id(seed, work),
        "hyperparameters": work.plan,
        "attempt_limit": work.launches,
        "check_first": work.check_first,
    }
    headers = {"Idempotency-Key": dataset_id(seed, work)}
    return str(_post_until_answered(variables, "/v1/jobs", body, headers, {200, 201})["id"])


def _metadata(work: Work) -> dict[str, str]:
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
            time.sleep(_RETRY_SECONDS)
        else:
            return


def cancel(variables: Mapping[str, str], job_id: str) -> None:
    """Cancel a job."""
    _post_until_answered(variables, f"/v1/jobs/{job_id}/cancel", {}, {}, {200, 409})


def _post_until_answered(
    variables: Mapping[str, str], path: str, body: Any, headers: dict[str, str], accepted: set[int]
) -> dict[str, Any]:
    while True:
        status, response = _post(variables["STOKER_URL"], path, json.dumps(body).encode(), _token(variables) | headers)
        if status in accepted:
            return dict(json.loads(response))
        if status not in {0, 500, 502, 503}:
            raise RejectedError(f"{path}: {status} {response!r}")
        time.sleep(_RETRY_SECONDS)


def sweep(variables: Mapping[str, str], port: int) -> int:
    """Request one sweep; return the status, 0 if there was no response."""
    return _post(f"http://127.0.0.1:{port}", "/v1/sweep", b"", _token(variables), seconds=60)[0]


def _post(address: str, path: str, body: bytes, headers: dict[str, str], seconds: float = 15) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=seconds)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def _token(variables: Mapping[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {_minted(variables['JWT_SECRETS'])}"}


@cache
def _minted(secrets: str) -> str:
    return mint(secrets, "chaos", "jobs:read jobs:write datasets:notify", _TOKEN_SECONDS)
