"""What the functions log while good and bad requests come in: no secret and no token is in it."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from functions.domain.states import State
from tests.conftest import SECRET, api_headers, callback_headers, served_and_up
from tests.unit.vendors import FIXTURES

MARKER = "secret-storage-key-marker"
AWAY = {"DATABASE_URL": f"postgresql://stoker:{MARKER}@127.0.0.1:9/stoker"}


@pytest.mark.usefixtures("sqlite", "no_trainer_left")
@pytest.mark.parametrize("changes", [{}, AWAY], ids=["all is well", "the database is away"])
def test_no_secret_and_no_token_is_ever_logged(a_job: Any, tmp_path: Path, changes: dict[str, str]) -> None:
    job_id = a_job(State.RUNNING)
    good, api = callback_headers(job_id), api_headers()
    shown = [good["Authorization"], api["Authorization"], "Bearer forged.token-marker.x"]
    storage = {"MINIO_ENDPOINT": "http://127.0.0.1:9", "MINIO_ACCESS_KEY": MARKER, "MINIO_SECRET_KEY": MARKER}
    with (
        (tmp_path / "log").open("wb") as output,
        served_and_up("front", storage | changes, output=output) as address,
    ):
        for authorization in shown:
            headers = {"Authorization": authorization, "Content-Type": "application/json"}
            for path, body in requests(job_id):
                httpx.post(f"{address}{path}?token={shown[0].split()[1]}", content=body, headers=headers, timeout=60)
            httpx.get(f"{address}/v1/jobs/{job_id}/artifacts", headers=headers, timeout=60)

    log = (tmp_path / "log").read_text()
    assert log.count("[TRACE:") > 10
    assert job_id in log
    secrets = [SECRET, MARKER, "X-Amz-Signature", *(one.split(" ")[1] for one in shown)]
    assert [secret for secret in secrets if secret in log] == []
    for line in log.splitlines():
        assert not line.startswith("{") or json.loads(line)["function"]


def requests(job_id: str) -> list[tuple[str, bytes]]:
    """Return good and bad requests, which meet every kind of answer."""
    return [
        (f"/v1/jobs/{job_id}/heartbeat", b'{"epoch": 1}'),
        (f"/v1/jobs/{job_id}/event", b'{"type": "nonsense"}'),
        (f"/v1/jobs/{job_id}/presign", f'{{"method": "GET", "key": "logs/job-{job_id}/x"}}'.encode()),
        (f"/v1/jobs/{job_id}/presign", b'{"method": "GET", "key": "datasets/other.zip"}'),
        ("/v1/jobs/none/done", b'{"status": "SUCCEEDED"}'),
        ("/v1/jobs", b"{"),
        (
            "/v1/jobs",
            b'{"framework": "stub", "model_name": "stub-1", "dataset_id": "digits", "hyperparameters": {"calls": false}}',
        ),
        ("/v1/jobs", FIXTURES["aws_put"]),
        ("/v1/sweep", b""),
    ]
