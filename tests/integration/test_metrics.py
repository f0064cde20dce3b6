"""metrics: what Prometheus scrapes, from stores with jobs of every kind, on both databases."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from functions.domain.states import Reason, State
from functions.runtime import configuration, settings
from functions.store import callbacks, jobs, statistics, upkeep
from functions.store.session import engine
from tests.bench import filled
from tests.conftest import api_headers, call, claim, forget, seconds

SCRAPER = {"scope": "metrics:read"}


@pytest.fixture
def scraped(function: Any) -> Callable[[], dict[tuple[str, frozenset[tuple[str, str]]], float]]:
    """Return the scraped samples, read by the format's own parser: by name and labels."""

    def scrape() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        response = function("metrics").get("/v1/metrics", headers=api_headers(**SCRAPER))
        assert response.status_code == 200, response.text
        assert response.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert response.text.endswith("# EOF\n")
        families = text_string_to_metric_families(response.text)  # type: ignore[no-untyped-call]
        return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}

    return scrape


def sample(scraped: Any, name: str, **labels: str) -> float | None:
    """Return the value of a sample; None if it is not there."""
    value: float | None = scraped().get((name, frozenset(labels.items())))
    return value


@pytest.mark.usefixtures("database_url")
def test_jobs_are_counted_by_framework_state_reason_and_liveness(a_job: Any, scraped: Any, now: datetime) -> None:
    silent = a_job(State.RUNNING, now=now - seconds(900))
    assert upkeep.note_silence(silent, since=now - seconds(100), now=now)
    a_job(State.RUNNING, now=now)
    a_job(State.PENDING, now=now - seconds(60))
    for _ in range(2):
        a_job(State.SUCCEEDED, now=now)
    a_job(State.FAILED, now=now)
    cancelled = a_job(State.QUEUED, now=now)
    jobs.move(cancelled, State.CANCELLED, now=now)

    stub = {"framework": "stub"}
    assert sample(scraped, "stoker_jobs_open", **stub, state="RUNNING", liveness="silent") == 1
    assert sample(scraped, "stoker_jobs_open", **stub, state="RUNNING", liveness="live") == 1
    assert sample(scraped, "stoker_jobs_open", **stub, state="PENDING", liveness="") == 1
    assert sample(scraped, "stoker_job_oldest_timestamp_seconds", state="PENDING") == pytest.approx(
        (now - seconds(60)).timestamp(), abs=1e-3
    )
    ended = {
        (state, reason): sample(scraped, "stoker_jobs_ended_total", **stub, state=state, reason=reason)
        for state, reason in [("SUCCEEDED", ""), ("CANCELLED", ""), ("FAILED", "trainer_error"), ("FAILED", "oom_gpu")]
    }
    assert list(ended.values()) == [2, 1, 1, 0]
    assert {dict(labels)["reason"] for (name, labels) in scraped() if name == "stoker_jobs_ended_total"} >= {*Reason}


@pytest.mark.usefixtures("sqlite")
def test_jobs_are_counted_also_while_the_registry_of_trainers_cannot_be_read(
    a_job: Any, scraped: Any, now: datetime, environment: pytest.MonkeyPatch
) -> None:
    a_job(State.RUNNING, now=now)
    environment.setenv("TRAINERS", "/nowhere.json")
    environment.setenv("FUNCTION_TARGET", "metrics")
    forget()

    assert sample(scraped, "stoker_jobs_open", framework="stub", state="RUNNING", liveness="live") == 1
    configuration.check()


@pytest.mark.usefixtures("database_url")
def test_waits_and_runs_are_histograms(a_job: Any, scraped: Any, now: datetime) -> None:
    start = max(now - seconds(600), now.replace(day=1, hour=0, minute=0, second=0, microsecond=0))
    for run_seconds in (10, 10, 5_000):
        job_id = a_job(State.PENDING, now=start)
        jobs.move(job_id, State.QUEUED, now=start + seconds(2))
        claim(job_id, now=start + seconds(30))
        callbacks.finish(
            call(job_id), State.SUCCEEDED, now=start + seconds(30 + run_seconds), metrics=None, artifacts=None
        )

    def buckets(name: str) -> list[float | None]:
        return [
            sample(scraped, f"stoker_job_{name}_seconds_bucket", framework="stub", le=str(float(bound)))
            for bound in (15, 60, 3_600, 14_400)
        ] + [sample(scraped, f"stoker_job_{name}_seconds_bucket", framework="stub", le="+Inf")]

    assert buckets("run") == [2, 2, 2, 3, 3]
    assert buckets("queue") == [0, 3, 3, 3, 3]  # 28 s
    assert buckets("start") == [0, 3, 3, 3, 3]  # 30 s
    assert sample(scraped, "stoker_job_run_seconds_sum", framework="stub") == pytest.approx(5_020, abs=0.01)
    assert sample(scraped, "stoker_job_queue_seconds_sum", framework="stub") == pytest.approx(84, abs=0.01)
    assert sample(scraped, "stoker_job_run_seconds_count", framework="stub") == 3


@pytest.mark.usefixtures("database_url")
def test_outbox_sweep_and_rejected_events_are_shown(
    a_job: Any, scraped: Any, now: datetime, environment: pytest.MonkeyPatch
) -> None:
    assert sample(scraped, "stoker_outbox_events") is None  # there is no sink
    environment.setenv("K_SINK", "http://broker")
    settings.settings.cache_clear()
    assert sample(scraped, "stoker_sweep_timestamp_seconds") is None
    assert sample(scraped, "stoker_outbox_events") == 0
    assert sample(scraped, "stoker_rejected_events_total") == 0

    a_job(State.QUEUED, now=now - seconds(30))
    upkeep.take_lease(now=now, lasting=seconds(50), away_after=seconds(300))
    upkeep.reject("why", "body", now=now)
    upkeep.reject("why", "body", now=now)  # a repetition

    assert sample(scraped, "stoker_sweep_timestamp_seconds") == pytest.approx(now.timestamp(), abs=1e-3)
    assert sample(scraped, "stoker_outbox_events") == 2
    oldest = sample(scraped, "stoker_outbox_oldest_timestamp_seconds")
    assert oldest == pytest.approx((now - seconds(30)).timestamp(), abs=1e-3)
    assert sample(scraped, "stoker_rejected_events_total") == 1


@pytest.mark.usefixtures("sqlite")
def test_counters_begin_at_the_start_of_the_month(a_job: Any, scraped: Any, now: datetime) -> None:
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    a_job(State.SUCCEEDED, now=month - seconds(1))
    a_job(State.SUCCEEDED, now=month)
    labels = {"framework": "stub", "state": "SUCCEEDED", "reason": ""}

    assert sample(scraped, "stoker_jobs_ended_total", **labels) == 1
    assert sample(scraped, "stoker_jobs_ended_created", **labels) == month.timestamp()
    assert sample(scraped, "stoker_job_run_seconds_count", framework="stub") == 1


@pytest.mark.usefixtures("sqlite")
def test_a_framework_that_is_no_longer_registered_is_still_counted(a_job: Any, scraped: Any, now: datetime) -> None:
    a_job(State.FAILED, now=now, framework='old "quoted"\nname')

    assert (
        sample(
            scraped, "stoker_jobs_ended_total", framework='old "quoted"\nname', state="FAILED", reason="trainer_error"
        )
        == 1
    )


@pytest.mark.usefixtures("sqlite")
@pytest.mark.parametrize("scope", ["jobs:read", "jobs:write", "datasets:notify", "datasets:write"])
def test_only_the_scope_of_metrics_reads_them_and_it_reads_nothing_else(function: Any, scope: str) -> None:
    assert function("metrics").get("/v1/metrics", headers=api_headers(scope)).status_code == 403
    assert function("metrics").get("/v1/metrics").status_code == 401
    for path in ("/v1/jobs", "/v1/rejected-events", "/v1/datasets"):
        assert function("front").get(path, headers=api_headers("metrics:read")).status_code == 403


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_each_query_reads_its_rows_by_an_index(database_url: str) -> None:
    """With many ended jobs of earlier months, and few open ones and few of this month."""
    now = datetime.now(UTC)
    filled.fill(database_url, finished=30_000, running=50, now=now)
    statements: list[tuple[Any, Any]] = []
    from sqlalchemy import event

    event.listen(engine(), "before_cursor_execute", lambda _c, _k, sql, values, *_: statements.append((sql, values)))
    since = now - timedelta(days=1)
    statistics.open_jobs()
    assert sum(row.jobs for row in statistics.ended_jobs(since=since)) in range(900, 1_100)
    for name in statistics.DURATIONS:
        statistics.durations(name, since=since)
    statistics.backlog(since=since)
    counted = [(sql, values) for sql, values in statements if sql.startswith("SELECT") and "sweep_turn" not in sql]
    assert len(counted) == 8

    with psycopg.connect(database_url) as connection:
        for sql, values in counted:
            plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {sql}".encode(), values).fetchall())
            is_small = "rejected_event" in sql  # an empty table
            assert is_small or "Seq Scan" not in plan, plan
