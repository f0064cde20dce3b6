"""The store keeps its contract, on SQLite and on PostgreSQL."""

import asyncio
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from functions.domain.callbacks import TrainerEvent
from functions.domain.errors import Busy, NotFound, Refusal, Unusable, WrongState
from functions.domain.spec import Spec
from functions.domain.states import FINAL, NEXT, Reason, State
from functions.store import callbacks, heartbeats, jobs, queries, upkeep, views
from functions.store import outbox as store_outbox
from functions.store.heartbeats import Heartbeat
from functions.store.session import is_sqlite, read, sqlite_statements, statement, write
from functions.store.tables import Job, Outbox
from tests.conftest import NOW, call, claim, eventually, record_heartbeat, seconds
from tests.fixtures.event_loop import run

pytestmark = pytest.mark.usefixtures("database_url")
SPEC = Spec(framework="stub", model_name="stub-1", dataset_id="digits")


def race(*calls: Callable[[], Any]) -> list[Any]:
    """Run the calls at the same moment; a refusal is an outcome as well."""
    gate, outcomes = threading.Barrier(len(calls)), []

    def run(one: Callable[[], Any]) -> None:
        gate.wait()
        try:
            outcomes.append(one())
        except Refusal as refusal:
            outcomes.append(refusal)

    threads = [threading.Thread(target=run, args=(one,)) for one in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def timeline(job_id: str) -> list[str]:
    return [row.type for row in queries.events(job_id, kind=None, after=0, limit=500)[0]]


def outbox(job_id: str) -> list[tuple[int, str]]:
    with read() as session:
        rows = session.exec(select(Outbox).where(Outbox.job_id == job_id).order_by(col(Outbox.id))).all()
    return [(row.sequence, row.type) for row in rows]


@pytest.mark.parametrize("to", State)
@pytest.mark.parametrize("start", State)
def test_only_moves_in_the_table_happen(a_job: Any, start: State, to: State) -> None:
    job_id = a_job(start)
    reason = Reason.LOST if to == State.FAILED else None

    if to in NEXT[start]:
        assert jobs.move(job_id, to, reason=reason, now=NOW).state == to
    else:
        with pytest.raises(WrongState) as refused:
            jobs.move(job_id, to, reason=reason, now=NOW)
        assert refused.value.members["state"] == start


def test_a_move_of_an_unknown_job_is_refused() -> None:
    with pytest.raises(NotFound):
        jobs.move("nobody", State.QUEUED, now=NOW)


def test_every_move_is_in_the_timeline_and_in_the_outbox_in_order(a_job: Any) -> None:
    job_id = a_job(State.SUCCEEDED)

    assert timeline(job_id) == ["PENDING", "QUEUED", "RUNNING", "started", "SUCCEEDED"]
    assert outbox(job_id) == [
        (1, "dev.stoker.job.pending"),
        (2, "dev.stoker.job.queued"),
        (3, "dev.stoker.job.running"),
        (4, "dev.stoker.job.succeeded"),
    ]


def test_a_refused_move_leaves_no_trace(a_job: Any) -> None:
    job_id = a_job(State.CANCELLED)
    before = timeline(job_id), outbox(job_id)

    with pytest.raises(WrongState):
        jobs.move(job_id, State.FAILED, reason=Reason.LOST, now=NOW)

    assert (timeline(job_id), outbox(job_id)) == before


def test_of_done_and_cancel_at_once_one_wins(a_job: Any) -> None:
    for _ in range(20):
        job_id = a_job(State.RUNNING)
        outcomes = race(
            partial(callbacks.finish, call(job_id), State.SUCCEEDED, metrics=None, artifacts=None, now=NOW),
            partial(jobs.move, job_id, State.CANCELLED, now=NOW),
        )

        assert sum(isinstance(outcome, Job) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, WrongState) for outcome in outcomes) == 1
        assert len([one for one in timeline(job_id) if one in FINAL]) == 1


def test_the_same_done_at_once_is_one_event_and_one_outcome(a_job: Any) -> None:
    for number in range(10):
        job_id = a_job(State.RUNNING)

        def done(job_id: str = job_id, number: int = number) -> str:
            callback = call(job_id, f"done-{number}")
            return callbacks.finish(callback, State.SUCCEEDED, metrics={"a": 1.0}, artifacts=None, now=NOW).state

        assert race(done, done, done) == [State.SUCCEEDED] * 3
        assert timeline(job_id).count("SUCCEEDED") == 1


def test_done_twice_by_different_calls_is_refused_with_the_state(a_job: Any) -> None:
    job_id = a_job(State.SUCCEEDED)

    with pytest.raises(WrongState) as refused:
        callbacks.finish(call(job_id), State.FAILED, metrics=None, artifacts=None, reason=Reason.LOST, now=NOW)

    assert refused.value.members["state"] == State.SUCCEEDED


def test_one_identity_makes_one_job_however_many_ask_at_once() -> None:
    outcomes = race(*[lambda: jobs.create(SPEC, identity="the-one", trace_id="0" * 32, now=NOW)] * 12)

    assert len({job.id for job, _ in outcomes}) == 1
    assert sum(new for _, new in outcomes) == 1


def test_a_job_without_an_identity_is_never_answered_with_a_strangers_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda count: "00" * count)
    first, _ = jobs.create(SPEC, identity=None, trace_id="0" * 32, now=NOW)

    with pytest.raises(IntegrityError):
        jobs.create(SPEC, identity=None, trace_id="0" * 32, now=NOW)
    with pytest.raises(IntegrityError):
        jobs.create(SPEC, identity="of another", trace_id="0" * 32, now=NOW)
    assert [job.id for job in queries.jobs({}, cursor=None, limit=9)[0]] == [first.id]


def test_a_job_shows_its_dataset_version_and_its_image_to_callers_and_in_events() -> None:
    job, _ = jobs.create(SPEC, identity=None, trace_id="0" * 32, now=NOW, dataset_etag="e1")
    upkeep.note_submitted(job, None, now=NOW, image="registry/trainer:1")
    shown = views.job_json(jobs.move(job.id, State.QUEUED, now=NOW))

    assert (shown["dataset_etag"], shown["image"]) == ("e1", "registry/trainer:1")
    with read() as session:
        events = session.exec(select(Outbox).where(Outbox.job_id == job.id).order_by(col(Outbox.id))).all()
    assert [(row.data["dataset_etag"], row.data["image"]) for row in events] == [
        ("e1", None),
        ("e1", "registry/trainer:1"),
    ]


def test_the_image_of_a_launch_is_the_one_that_it_was_made_with_and_then_the_one_that_it_runs(a_job: Any) -> None:
    job_id = a_job(State.RUNNING, attempt_limit=3)
    upkeep.note_submitted(queries.job(job_id), None, now=NOW, image="trainer:1")
    upkeep.note_submitted(queries.job(job_id), None, now=NOW, image="trainer:2")
    assert queries.job(job_id).image == "trainer:1"
    upkeep.note_image(job_id, 1, "trainer@sha256:1")
    assert queries.job(job_id).image == "trainer@sha256:1"

    again = upkeep.relaunch(queries.job(job_id), "lost", now=NOW)
    assert again is not None
    assert again.image is None
    upkeep.note_submitted(queries.job(job_id), None, now=NOW, image="trainer:2")
    upkeep.note_image(job_id, 1, "trainer@sha256:1")
    assert queries.job(job_id).image == "trainer:2"


def test_started_claims_a_new_attempt_each_time(a_job: Any) -> None:
    job_id = a_job(State.QUEUED)

    assert [claim(job_id).attempt for _ in range(3)] == [1, 2, 3]


def test_the_same_started_again_gets_the_same_attempt(a_job: Any) -> None:
    job_id = a_job(State.QUEUED)
    first = callbacks.claim(call(job_id, "one"), TrainerEvent("started", None, None), now=NOW).attempt
    claim(job_id)

    assert callbacks.claim(call(job_id, "one"), TrainerEvent("started", None, None), now=NOW).attempt == first == 1
    assert queries.job(job_id).attempt == 2


def test_an_older_attempt_is_refused_everywhere(a_job: Any) -> None:
    job_id = a_job(State.RUNNING)
    claim(job_id)
    old: dict[str, Callable[[], Any]] = {"heartbeat": lambda: record_heartbeat(call(job_id, attempt=1), Heartbeat(epoch=1), now=NOW),
           "event": lambda: callbacks.record_event(call(job_id, attempt=1), TrainerEvent("log", None, None), now=NOW),
           "done": lambda: callbacks.finish(call(job_id, attempt=1), State.SUCCEEDED, metrics=None, artifacts=None, now=NOW)}  # fmt: skip

    for late in old.values():
        with pytest.raises(WrongState, match="replaced by attempt 2"):
            late()

    assert queries.job(job_id).state == State.RUNNING


def test_an_attempt_that_was_never_claimed_is_refused(a_job: Any) -> None:
    with pytest.raises(Unusable, match="attempt"):
        record_heartbeat(call(a_job(State.RUNNING), attempt=7), Heartbeat(), now=NOW)


@pytest.mark.parametrize("start", [State.PENDING, State.QUEUED])
def test_a_first_heartbeat_makes_a_job_running(a_job: Any, start: State) -> None:
    job_id = a_job(start)

    assert record_heartbeat(call(job_id), Heartbeat(epoch=1, metrics={"loss": 0.5}), now=NOW) == State.RUNNING

    job = queries.job(job_id)
    assert (job.state, job.epoch, job.metrics, job.liveness) == (State.RUNNING, 1, {"loss": 0.5}, "live")
    assert timeline(job_id)[-2:] == ["RUNNING", "heartbeat"]
    assert outbox(job_id)[-1][1] == "dev.stoker.job.running"


def test_metrics_of_heartbeats_are_merged_by_name(a_job: Any) -> None:
    job_id = a_job(State.RUNNING)
    for metrics in ({"loss": 0.5, "acc": 1e-7}, {"system/cpu_percent": 93.5}, None, {"loss": 0.25, "é/x(B)": 5.0}):
        record_heartbeat(call(job_id), Heartbeat(epoch=1, metrics=metrics), now=NOW)

    assert queries.job(job_id).metrics == {"loss": 0.25, "acc": 1e-7, "é/x(B)": 5.0, "system/cpu_percent": 93.5}


def test_metrics_with_ever_new_names_do_not_fill_the_row_without_end(a_job: Any) -> None:
    job_id = a_job(State.RUNNING)
    for number in range(12):
        metrics = {f"{number}/{name}/{'x' * 100}": 0.5 for name in range(200)}
        record_heartbeat(call(job_id), Heartbeat(metrics=metrics), now=NOW)

    job = queries.job(job_id)
    assert metrics.items() <= job.metrics.items()
    assert len(job.metrics) < 1_000


def test_a_metric_name_with_a_nul_byte_does_not_break_later_heartbeats(a_job: Any) -> None:
    job_id = a_job(State.RUNNING)
    with suppress(Unusable):  # PostgreSQL's text has no NUL
        record_heartbeat(call(job_id), Heartbeat(metrics={"lo\0ss": 0.5}), now=NOW)

    assert record_heartbeat(call(job_id), Heartbeat(metrics={"loss": 0.25}), now=NOW) == State.RUNNING


def test_a_job_shows_the_metrics_of_its_machine_apart_from_those_of_its_model(a_job: Any) -> None:
    job_id = a_job(State.RUNNING)
    record_heartbeat(call(job_id), Heartbeat(metrics={"loss": 0.5, "system/gpu_percent": 93.0}), now=NOW)

    shown = views.job_json(queries.job(job_id))
    assert (shown["metrics"], shown["system_metrics"]) == ({"loss": 0.5}, {"system/gpu_percent": 93.0})

    jobs.move(job_id, State.FAILED, reason=Reason.LOST, now=NOW)
    assert queries.events(job_id, kind="state", after=0, limit=9)[0][-1].metrics == {"loss": 0.5}


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_heartbeat_of_an_ended_job_is_refused_with_its_state(a_job: Any, state: State) -> None:
    with pytest.raises(WrongState) as refused:
        record_heartbeat(call(a_job(state)), Heartbeat(), now=NOW)
    assert refused.value.members["state"] == state


def test_a_heartbeat_of_an_unknown_job_is_refused() -> None:
    with pytest.raises(NotFound):
        record_heartbeat(call("nobody"), Heartbeat(), now=NOW)


def test_progress_never_goes_back_within_an_attempt(a_job: Any) -> None:
    job_id = a_job(State.RUNNING)
    record_heartbeat(call(job_id), Heartbeat(epoch=3, epochs=5, step=30), now=NOW + seconds(1))
    record_heartbeat(call(job_id), Heartbeat(epoch=2, step=20), now=NOW + seconds(9))

    job = queries.job(job_id)
    assert (job.epoch, job.epochs, job.step) == (3, 5, 30)
    assert (job.heartbeat_at, job.progress_at) == (NOW + seconds(9), NOW + seconds(1))


def test_the_same_heartbeat_again_changes_nothing(a_job: Any) -> None:
    job_id = a_job(State.RUNNING)
    for moment in (1, 2):
        record_heartbeat(call(job_id, "beat"), Heartbeat(epoch=1), now=NOW + seconds(moment))

    assert timeline(job_id).count("heartbeat") == 1
    assert queries.job(job_id).heartbeat_at == NOW + seconds(1)


def test_heartbeats_at_once_are_all_recorded(a_job: Any) -> None:
    job_id = a_job(State.RUNNING)

    race(*[lambda epoch=epoch: record_heartbeat(call(job_id), Heartbeat(epoch=epoch), now=NOW) for epoch in range(8)])

    assert timeline(job_id).count("heartbeat") == 8
    assert queries.job(job_id).epoch == 7


async def idle_connection() -> Any:
    """Return the one connection of the event loop's pool."""
    async with statement() as connection:
        return connection


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_heartbeat_is_one_round_trip(a_job: Any, tmp_path: Path) -> None:
    job_id = a_job(State.RUNNING)
    driver = run(idle_connection())
    with (tmp_path / "protocol").open("w") as protocol:
        driver.pgconn.trace(protocol.fileno())
        record_heartbeat(call(job_id), Heartbeat(epoch=1), now=NOW)
        driver.pgconn.untrace()

    assert (tmp_path / "protocol").read_text().count("ReadyForQuery") == 1


async def fail() -> None:
    """Let a statement of the hot path fail."""
    wrong = "SELECT nothing FROM nowhere"
    if is_sqlite():
        with sqlite_statements() as connection:
            connection.execute(wrong)
    else:
        async with statement() as connection:
            await connection.execute(wrong)


def test_a_failed_statement_of_the_hot_path_leaves_no_transaction_to_the_next_borrower(a_job: Any) -> None:
    job_id = a_job(State.RUNNING)
    record_heartbeat(call(job_id), Heartbeat(epoch=1))
    with pytest.raises(Busy):
        run(fail())
    record_heartbeat(call(job_id), Heartbeat(epoch=2))

    for _ in range(2):
        with write() as session:
            session.connection().execute(text("UPDATE job SET epoch = 99"))
            session.rollback()
    assert queries.job(job_id).epoch == 2


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_heartbeat_succeeds_after_the_server_has_closed_idle_connections(a_job: Any) -> None:
    job_id = a_job(State.RUNNING)
    record_heartbeat(call(job_id), Heartbeat(epoch=1))
    with write() as session:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        session.connection().execute(text(f"SELECT pg_terminate_backend(pid, 10000) {others}"))

    assert record_heartbeat(call(job_id), Heartbeat(epoch=2)) == State.RUNNING


def test_more_heartbeats_than_connections_are_all_recorded(a_job: Any) -> None:
    job_id = a_job(State.RUNNING)

    async def beat(numbers: range) -> None:
        await asyncio.gather(*(heartbeats.record(call(job_id), Heartbeat(step=step), now=NOW) for step in numbers))

    run(beat(range(60)))

    assert timeline(job_id).count("heartbeat") == 60
    assert queries.job(job_id).step == 59


def test_one_trainer_cannot_use_up_anothers_event_ids(a_job: Any) -> None:
    mine, yours = a_job(State.RUNNING), a_job(State.RUNNING)
    callbacks.record_event(call(mine, "shared"), TrainerEvent("log", None, None), now=NOW)

    callbacks.finish(call(yours, "shared"), State.SUCCEEDED, metrics=None, artifacts=None, now=NOW)

    assert queries.job(yours).state == State.SUCCEEDED


def test_a_value_that_cannot_be_stored_is_unusable_or_kept(a_job: Any) -> None:
    job_id = a_job(State.RUNNING)
    try:
        callbacks.record_event(call(job_id), TrainerEvent("log", "nul \0 byte", {"\0": "\0"}), now=NOW)
    except Unusable as refused:
        assert "control characters" in str(refused)  # noqa: PT017 -- SQLite keeps what PostgreSQL refuses
    assert queries.job(job_id).state == State.RUNNING


def test_pages_of_jobs_hold_each_job_once_while_new_ones_arrive(a_job: Any) -> None:
    there = [a_job(now=NOW + seconds(number // 3)) for number in range(10)]
    seen: list[str] = []
    cursor = None
    while True:
        page, cursor = queries.jobs({}, cursor=cursor, limit=3)
        seen += [job.id for job in page]
        a_job(now=NOW + seconds(100))
        if cursor is None:
            break

    assert sorted(one for one in seen if one in there) == sorted(there)
    assert len(seen) == len(set(seen))


def test_jobs_are_filtered(a_job: Any) -> None:
    wanted = a_job(State.RUNNING, dataset_id="cats")
    a_job(State.RUNNING)
    a_job(dataset_id="cats")

    page, _ = queries.jobs({"state": "RUNNING", "dataset_id": "cats"}, cursor=None, limit=10)

    assert [job.id for job in page] == [wanted]


def test_events_go_on_from_where_the_last_page_ended(a_job: Any) -> None:
    job_id = a_job(State.SUCCEEDED)
    first, after = queries.events(job_id, kind=None, after=0, limit=2)
    assert after is not None
    rest, end = queries.events(job_id, kind=None, after=after, limit=50)

    assert [row.type for row in first + rest] == timeline(job_id)
    assert end is None


def test_after_an_outage_the_control_plane_counts_as_awake_only_since_its_return() -> None:
    def awake_since(now: datetime) -> datetime:
        held = upkeep.take_lease(now=now, lasting=seconds(60), away_after=seconds(180))
        assert held is not None
        upkeep.end_lease(held.holder)
        return held.awake_at

    back = NOW + seconds(600)
    assert awake_since(NOW) == awake_since(NOW + seconds(60)) == NOW
    assert awake_since(back) == awake_since(back + seconds(60)) == back


def test_the_same_rejected_event_is_kept_once() -> None:
    for _ in range(3):
        upkeep.reject("wrong prefix", '{"a": "\0"}', now=NOW)
    upkeep.reject("wrong prefix", "{}", now=NOW)

    rejected, _ = queries.rejected_events(after=0, limit=10)
    assert len(rejected) == 2


def test_a_query_for_more_ids_than_a_statement_takes_parameters(a_job: Any) -> None:
    job_id, strangers = a_job(), {f"stranger-{number}" for number in range(70_000)}
    jobs.create(SPEC, identity="this one", trace_id="0" * 32, now=NOW)

    assert upkeep.known_identities({*strangers, "this one"}) == {"this one"}
    assert upkeep.open_or_ended_since(NOW, {*strangers, job_id}) == {job_id}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("concurrent_change", "outcome"),
    [
        ("state = 'SUCCEEDED', finished_at = now(), liveness = NULL", "SUCCEEDED"),
        ("attempt = attempt + 1", "RUNNING"),
        ("epoch = 9", None),
    ],
)
def test_a_heartbeat_waits_for_a_concurrent_transaction_and_sees_its_result(
    a_job: Any, database_url: str, concurrent_change: str, outcome: str | None
) -> None:
    """On SQLite there is one writer at a time."""
    job_id = a_job(State.RUNNING)
    outcomes: list[Any] = []
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    def beat() -> Any:
        return record_heartbeat(call(job_id, attempt=1), Heartbeat(epoch=3, attempt=1), now=NOW)

    with psycopg.connect(database_url) as other, psycopg.connect(database_url, autocommit=True) as watch:
        other.execute(f"UPDATE job SET {concurrent_change} WHERE id = %s".encode(), [job_id])
        thread = threading.Thread(target=lambda: outcomes.extend(race(beat)))
        thread.start()
        eventually(lambda: watch.execute(waits).fetchone() == (1,))
        other.commit()
        thread.join()

    refusal = outcomes[0].members["state"] if isinstance(outcomes[0], WrongState) else None
    assert (refusal, timeline(job_id).count("heartbeat")) == (outcome, 0 if outcome else 1)
    if outcome is None:
        assert queries.job(job_id).epoch == 9


def test_old_outbox_rows_without_a_sink_are_dropped_in_batches_and_recent_ones_kept(a_job: Any) -> None:
    old, young = a_job(State.QUEUED), a_job(now=NOW + seconds(60))

    assert [store_outbox.delete_unsent(before=NOW + seconds(1), limit=1) for _ in range(3)] == [True, True, False]
    assert (outbox(old), len(outbox(young))) == ([], 1)
