"""cancel, through functions-framework as callers and Brokers meet it."""

from pathlib import Path
from typing import Any

import pytest

from functions.domain.states import State
from functions.store import queries
from tests.conftest import api_headers, forget

pytestmark = pytest.mark.usefixtures("sqlite")
STRUCTURED = "application/cloudevents+json"


def test_cancelling_twice_is_the_same_as_once_and_an_ended_job_is_refused(function: Any, a_job: Any) -> None:
    client, job_id = function("cancel"), a_job(State.QUEUED)
    answers = [client.post(f"/v1/jobs/{job_id}/cancel", headers=api_headers()) for _ in range(2)]

    assert [(answer.status_code, answer.json()["state"]) for answer in answers] == [(200, "CANCELLED")] * 2
    assert client.post(f"/v1/jobs/{a_job(State.SUCCEEDED)}/cancel", headers=api_headers()).status_code == 409


def test_a_job_is_cancelled_although_its_launcher_is_misconfigured_and_sweep_stops_the_trainer_later(
    function: Any, a_job: Any, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job_id = a_job(State.RUNNING)
    environment.setenv("LAUNCHER", "kubernetes")
    environment.setenv("KUBECONFIG", str(tmp_path / "missing"))
    forget()
    response = function("cancel").post(f"/v1/jobs/{job_id}/cancel", headers=api_headers())

    assert (response.status_code, queries.job(job_id).state) == (200, State.CANCELLED)


def test_an_event_cancels_a_job_and_the_response_is_empty(function: Any, a_job: Any) -> None:
    job_id = a_job(State.RUNNING)
    event = {"specversion": "1.0", "id": "1", "source": "/me", "type": "dev.stoker.job.cancel", "subject": job_id}
    answer = function("cancel").post("/", json=event, headers={"Content-Type": STRUCTURED, **api_headers()})

    assert (answer.status_code, answer.content) == (202, b"")
    assert queries.job(job_id).state == State.CANCELLED


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"{", STRUCTURED), (b"{}", "application/cloudevents-batch+json"), (b"<a/>", "application/cloudevents+xml")],
)
def test_a_delivery_that_can_never_be_read_is_kept_with_its_reason(
    function: Any, body: bytes, content_type: str
) -> None:
    answer = function("cancel").post(
        "/v1/cancel", content=body, headers={"Content-Type": content_type, **api_headers()}
    )

    assert (answer.status_code, answer.content) == (202, b"")
    assert [row.body for row in queries.rejected_events(after=0, limit=9)[0]] == [body.decode()]
