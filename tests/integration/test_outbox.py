"""The outbox, through sweep to a real HTTP sink: every move of every job, in order, at least once."""

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from functions.domain.states import State
from functions.events import delivery
from functions.reconcile import sweeping
from functions.store import outbox as store_outbox
from functions.store.lease import DURATION, Lease
from functions.store.session import database_now, read, write
from functions.store.tables import Outbox, SweepTurn
from tests.conftest import answering, seconds

pytestmark = pytest.mark.usefixtures("sqlite", "s3", "no_trainer_left")


def sweep(now: datetime) -> None:
    sweeping.run(now=now)


class _Sink(ThreadingHTTPServer):
    """A Broker that stores what it receives, and responds as configured."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Recorder)
        self.taken: list[tuple[str, int, str]] = []
        self.answer: Callable[[str], int] = lambda _subject: 202


class _Recorder(BaseHTTPRequestHandler):
    server: _Sink

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.answer(self.headers["ce-subject"])
        if status == 202:
            kind = self.headers["ce-type"].removeprefix("dev.stoker.job.")
            self.server.taken.append((self.headers["ce-subject"], int(self.headers["ce-sequence"]), kind))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- its base class says so
        """Say nothing."""


@pytest.fixture
def sink(environment: pytest.MonkeyPatch) -> Iterator[_Sink]:
    server = _Sink()
    environment.setenv("K_SINK", f"http://127.0.0.1:{server.server_port}/")
    with answering(server):
        yield server


def test_the_outbox_is_delivered_once_and_in_order(sink: _Sink, a_job: Any, now: datetime) -> None:
    done, failed = a_job(State.SUCCEEDED, now=now), a_job(State.FAILED, now=now)
    sweep(now)
    sweep(now + seconds(60))

    def delivered(job_id: str) -> list[tuple[int, str]]:
        return [(sequence, kind) for subject, sequence, kind in sink.taken if subject == job_id]

    assert delivered(done) == [(1, "pending"), (2, "queued"), (3, "running"), (4, "succeeded")]
    assert delivered(failed) == [(1, "pending"), (2, "queued"), (3, "running"), (4, "failed")]


def test_a_sink_that_refuses_one_jobs_events_gets_them_later_in_order(sink: _Sink, a_job: Any, now: datetime) -> None:
    refused, other = a_job(State.SUCCEEDED, now=now), a_job(State.SUCCEEDED, now=now)
    sink.answer = lambda subject: 503 if subject == refused else 202
    sweep(now)
    assert {subject for subject, _, _ in sink.taken} == {other}

    sink.answer = lambda _subject: 202
    sweep(now + seconds(60))
    assert [sequence for subject, sequence, _ in sink.taken if subject == refused] == [1, 2, 3, 4]


def test_more_refused_events_than_a_batch_block_no_other_job(
    sink: _Sink, a_job: Any, now: datetime, environment: pytest.MonkeyPatch
) -> None:
    environment.setattr(delivery, "BATCH", 3)
    refused = {a_job(State.SUCCEEDED, now=now) for _ in range(2)}
    others = {a_job(State.SUCCEEDED, now=now) for _ in range(2)}
    sink.answer = lambda subject: 503 if subject in refused else 202
    sweep(now)

    assert sorted(subject for subject, _, _ in sink.taken) == sorted([*others] * 4)


def test_a_sink_that_fails_in_mid_batch_gets_no_accepted_event_twice(sink: _Sink, a_job: Any, now: datetime) -> None:
    a_job(State.SUCCEEDED, now=now)
    statuses = iter([202, 202])
    sink.answer = lambda _subject: next(statuses)  # then its connection breaks
    sweep(now)
    sink.answer = lambda _subject: 202
    sweep(now + seconds(60))

    assert [sequence for _, sequence, _ in sink.taken] == [1, 2, 3, 4]


def test_a_slow_delivery_for_one_job_does_not_delay_other_jobs(sink: _Sink, a_job: Any, now: datetime) -> None:
    slow, other = a_job(State.SUCCEEDED, now=now), a_job(State.SUCCEEDED, now=now)
    others_are_delivered = threading.Event()

    def answer(subject: str) -> int:
        if subject == slow:
            assert others_are_delivered.wait(timeout=4)
        elif sum(taken == other for taken, _, _ in sink.taken) == 3:  # and this is the fourth
            others_are_delivered.set()
        return 202

    sink.answer = answer
    sweep(now)
    for job_id in (slow, other):
        assert [sequence for subject, sequence, _ in sink.taken if subject == job_id] == [1, 2, 3, 4]


def test_an_unreachable_sink_is_not_tried_for_each_job(sink: _Sink, a_job: Any, now: datetime) -> None:
    for _ in range(delivery.SENDERS * 3):
        a_job(State.SUCCEEDED, now=now)
    subjects: list[str] = []

    def break_off(subject: str) -> int:
        subjects.append(subject)
        raise ConnectionError

    sink.answer = break_off
    sweep(now)
    assert 1 <= len(subjects) <= delivery.SENDERS


def test_without_a_sink_outbox_rows_are_kept_for_a_day(a_job: Any, now: datetime) -> None:
    a_job(State.SUCCEEDED, now=now)
    young = a_job(State.QUEUED, now=now + seconds(3600))
    sweep(now + delivery.RETENTION_WITHOUT_SINK + seconds(1))

    with read() as session:
        assert {row.job_id for row in session.exec(select(Outbox))} == {young}


def test_an_event_that_is_committed_late_under_an_early_id_still_comes_first(
    sink: _Sink, a_job: Any, now: datetime, environment: pytest.MonkeyPatch
) -> None:
    """Found by ``./taskw chaos``: PostgreSQL gives ids before it commits."""
    environment.setattr(delivery, "BATCH", 1)
    late, early = a_job(State.QUEUED, now=now), a_job(State.QUEUED, now=now)
    of_late = col(Outbox.job_id) == late

    def appear(subject: str) -> int:
        if subject == early and not any(taken == early for taken, _, _ in sink.taken):
            with write() as session:
                session.execute(update(Outbox).where(of_late).values(sent_at=None))
                session.execute(update(Outbox).where(of_late, col(Outbox.sequence) == 2).values(id=1000))
        return 202

    with write() as session:
        session.execute(update(Outbox).where(of_late).values(sent_at=now))  # not to be seen yet
    sink.answer = appear
    sweep(now)
    sweep(now + seconds(60))

    assert [sequence for subject, sequence, _ in sink.taken if subject == late] == [1, 2]


def test_a_sweep_that_lost_its_lease_sends_no_more_and_no_event_overtakes_another(
    sink: _Sink, a_job: Any, now: datetime
) -> None:
    """As after its process was suspended while it sent the second of four events."""
    job_id = a_job(State.SUCCEEDED, now=now)
    first = Lease.take(now=now)
    assert first is not None

    def answer(_subject: str) -> int:
        if len(sink.taken) == 1:
            sink.answer = lambda _: 202
            with write() as session:
                session.execute(update(SweepTurn).values(taken_until=database_now(session)))
            first._extended_at -= DURATION.total_seconds()
            sweep(now)  # another takes over, and sends all that is not marked as sent
        return 202

    sink.answer = answer
    delivery.deliver(first, now=now)

    # Both sweeps sent the second event, which was in flight. No earlier event follows it.
    assert [sequence for _, sequence, _ in sink.taken] == [1, 1, 2, 3, 4, 2]
    assert {subject for subject, *_ in sink.taken} == {job_id}
    assert store_outbox.unsent(excluded_jobs=(), limit=9) == []
