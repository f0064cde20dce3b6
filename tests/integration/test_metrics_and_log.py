"""A job's metrics, log and artifacts, and ETags."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from functions.api import tokens
from functions.domain.states import State
from functions.reconcile import retention
from functions.runtime import logfiles
from functions.store import jobs
from functions.store.heartbeats import Heartbeat
from tests.conftest import BUCKET, NOW, api_headers, call, claim, forget, record_heartbeat, seconds

pytestmark = pytest.mark.usefixtures("database_url")


@pytest.fixture
def get(function: Callable[[str], Any]) -> Callable[..., Any]:
    client = function("jobs")

    def get(path: str, *, tag: str = "", **query: Any) -> Any:
        headers = api_headers("jobs:read") | ({"If-None-Match": tag} if tag else {})
        return client.get(path, params=query, headers=headers)

    return get


def beat(job_id: str, epoch: int, **metrics: float) -> None:
    record_heartbeat(
        call(job_id), Heartbeat(epoch=epoch, step=epoch, metrics=metrics or None), now=NOW + seconds(epoch)
    )


def test_metrics_are_columns_of_all_heartbeats_that_have_some(get: Any, a_job: Any) -> None:
    job_id, other = a_job(State.RUNNING), a_job(State.RUNNING)
    for epoch in (1, 2, 3):
        beat(job_id, epoch, loss=1 / epoch)
        beat(other, epoch, loss=9)
    beat(job_id, 4)
    shown = get(f"/v1/jobs/{job_id}/metrics").json()

    assert shown == {
        "columns": {
            "epoch": [1, 2, 3],
            "step": [1, 2, 3],
            "time": [NOW.timestamp() + epoch for epoch in (1, 2, 3)],
            "loss": [1, 1 / 2, 1 / 3],
        },
        "rows": 3,
    }
    assert get(f"/v1/jobs/{job_id}/metrics", points=2).json()["columns"]["epoch"] == [1, 3]
    assert get("/v1/jobs/none/metrics").status_code == 404


@pytest.mark.usefixtures("s3")
def test_metrics_stay_when_retention_has_moved_the_events(
    get: Any, a_job: Any, environment: pytest.MonkeyPatch
) -> None:
    job_id = a_job(State.RUNNING)
    for epoch in (1, 2):
        beat(job_id, epoch, loss=1 / epoch)
    jobs.move(job_id, State.CANCELLED, now=NOW)
    before = get(f"/v1/jobs/{job_id}/metrics")
    environment.setenv("RETENTION_DAYS", "1")
    forget()
    retention.run(now=NOW + seconds(3 * 24 * 3600))
    after = get(f"/v1/jobs/{job_id}/metrics", tag=before.headers["etag"])

    assert (after.status_code, after.json()) == (200, before.json())
    assert get(f"/v1/jobs/{job_id}/events").json()["events"] == []


@pytest.mark.parametrize("path", ["", "/metrics", "/events"])
def test_unchanged_responses_are_304_and_changed_ones_are_sent(get: Any, a_job: Any, path: str) -> None:
    job_id = a_job(State.RUNNING)
    beat(job_id, 1, loss=1)
    first = get(f"/v1/jobs/{job_id}{path}")
    tag = first.headers["etag"]
    again = [get(f"/v1/jobs/{job_id}{path}", tag=if_none_match) for if_none_match in (tag, f'"x", W/{tag}', "*")]
    beat(job_id, 2, loss=2)
    changed = get(f"/v1/jobs/{job_id}{path}", tag=tag)

    assert [(one.status_code, one.content, one.headers["etag"]) for one in again] == [(304, b"", tag)] * 3
    assert (changed.status_code, changed.headers["etag"] != tag) == (200, True)
    assert changed.json() != first.json()


def test_a_list_that_has_not_changed_is_304(get: Any, a_job: Any) -> None:
    a_job()
    tag = get("/v1/jobs").headers["etag"]
    assert get("/v1/jobs", tag=tag).status_code == 304
    a_job()
    assert get("/v1/jobs", tag=tag).status_code == 200


def followed(get: Any, job_id: str, **query: Any) -> tuple[str, list[dict[str, str]]]:
    """Read a log from its start to its end, as a client does."""
    text, offset = "", 0
    parts: list[dict[str, str]] = []
    while True:
        part = get(f"/v1/jobs/{job_id}/log", offset=offset, **query)
        assert part.headers["content-type"] == "text/plain; charset=utf-8"
        text, parts = text + part.text, [*parts, dict(part.headers)]
        if int(part.headers["log-next-offset"]) == offset:
            return text, parts
        offset = int(part.headers["log-next-offset"])


def test_a_stored_log_is_read_in_parts_that_cut_no_character(
    get: Any, a_job: Any, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfiles, "LIMIT_BYTES", 7)
    job_id = a_job(State.RUNNING)
    text = "größe 1\n✓ 😀😀 done\nÜ"
    s3.put_object(Bucket=BUCKET, Key=f"logs/job-{job_id}/attempt-1.log", Body=text.encode())
    whole, parts = followed(get, job_id)

    assert whole == text
    assert {part["log-attempt"] for part in parts} == {"1"}
    assert {part["log-complete"] for part in parts} == {"false"}  # more may follow
    tail = get(f"/v1/jobs/{job_id}/log", offset=-6)
    assert (tail.text, tail.headers["log-next-offset"]) == ("one\nÜ"[-5:], str(len(text.encode())))
    assert get(f"/v1/jobs/{job_id}/log", offset=10_000).text == ""


def test_a_log_is_complete_some_time_after_the_end_and_each_attempts_is_shown(get: Any, a_job: Any, s3: Any) -> None:
    job_id = a_job(State.RUNNING)
    claim(job_id)
    for attempt in (1, 2):
        s3.put_object(Bucket=BUCKET, Key=f"logs/job-{job_id}/attempt-{attempt}.log", Body=f"of {attempt}".encode())
    first, latest = get(f"/v1/jobs/{job_id}/log", attempt=1), get(f"/v1/jobs/{job_id}/log")
    jobs.move(job_id, State.CANCELLED, now=tokens.now())
    just_ended = get(f"/v1/jobs/{job_id}/log")

    assert (first.text, first.headers["log-complete"]) == ("of 1", "true")
    assert (latest.text, latest.headers["log-attempt"], latest.headers["log-complete"]) == ("of 2", "2", "false")
    assert just_ended.headers["log-complete"] == "false"
    assert get(f"/v1/jobs/{job_id}/log", attempt=3).json()["errors"][0]["field"] == "attempt"
    ended = a_job(State.SUCCEEDED)
    assert get(f"/v1/jobs/{ended}/log").headers["log-complete"] == "true"


@pytest.mark.usefixtures("s3")
def test_the_log_of_a_trainer_that_stores_none_is_the_launchers_file(get: Any, a_job: Any, tmp_path: Path) -> None:
    job_id = a_job(State.RUNNING)
    assert get(f"/v1/jobs/{job_id}/log").text == ""
    file = tmp_path / "runs" / job_id / "1" / "trainer.log"
    file.parent.mkdir(parents=True)
    file.write_text("printed ✓\n")

    assert followed(get, job_id)[0] == "printed ✓\n"
    assert get(f"/v1/jobs/{job_id}/log", offset=-3).text == "\n"  # ✓ has three bytes


def test_artifacts_come_in_pages_below_a_prefix(get: Any, a_job: Any, s3: Any) -> None:
    job_id = a_job(State.SUCCEEDED)
    keys = [
        *(f"checkpoints/job-{job_id}/{name}.pt" for name in ("best", "last")),
        f"logs/job-{job_id}/attempt-1.log",
        *(f"results/job-{job_id}/samples/{number}.jpg" for number in range(3)),
    ]
    for key in keys:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    path, listed, after = f"/v1/jobs/{job_id}/artifacts", [], ""
    while after is not None:
        page = get(path, limit=2, after=after).json()
        listed.append([artifact["key"] for artifact in page["artifacts"]])
        after = page["next_after"]

    assert listed == [keys[:2], keys[2:4], keys[4:]]
    assert get(path).json()["next_after"] is None
    for prefix in ("results/", "results/job-", f"results/job-{job_id}/samples/"):
        assert [one["key"] for one in get(path, prefix=prefix).json()["artifacts"]] == keys[3:]
    assert get(path, prefix="results/job-other/").json()["artifacts"] == []
