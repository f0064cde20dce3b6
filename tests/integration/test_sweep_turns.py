"""sweep's lease, and the crash between counting another launch and submitting it."""

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from functions.domain.states import State
from functions.events import delivery
from functions.launchers import local
from functions.launchers.base import Phase, Status
from functions.launchers.local import Local
from functions.reconcile import retention, sweeping
from functions.store import queries, upkeep
from functions.store.lease import AWAY_AFTER, DURATION, Lease
from functions.store.session import database_now, read, write
from functions.store.tables import SweepTurn
from tests.conftest import claim, eventually, seconds

SKEWS = [timedelta(milliseconds=-1), timedelta(milliseconds=1), timedelta(hours=-1), timedelta(hours=1)]


def set_end(after: timedelta) -> None:
    """Let the lease end so long from now, by the database's clock."""
    with write() as session:
        session.execute(update(SweepTurn).values(taken_until=database_now(session) + after))


def taken(now: datetime) -> Lease:
    """Take the lease, which is free."""
    lease = Lease.take(now=now)
    assert lease is not None
    return lease


@pytest.mark.usefixtures("database_url")
@pytest.mark.parametrize("skew", SKEWS, ids=str)
def test_whatever_clocks_show_one_sweep_holds_the_lease_and_then_the_next(now: datetime, skew: timedelta) -> None:
    first = taken(now)
    assert Lease.take(now=now + skew) is None

    first.end()
    taken(now + skew)
    assert Lease.take(now=now) is None


@pytest.mark.usefixtures("database_url")
def test_of_many_sweeps_at_once_one_holds_the_lease(now: datetime) -> None:
    gate, leases = threading.Barrier(6), []

    def take(number: int) -> None:
        gate.wait()
        leases.append(Lease.take(now=now + seconds(number)))

    for _ in range(2):  # the first time, there is no row yet
        threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (held,) = filter(None, leases)
        held.end()
        leases.clear()


@pytest.mark.usefixtures("database_url")
def test_a_sweep_that_was_killed_costs_the_next_minute_at_most(now: datetime) -> None:
    taken(now)
    with read() as session:
        left = session.get_one(SweepTurn, 1).taken_until - database_now(session)
    assert timedelta() < left <= DURATION < timedelta(minutes=1)

    set_end(timedelta())
    taken(now + timedelta(minutes=1))


@pytest.mark.usefixtures("database_url")
def test_a_database_whose_clock_was_set_back_does_not_stop_sweeps(now: datetime) -> None:
    taken(now)
    set_end(timedelta(hours=1))

    taken(now)


@pytest.mark.usefixtures("database_url")
def test_a_long_sweep_keeps_its_lease(now: datetime) -> None:
    lease = taken(now)
    for _ in range(3):
        set_end(seconds(1))
        age(lease)
        assert lease.keep()
        with read() as session:
            assert session.get_one(SweepTurn, 1).taken_until - database_now(session) > DURATION / 2

    assert Lease.take(now=now) is None
    lease.end()
    taken(now)


@pytest.mark.usefixtures("database_url")
def test_a_sweep_that_lost_its_lease_detects_it_and_does_not_release_another_ones(now: datetime) -> None:
    lost = taken(now)
    set_end(timedelta())
    taken(now)

    age(lost)
    assert not lost.keep()
    lost.end()
    assert Lease.take(now=now) is None


@pytest.mark.usefixtures("sqlite", "s3")
def test_a_sweep_that_lost_its_lease_does_nothing_more(
    a_job: Callable[..., str], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after its process was suspended while it inspected the first of two jobs."""
    for _ in range(2):
        a_job(State.RUNNING, now=now - timedelta(hours=1))
    steps: list[str] = []
    lease = taken(now)

    def inspect(*_: Any) -> Status:
        steps.append("inspect")
        set_end(timedelta())
        assert upkeep.take_lease(now=now, lasting=DURATION, away_after=AWAY_AFTER)
        age(lease)
        return Status(Phase.RUNNING)

    monkeypatch.setattr(Lease, "take", lambda **_: lease)
    monkeypatch.setattr(Local, "inspect", inspect)
    monkeypatch.setattr(delivery, "deliver", lambda *_, **__: steps.append("deliver"))
    monkeypatch.setattr(retention, "run", lambda **_: steps.append("retention"))
    sweeping.run(now=now)

    assert steps == ["inspect"]


def age(lease: Lease) -> None:
    """Let a lease be due for an extension."""
    lease._extended_at -= DURATION.total_seconds()


@pytest.mark.usefixtures("sqlite", "s3", "no_trainer_left")
@pytest.mark.parametrize("away", [OSError("no process to be had"), KeyboardInterrupt()])
def test_a_crash_between_counting_another_start_and_starting_costs_no_attempt(
    a_job: Callable[..., str], now: datetime, monkeypatch: pytest.MonkeyPatch, away: BaseException
) -> None:
    dies = {"calls": False, "killed_in_attempts": [1]}
    job_id = a_job(State.PENDING, now=now, hyperparameters=dies, attempt_limit=2)
    sweeping.run(now=now)
    claim(job_id, now=now)
    eventually(lambda: Local().inspect(queries.job(job_id)).phase == Phase.ENDED)
    with monkeypatch.context() as patch:
        patch.setattr(Local, "submit", crash(away))
        with suppress(KeyboardInterrupt):
            sweeping.run(now=now + seconds(1))
    counted = queries.job(job_id)
    assert (counted.launch, counted.submitted_at) == (2, None)
    later = now + timedelta(minutes=2)  # lost_after_seconds is over
    sweeping.run(now=later)

    assert (local._run(counted) / "alive.lock").exists()
    assert queries.job(job_id).submitted_at == later


def crash(error: BaseException) -> Callable[..., None]:
    def instead(*_: Any) -> None:
        raise error

    return instead
