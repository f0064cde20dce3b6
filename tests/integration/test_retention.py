"""retention, with a real S3 server: old rows are stored in the bucket completely before they are deleted."""

import gzip
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import col, select

from functions.domain.errors import Busy
from functions.domain.states import State
from functions.reconcile import retention
from functions.store import archive, outbox, queries, upkeep
from functions.store import jobs as store
from functions.store.heartbeats import Heartbeat
from functions.store.session import read, write
from functions.store.tables import Outbox
from tests.conftest import BUCKET, NOW, api_headers, call, forget, record_heartbeat, seconds

pytestmark = pytest.mark.usefixtures("database_url")
DAY = timedelta(days=1)
LATER = NOW + 40 * DAY


@pytest.fixture(autouse=True)
def thirty_days(environment: pytest.MonkeyPatch, s3: Any) -> None:
    del s3
    environment.setenv("RETENTION_DAYS", "30")
    forget()


@pytest.fixture
def ended(a_job: Callable[..., str]) -> Callable[..., str]:
    """Make a job that ran some epochs, and ended on some day."""

    def make(day: int = 0, epochs: int = 2) -> str:
        job_id = a_job(State.RUNNING, now=NOW + day * DAY)
        for epoch in range(1, epochs + 1):
            record_heartbeat(
                call(job_id), Heartbeat(epoch=epoch, metrics={"loss": 1 / epoch}), now=NOW + day * DAY + seconds(epoch)
            )
        store.move(job_id, State.SUCCEEDED, now=NOW + day * DAY + seconds(60))
        return job_id

    return make


def objects(s3: Any) -> dict[str, list[dict[str, Any]]]:
    """Return what the archive holds, by key, in order of time."""
    results = s3.list_objects_v2(Bucket=BUCKET, Prefix="archive/").get("Contents", [])
    return {
        one["Key"]: [
            json.loads(line)
            for line in gzip.decompress(s3.get_object(Bucket=BUCKET, Key=one["Key"])["Body"].read()).splitlines()
        ]
        for one in results
    }


def events(job_id: str) -> list[Any]:
    return queries.events(job_id, kind=None, after=0, limit=500)[0]


def test_events_of_jobs_that_ended_long_ago_move_and_all_others_stay(ended: Any, a_job: Any, s3: Any) -> None:
    old, young, running = ended(), ended(day=20), a_job(State.RUNNING)
    before = [(row.id, row.type, row.epoch, row.metrics) for row in events(old)]
    stored = len(events(young)), len(events(running))
    retention.run(now=LATER)

    ((key, lines),) = objects(s3).items()
    assert key.startswith("archive/events/2026-01-01/")
    assert [(line["id"], line["type"], line["epoch"], line["metrics"]) for line in lines] == before
    assert {line["job_id"] for line in lines} == {old}
    assert (events(old), queries.archive_key(old)) == ([], key)
    assert (len(events(young)), len(events(running))) == stored
    assert queries.archive_key(young) is None


@pytest.mark.parametrize("batch", [1, 3, 7, 10, 5_000])
def test_every_event_is_archived_once_whatever_a_batch_holds(ended: Any, s3: Any, batch: int) -> None:
    jobs = [ended(epochs=epochs) for epochs in (0, 12, 1, 3)]
    before = sorted((row.job_id, row.id) for job_id in jobs for row in events(job_id))
    retention.run(now=LATER, batch=batch)

    lines = [(key, line) for key, lines in objects(s3).items() for line in lines]
    assert sorted((line["job_id"], line["id"]) for _, line in lines) == before
    assert all(queries.archive_key(line["job_id"]) == key for key, line in lines)
    assert [row for job_id in jobs for row in events(job_id)] == []


def test_a_crash_between_the_upload_and_the_deletion_repeats_the_same(
    ended: Any, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = ended()
    with monkeypatch.context() as crash:
        crash.setattr(archive, "mark_archived", _crash)
        with pytest.raises(KeyboardInterrupt):
            retention.run(now=LATER)
    first = objects(s3)
    assert len(events(job_id)) == len(next(iter(first.values())))

    retention.run(now=LATER)
    assert objects(s3) == first
    assert events(job_id) == []


def _crash(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_slow_sweep_overwrites_no_archive_of_another_sweep(ended: Any, s3: Any) -> None:
    first, second = ended(), ended(day=1)
    slow = archive.oldest_ended(before=NOW + DAY, limit=100)
    assert slow is not None
    retention.run(now=LATER)
    before, key = objects(s3), queries.archive_key(first)
    late = retention._upload_rows("events", slow.ended_at, slow.events)
    archive.mark_archived(slow.job_ids, late)

    assert before.items() <= objects(s3).items()
    assert queries.archive_key(first) == queries.archive_key(second) == key


def test_no_row_is_archived_while_the_storage_is_unreachable(ended: Any, environment: pytest.MonkeyPatch) -> None:
    job_id = ended()
    before = len(events(job_id))
    environment.setenv("MINIO_ENDPOINT", "http://127.0.0.1:9")
    forget()
    with pytest.raises(Busy):
        retention.run(now=LATER)

    assert len(events(job_id)) == before


def test_without_a_setting_everything_stays(ended: Any, environment: pytest.MonkeyPatch, s3: Any) -> None:
    job_id = ended()
    environment.setenv("RETENTION_DAYS", "0")
    forget()
    retention.run(now=LATER)

    assert events(job_id)
    assert objects(s3) == {}


def test_rows_sent_long_ago_are_deleted_and_unsent_ones_kept(ended: Any) -> None:
    job_id = ended()
    with read() as session:
        sent, *unsent = session.exec(select(Outbox).where(Outbox.job_id == job_id).order_by(col(Outbox.id)))
    outbox.mark_sent([sent], now=NOW)
    retention.run(now=LATER, batch=1)

    with read() as session:
        assert list(session.exec(select(Outbox.id).order_by(col(Outbox.id)))) == [row.id for row in unsent]


def test_old_rejected_events_move_but_none_that_sweep_still_looks_for(environment: pytest.MonkeyPatch, s3: Any) -> None:
    environment.setenv("RETENTION_DAYS", "1")
    forget()
    for day in (0, 1, 9):
        upkeep.reject(f"reason {day}", "{}", now=NOW + day * DAY)
    retention.run(now=NOW + 10 * DAY, batch=1)

    lines = [line for results in objects(s3).values() for line in results]
    assert sorted(line["reason"] for line in lines) == ["reason 0", "reason 1"]
    assert [row.reason for row in queries.rejected_events(after=0, limit=10)[0]] == ["reason 9"]


def test_the_events_of_an_archived_job_are_a_link_to_the_archive(ended: Any, function: Any) -> None:
    import httpx

    job_id, client = ended(), function("jobs")
    path = f"/v1/jobs/{job_id}/events"
    before = client.get(path, headers=api_headers()).json()
    assert "archive" not in before
    retention.run(now=LATER)
    after = client.get(path, headers=api_headers()).json()

    assert (after["events"], after["next_after"]) == ([], None)
    lines = [
        json.loads(line)
        for line in gzip.decompress(httpx.get(after["archive"]["url"], timeout=60).content).splitlines()
    ]
    ours = [line for line in lines if line["job_id"] == job_id]
    hidden = ("job_id", "ce_source", "ce_id")
    assert [{name: line[name] for name in line if name not in hidden} for line in ours] == before["events"]
    assert client.get(f"/v1/jobs/{job_id}", headers=api_headers()).json()["state"] == "SUCCEEDED"


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_heartbeat_does_not_wait_for_retention(
    ended: Any, a_job: Any, database_url: str, environment: pytest.MonkeyPatch
) -> None:
    """In PostgreSQL; SQLite has one writer at a time, whoever it is."""
    old, running = ended(), a_job(State.RUNNING)
    separator = "&" if "?" in database_url else "?"
    environment.setenv("DATABASE_URL", f"{database_url}{separator}options=-c%20lock_timeout%3D1s")
    forget()
    with write() as session:
        archive.delete_events(session, [old], "archive/events/x")
        record_heartbeat(call(running), Heartbeat(epoch=3), now=NOW)  # or: canceling statement due to lock timeout
        assert len([row for row in events(running) if row.epoch == 3]) == 1
