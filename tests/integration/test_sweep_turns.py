"""sweep's turn, and the crash between counting another start and starting it."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest

from functions import launch_local, store_read, store_sweep, sweeping
from functions.launch_local import Local
from functions.launcher import Phase
from functions.states import State
from functions.tables import Job
from tests.conftest import claim, eventually, seconds

LASTING = sweeping.TURN


def take(at: datetime) -> datetime | None:
    return store_sweep.take_turn(at=at, lasting=LASTING, away_after=sweeping.AWAY_AFTER)


@pytest.mark.usefixtures("database_url")
def test_a_sweep_whose_clock_was_ahead_does_not_stop_the_next(now: datetime) -> None:
    ahead = now + timedelta(hours=1)
    assert take(ahead) == ahead
    store_sweep.end_turn(at=ahead, lasting=LASTING)

    assert take(now) == now


@pytest.mark.usefixtures("database_url")
def test_a_sweep_that_overran_its_turn_does_not_give_back_anothers(now: datetime) -> None:
    take(now)
    later = now + LASTING
    assert take(later) is not None
    store_sweep.end_turn(at=now, lasting=LASTING)

    assert take(later + seconds(1)) is None


@pytest.mark.usefixtures("database_url")
def test_a_sweep_that_was_killed_costs_the_next_minute_at_most(now: datetime) -> None:
    take(now)

    assert take(now + timedelta(minutes=1)) is not None


@pytest.mark.usefixtures("database_url")
def test_a_long_sweep_keeps_its_turn(now: datetime) -> None:
    take(now)
    turn = sweeping._Turn(now)
    for _ in range(3):
        turn._since -= 50  # of time.monotonic(): so long ago was it kept last
        turn.keep()

    assert take(now + seconds(200)) is None
    store_sweep.end_turn(at=turn.kept_at, lasting=LASTING)
    assert take(now + seconds(200)) is not None


@pytest.mark.usefixtures("database_url")
def test_a_turn_that_is_anothers_by_now_is_not_kept(now: datetime) -> None:
    take(now)
    take(now + LASTING)

    assert not store_sweep.keep_turn(at=now, until=now + 2 * LASTING, lasting=LASTING)


@pytest.mark.usefixtures("sqlite", "s3", "no_trainer_left")
@pytest.mark.parametrize("away", [OSError("no process to be had"), KeyboardInterrupt()])
def test_a_crash_between_counting_another_start_and_starting_costs_no_attempt(
    a_job: Callable[..., str], now: datetime, monkeypatch: pytest.MonkeyPatch, away: BaseException
) -> None:
    dies = {"calls": False, "killed_in_attempts": [1]}
    job_id = a_job(State.PENDING, at=now, hyperparameters=dies, attempt_limit=2)
    sweeping.once(at=now)
    claim(job_id, at=now)
    eventually(lambda: Local().inspect(read(job_id)).phase == Phase.ENDED)
    with monkeypatch.context() as patch:
        patch.setattr(Local, "submit", crash(away))
        with suppress(KeyboardInterrupt):
            sweeping.once(at=now + seconds(1))
    counted = read(job_id)
    assert (counted.launch, counted.submitted_at) == (2, None)
    later = now + seconds(1) + LASTING + timedelta(minutes=1)  # lost_after_seconds is over
    sweeping.once(at=later)

    assert (launch_local._run(counted) / "alive.lock").exists()
    assert read(job_id).submitted_at == later


def crash(error: BaseException) -> Callable[..., None]:
    def instead(*_: Any) -> None:
        raise error

    return instead


def read(job_id: str) -> Job:
    return store_read.job(job_id)
