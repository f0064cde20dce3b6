"""The store behaves like a model of a few lines of Python, for any order of calls, on SQLite and PostgreSQL.

``HYPOTHESIS_PROFILE=thorough`` tries many more orders than the main run has time for.
"""

import json
import os
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, update
from sqlmodel import col, select

from functions.api import tokens
from functions.domain.callbacks import TrainerEvent
from functions.domain.errors import ConfigurationError, Unusable, WrongState
from functions.domain.spec import Spec
from functions.domain.states import FINAL, NEXT, Reason, State
from functions.events import intake
from functions.reconcile import sweeping
from functions.runtime import storage
from functions.runtime.registry import trainers
from functions.store import callbacks, queries, reports, upkeep
from functions.store import jobs as store
from functions.store.heartbeats import Heartbeat
from functions.store.lease import AWAY_AFTER, DURATION
from functions.store.reports import Report
from functions.store.session import database_now, read, write
from functions.store.tables import Job, JobEvent, Outbox, SweepTurn
from functions.store.upkeep import HeldLease
from tests.conftest import BUCKET, NOW, call, record_heartbeat, seconds

pytestmark = pytest.mark.usefixtures("database_url")

for name, examples, steps in (("quick", 40, 25), ("thorough", 2_000, 60)):
    settings.register_profile(
        name,
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")

SPEC = Spec(framework="stub", model_name="stub-1", dataset_id="digits", attempt_limit=3)
WAITING = {State.PENDING, State.QUEUED}
#: the clock jumps both ways
MOMENTS = st.integers(-100_000, 100_000).map(lambda count: NOW + seconds(count))
#: few, so that the same call is often made again
IDS = st.sampled_from([f"call-{number}" for number in range(12)])
ATTEMPTS = st.none() | st.integers(0, 4)
#: of the caller's token: of the job's launch, of one that was replaced, or unnamed
LAUNCHES = st.none() | st.integers(1, 3)
STEPS = st.none() | st.integers(0, 5)
#: columns that must be unchanged since they were read, for sweep's moves to FAILED
IMAGES = st.sampled_from(["trainer:1", "trainer@sha256:1"])
UNHEARD = ("launch", "submitted_at", "heartbeat_at")
UNCHANGED = {
    Reason.LOST: UNHEARD,
    Reason.DEADLINE_PENDING: UNHEARD,
    Reason.DEADLINE_RUNNING: ("started_at", "running_since", "waiting_since"),
    Reason.STALLED: ("launch", "progress_at"),
}
COLUMNS = (
    *("state", "attempt", "launch", "epoch", "step", "message", "liveness"),
    *("submitted_at", "started_at", "heartbeat_at", "progress_at", "token_expires_at", "dataset_etag", "image"),
    *("waiting_since", "running_since", "ran_seconds", "checking", "check_launches", "check_attempts"),
)


@dataclass
class Model:
    """A job as the contract has it."""

    state: State = State.PENDING
    history: list[State] = field(default_factory=lambda: [State.PENDING])
    attempt: int = 0
    launch: int = 1
    checking: bool = False
    check_launches: int = 0
    check_attempts: int = 0
    epoch: int | None = None
    step: int | None = None
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    heartbeat_at: datetime | None = None
    progress_at: datetime | None = None
    liveness: str | None = None
    message: str | None = None
    waiting_since: datetime | None = None
    running_since: datetime | None = None
    ran_seconds: float | None = None
    #: of the token that a trainer of this launch finds when it starts
    token_expires_at: datetime | None = None
    #: the version of the dataset when the job was made, whatever overwrites it later
    dataset_etag: str | None = None
    image: str | None = None
    #: the attempt that each call was answered with first
    answered: dict[str, int] = field(default_factory=dict)

    def is_as(self, job: Job, *columns: str) -> bool:
        """Say whether these columns are still as a snapshot has them."""
        return all(getattr(self, name) == getattr(job, name) for name in columns)

    def move(self, to: State, now: datetime) -> None:
        self.state = to
        self.message = None
        self.history.append(to)
        if to == State.RUNNING:
            self.started_at = self.running_since = self.heartbeat_at = self.progress_at = now
            self.liveness = "live"
        elif to in FINAL:
            self.liveness = self.waiting_since = None
            self.checking = False

    def wait(self, message: str, now: datetime) -> None:
        """Stop the running clock, unless it stands still already."""
        self.liveness, self.message = "waiting", message
        if self.waiting_since is None and self.running_since is not None:
            ran = max(0.0, (now - self.running_since).total_seconds())
            self.waiting_since, self.ran_seconds = now, (self.ran_seconds or 0.0) + ran

    def go_on(self, now: datetime) -> None:
        """Let the running clock go on, if it stands still."""
        if self.waiting_since is not None:
            self.running_since, self.waiting_since, self.message = now, None, None

    def refusal(self, id_: str, attempt: int | None, launch: int | None) -> type[Exception] | None:
        """Return why a callback is refused, or None."""
        if id_ in self.answered:
            return None
        if self.state in FINAL or (launch is not None and launch < self.launch):
            return WrongState
        if attempt is not None and attempt != self.attempt:
            return Unusable if attempt > self.attempt else WrongState
        return None

    def hear(self, id_: str, now: datetime) -> None:
        """Count a sign of life."""
        self.live(now)
        self.answered[id_] = self.attempt

    def live(self, now: datetime) -> None:
        """Begin, unless the job has begun: a job is not RUNNING while its dataset is checked."""
        self.heartbeat_at = now
        if self.checking:
            if self.state == State.PENDING:
                self.move(State.QUEUED, now)
            self.message = callbacks.CHECKS
            return
        if self.state in WAITING:
            self.move(State.RUNNING, now)
        self.go_on(now)
        self.liveness = "live"

    def end(self, id_: str, to: State, now: datetime) -> None:
        """End the job as its trainer reports, or only its check."""
        self.answered[id_] = self.attempt
        if self.checking and to == State.SUCCEEDED:
            self.pass_check(now)
        else:
            self.move(to, now)

    def pass_check(self, now: datetime) -> None:
        """Go on with the launch of the job's own task."""
        self.checking, self.check_launches, self.check_attempts = False, self.launch, self.attempt
        self.next_launch(now)
        self.message = None

    def next_launch(self, now: datetime) -> None:
        """Reset the fields of the previous launch."""
        self.launch += 1
        self.submitted_at = self.image = self.token_expires_at = None
        self.heartbeat_at = self.progress_at = now


def outcome(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except (WrongState, Unusable) as refusal:
        return type(refusal)


def furthest(values: Sequence[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


class Store(RuleBasedStateMachine):
    jobs: Bundle[str] = Bundle("jobs")
    #: a job as a caller has read it, who acts on it later
    readings: Bundle[tuple[str, Job]] = Bundle("readings")

    def __init__(self) -> None:
        super().__init__()
        self.models: dict[str, Model] = {}
        self.identities: dict[str, str] = {}
        self.own = uuid4().hex  # one database serves all examples
        self.dataset_etag = "version-1"

    @rule(target=jobs, identity=st.none() | st.sampled_from(["a", "b"]), checking=st.booleans(), now=MOMENTS)
    def create(self, identity: str | None, checking: bool, now: datetime) -> str:  # noqa: FBT001
        whole = None if identity is None else f"{self.own}-{identity}"
        job, is_new = store.create(
            SPEC, identity=whole, trace_id="0" * 32, now=now, dataset_etag=self.dataset_etag, checking=checking
        )
        assert is_new == (whole not in self.identities)
        if whole is not None:
            assert self.identities.setdefault(whole, job.id) == job.id
        if is_new:
            self.models[job.id] = Model(dataset_etag=self.dataset_etag, checking=checking)
        return job.id

    @rule()
    def overwrite_dataset(self) -> None:
        self.dataset_etag = f"version-{int(self.dataset_etag.removeprefix('version-')) + 1}"

    @rule(job=jobs, id_=IDS, launch=LAUNCHES, now=MOMENTS)
    def claim(self, job: str, id_: str, launch: int | None, now: datetime) -> None:
        model = self.models[job]
        got = outcome(
            lambda: callbacks.claim(call(job, id_, launch=launch), TrainerEvent("started", None, None), now=now)
        )
        if refusal := model.refusal(id_, None, launch):
            assert got == refusal
            return
        if id_ not in model.answered:
            model.attempt += 1
            model.epoch = model.step = None
            model.hear(id_, now)
            model.progress_at = now
        assert got.attempt == model.answered[id_]

    @rule(job=jobs, id_=IDS, attempt=ATTEMPTS, launch=LAUNCHES, now=MOMENTS)
    def event(self, job: str, id_: str, attempt: int | None, launch: int | None, now: datetime) -> None:
        model = self.models[job]
        got = outcome(
            lambda: callbacks.record_event(call(job, id_, attempt, launch), TrainerEvent("note", None, None), now=now)
        )
        if refusal := model.refusal(id_, attempt, launch):
            assert got == refusal
            return
        if id_ not in model.answered:
            model.hear(id_, now)
        assert got.attempt == model.answered[id_]

    @rule(job=jobs, id_=IDS, attempt=ATTEMPTS, launch=LAUNCHES, progress=st.tuples(STEPS, STEPS), now=MOMENTS)
    def heartbeat(  # noqa: PLR0913, PLR0917 -- what a heartbeat has
        self,
        job: str,
        id_: str,
        attempt: int | None,
        launch: int | None,
        progress: tuple[int | None, int | None],
        now: datetime,
    ) -> None:
        model, (epoch, step) = self.models[job], progress
        callback = call(job, id_, attempt, launch)
        got = outcome(lambda: record_heartbeat(callback, Heartbeat(epoch=epoch, step=step), now=now))
        is_current = model.refusal("of no call", attempt, launch) is None
        if model.checking and is_current:  # not recorded: each is a sign of life, and no more
            assert got == State.QUEUED
            model.live(now)
            return
        assert got == (model.refusal(id_, attempt, launch) or State.RUNNING)
        if id_ in model.answered and model.state in WAITING and is_current:
            model.live(now)  # the repeated call was of the check
        if got == State.RUNNING and id_ not in model.answered:
            model.hear(id_, now)
            there = model.epoch, model.step
            model.epoch, model.step = furthest([model.epoch, epoch]), furthest([model.step, step])
            if (model.epoch, model.step) != there:
                model.progress_at = now

    @rule(
        job=jobs,
        id_=IDS,
        attempt=ATTEMPTS,
        launch=LAUNCHES,
        to=st.sampled_from([State.SUCCEEDED, State.FAILED]),
        now=MOMENTS,
    )
    def done(self, job: str, id_: str, attempt: int | None, launch: int | None, to: State, now: datetime) -> None:  # noqa: PLR0913, PLR0917 -- what done has
        model = self.models[job]
        callback = call(job, id_, attempt, launch)
        got = outcome(lambda: reports.finish(callback, Report(to.value), now=now))  # type: ignore[arg-type]  # one of two
        if refusal := model.refusal(id_, attempt, launch):
            assert got == refusal
        elif id_ not in model.answered:
            model.end(id_, to, now)
            assert got.state == model.state

    @rule(job=jobs, to=st.sampled_from([State.QUEUED, State.RUNNING, State.FAILED, State.CANCELLED]), now=MOMENTS)
    def move(self, job: str, to: State, now: datetime) -> None:
        model = self.models[job]
        got = outcome(lambda: store.move(job, to, now=now, reason=Reason.LOST if to == State.FAILED else None))
        if to in NEXT[model.state] and not (model.checking and to == State.RUNNING):
            model.move(to, now)
            assert got.state == to
        else:
            assert got == WrongState

    @rule(job=jobs, name=st.none() | st.sampled_from(["a", "B"]))
    def describe(self, job: str, name: str | None) -> None:
        """Change name, tags and notes, which changes nothing else, in any state."""
        assert store.describe(job, {"name": name, "tags": [name] if name else []}).name == name

    @rule(job=jobs, now=MOMENTS)
    def delete_an_open_job(self, job: str, now: datetime) -> None:
        if self.models[job].state not in FINAL:
            assert outcome(lambda: store.remove(job, now=now)) == WrongState

    @rule(target=readings, job=jobs)
    def look(self, job: str) -> tuple[str, Job]:
        return job, queries.job(job)

    @rule(reading=readings, reason=st.sampled_from(sorted(UNCHANGED)), now=MOMENTS)
    def fail_as_read(self, reading: tuple[str, Job], reason: Reason, now: datetime) -> None:
        """Fail the job by a snapshot, of whatever age."""
        job, seen = reading
        model = self.models[job]
        still = sweeping._still_overdue(seen, reason)
        got = outcome(lambda: store.move(job, State.FAILED, now=now, reason=reason, still=still))
        if model.state not in FINAL and model.is_as(seen, *UNCHANGED[reason]):
            model.move(State.FAILED, now)
            assert got.state == State.FAILED
        else:
            assert got == WrongState

    @rule(reading=readings, now=MOMENTS)
    def relaunch(self, reading: tuple[str, Job], now: datetime) -> None:
        job, seen = reading
        model = self.models[job]
        is_as_seen = model.is_as(seen, "state", "waiting_since", *UNHEARD)
        may = model.state not in FINAL and is_as_seen and model.launch - model.check_launches < SPEC.attempt_limit
        assert (upkeep.relaunch(seen, "again", now=now) is not None) == may
        if may:
            model.next_launch(now)
            if model.state == State.RUNNING:
                model.wait("starts again: again", now)

    @rule(reading=readings, expires_at=MOMENTS)
    def note_token(self, reading: tuple[str, Job], expires_at: datetime) -> None:
        job, seen = reading
        model = self.models[job]
        upkeep.note_token(seen, "kid", expires_at)
        if seen.launch == model.launch:
            model.token_expires_at = expires_at

    @rule(reading=readings, image=st.none() | IMAGES, now=MOMENTS)
    def submitted(self, reading: tuple[str, Job], image: str | None, now: datetime) -> None:
        job, seen = reading
        model = self.models[job]
        may = model.state not in FINAL and model.is_as(seen, "launch")
        assert upkeep.note_submitted(seen, f"waits since {now}", now=now, image=image) == may
        if may:
            model.submitted_at = now
            model.image = model.image or image
            if model.state in WAITING:
                model.message = f"waits since {now}"

    @rule(reading=readings, image=IMAGES)
    def note_image(self, reading: tuple[str, Job], image: str) -> None:
        job, seen = reading
        model = self.models[job]
        upkeep.note_image(job, seen.launch, image)
        if model.launch == seen.launch:
            model.image = image

    @rule(reading=readings, now=MOMENTS)
    def note_wait(self, reading: tuple[str, Job], now: datetime) -> None:
        job, seen = reading
        model = self.models[job]
        upkeep.note_wait(seen, f"waits at {now}", now=now)
        if seen.message == f"waits at {now}" and (seen.state in WAITING or seen.waiting_since is not None):
            return
        if seen.state in WAITING and model.state in WAITING and model.is_as(seen, "launch"):
            model.message = f"waits at {now}"
        elif seen.state == model.state == State.RUNNING and model.is_as(
            seen, "launch", "heartbeat_at", "waiting_since"
        ):
            model.wait(f"waits at {now}", now)

    @rule(reading=readings, now=MOMENTS)
    def note_running(self, reading: tuple[str, Job], now: datetime) -> None:
        job, seen = reading
        model = self.models[job]
        upkeep.note_running(seen, now=now)
        is_as_seen = model.is_as(seen, "waiting_since", *UNHEARD)
        if model.state == State.RUNNING and model.waiting_since is not None and is_as_seen:
            model.go_on(now)
            model.heartbeat_at = model.progress_at = now
            model.liveness = "live"

    @rule(reading=readings, attempt=st.integers(0, 3), to=st.sampled_from(["SUCCEEDED", "FAILED"]), now=MOMENTS)
    def finish_as_stored(self, reading: tuple[str, Job], attempt: int, to: str, now: datetime) -> None:
        """End the job by a snapshot and the report that its trainer has stored."""
        job, seen = reading
        model, id_ = self.models[job], f"report-{attempt}"
        content = json.dumps({"status": to, "attempt": attempt}).encode()
        with mock.patch.object(storage, "read", return_value=content):
            got = outcome(lambda: reports.finish_as_stored(seen, now=now))
        has_begun = seen.state == State.RUNNING or seen.checking
        is_of_check = seen.check_launches and attempt <= seen.check_attempts
        if attempt != seen.attempt or not has_begun or is_of_check:
            assert got is None
        elif refusal := model.refusal(id_, attempt, seen.launch):
            assert got in {refusal, None}  # None: the attempt is unusable
        else:
            assert got.id == job
            if id_ not in model.answered:
                model.end(id_, State(to), now)

    @rule(job=jobs, since=MOMENTS, now=MOMENTS)
    def note_silence(self, job: str, since: datetime, now: datetime) -> None:
        model = self.models[job]
        is_news = model.liveness == "live" and model.heartbeat_at is not None and model.heartbeat_at < since
        assert upkeep.note_silence(job, since=since, now=now) == is_news
        if is_news:
            model.liveness = "silent"

    @invariant()
    def the_store_is_as_the_model(self) -> None:
        for job_id, model in self.models.items():
            job, events = check(job_id)
            assert [row.type for row in events if row.kind == "state"] == model.history
            assert {row.ce_id: row.attempt for row in events if row.ce_id} == model.answered
            for name in COLUMNS:
                assert getattr(job, name) == getattr(model, name), name


def check(job_id: str) -> tuple[Job, Sequence[JobEvent]]:
    """Assert the invariants of a job; return the job and its events."""
    with read() as session:
        job = session.exec(select(Job).where(Job.id == job_id)).one()
        events = session.exec(select(JobEvent).where(JobEvent.job_id == job_id).order_by(col(JobEvent.id))).all()
        sent = session.exec(select(Outbox).where(Outbox.job_id == job_id).order_by(col(Outbox.id))).all()
    history = [State(row.type) for row in events if row.kind == "state"]
    assert history[0] == State.PENDING
    assert history[-1] == job.state
    assert all(after in NEXT[before] for before, after in pairwise(history))
    assert sum(state in FINAL for state in history) == (job.state in FINAL)
    expected = [(number, f"dev.stoker.job.{state.lower()}") for number, state in enumerate(history, 1)]
    assert [(row.sequence, row.type) for row in sent] == expected
    assert job.sequence == len(expected)
    assert {row.data["dataset_etag"] for row in sent} == {job.dataset_etag}

    of_starts = [row for row in events if row.type in {"started", "check_started"}]
    assert [row.attempt for row in of_starts] == list(range(1, job.attempt + 1))
    assert all(row.attempt <= job.check_attempts for row in of_starts if row.type == "check_started") or (
        job.check_launches == 0  # it still checks, or has ended with its check
    )
    of_trainers = [row.attempt for row in events if row.ce_id]
    assert of_trainers == sorted(of_trainers)  # fenced: no word of an old attempt after a newer one's first
    beats = [row for row in events if row.kind == "heartbeat" and row.attempt == job.attempt]
    assert job.epoch == furthest([row.epoch for row in beats])
    assert job.step == furthest([row.step for row in beats])
    return job, events


def test_the_store_does_what_the_model_does() -> None:
    run_state_machine_as_test(Store, settings=settings.get_profile(PROFILE))


class Leases(RuleBasedStateMachine):
    """Two or more sweeps with arbitrary clocks, and one lease row."""

    leases: Bundle[HeldLease] = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.holder: str | None = None
        self.ended = True
        with write() as session:
            session.execute(delete(SweepTurn))

    @rule(target=leases, now=MOMENTS)
    def take(self, now: datetime) -> HeldLease | MultipleResults[HeldLease]:
        held = upkeep.take_lease(now=now, lasting=DURATION, away_after=AWAY_AFTER)
        assert (held is not None) == self.ended
        if held is None:
            return multiple()
        self.holder, self.ended = held.holder, False
        return held

    @rule(lease=leases)
    def keep(self, lease: HeldLease) -> None:
        assert upkeep.keep_lease(lease.holder, lasting=DURATION) == (lease.holder == self.holder)
        if lease.holder == self.holder:
            self.ended = False

    @rule(lease=leases)
    def end(self, lease: HeldLease) -> None:
        upkeep.end_lease(lease.holder)
        if lease.holder == self.holder:
            self.holder, self.ended = None, True

    @rule()
    def time_passes(self) -> None:
        """No time is slept: the lease that is held ends now, by the database's clock."""
        with write() as session:
            session.execute(update(SweepTurn).values(taken_until=database_now(session)))
        self.ended = True


def test_one_sweep_holds_the_lease_whatever_clocks_show() -> None:
    run_state_machine_as_test(Leases, settings=settings.get_profile(PROFILE))


class Intake(RuleBasedStateMachine):
    """Uploads while the registry of trainers is readable or not: none is lost, and none is rejected for it."""

    #: of the test that runs it
    s3: Any
    registry: Path

    def __init__(self) -> None:
        super().__init__()
        self.good = self.registry.read_text()
        self.is_readable = True
        #: whether the metadata of each upload can be used, by key
        self.uploads: dict[str, bool] = {}
        self.rejected: set[str] = set()
        self.now = tokens.now() + timedelta(minutes=5)

    @rule(is_usable=st.booleans(), is_notified=st.booleans())
    def upload(self, is_usable: bool, is_notified: bool) -> None:  # noqa: FBT001
        key = f"datasets/{uuid4().hex}.zip"
        epochs = "3" if is_usable else "many"
        callback = {"stoker-framework": "stub", "stoker-model": "stub-1", "stoker-epochs": epochs}
        etag = self.s3.put_object(Bucket=BUCKET, Key=key, Body=b"x", Metadata=callback)["ETag"].strip('"')
        self.uploads[key] = is_usable
        if is_notified:
            self.notify(key, etag)

    def notify(self, key: str, etag: str) -> None:
        detail = {"bucket": {"name": BUCKET}, "object": {"key": key, "etag": etag}}
        message = {"detail-type": "Object Created", "detail": detail}
        try:
            intake.deliver(intake.records(message), json.dumps(message).encode(), may_create=False, now=self.now)
        except ConfigurationError:
            assert self.uploads[key]
            assert not self.is_readable
        else:
            assert self.is_readable or not self.uploads[key]
            self.rejected |= set() if self.uploads[key] else {key}

    @rule(is_readable=st.booleans())
    def edit_the_registry(self, is_readable: bool) -> None:  # noqa: FBT001
        self.registry.write_text(self.good if is_readable else self.good[:-3])
        trainers.cache_clear()
        self.is_readable = is_readable

    @rule()
    def sweep(self) -> None:
        self.now += timedelta(minutes=1)
        sweeping.run(now=self.now)
        self.rejected |= {key for key, is_usable in self.uploads.items() if not is_usable}

    @invariant()
    def only_what_can_never_be_a_job_is_rejected(self) -> None:
        reasons = [row.reason for row in queries.rejected_events(after=0, limit=500)[0]]
        mine = [reason for reason in reasons if reason.partition(": ")[0] in self.uploads]
        assert sorted(reason.partition(": ")[0] for reason in mine) == sorted(self.rejected)

    def teardown(self) -> None:
        """Restore the registry and sweep: each usable upload has one job."""
        self.edit_the_registry(is_readable=True)
        self.sweep()
        self.only_what_can_never_be_a_job_is_rejected()
        datasets = [job.dataset_id for job in queries.jobs({}, cursor=None, limit=500)[0]]
        usable = {key.removeprefix("datasets/").removesuffix(".zip") for key, good in self.uploads.items() if good}
        assert sorted(name for name in datasets if f"datasets/{name}.zip" in self.uploads) == sorted(usable)


@pytest.mark.usefixtures("no_trainer_left")
def test_no_upload_is_lost_or_rejected_for_an_unreadable_configuration(s3: Any, tmp_path: Path) -> None:
    registry = tmp_path / "trainers.json"
    registry.write_text('{"stub": {"command": {"train": ["sleep", "600"]}, "models": ["stub*"]}}')
    trainers.cache_clear()
    machine = type("OneIntake", (Intake,), {"s3": s3, "registry": registry})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=5, stateful_step_count=10, parent=settings.get_profile(PROFILE))
    )


def act(job: str, dice: random.Random) -> None:
    """Do one thing of all that can happen to a job."""
    now = NOW + seconds(dice.randint(-1_000, 1_000))
    attempt, launch = dice.choice([None, None, 0, 1, 2, 3]), dice.choice([None, 1, 2, 3])
    callback = call(job, f"call-{dice.randint(0, 60)}", attempt, launch)
    beat = Heartbeat(epoch=dice.choice([None, 1, 2, 3]), step=dice.choice([None, 1, 2, 3]))
    things: dict[Callable[[], Any], int] = {
        lambda: callbacks.claim(callback, TrainerEvent("started", None, None), now=now): 2,
        lambda: callbacks.record_event(callback, TrainerEvent("note", None, None), now=now): 4,
        lambda: record_heartbeat(callback, beat, now=now): 8,
        lambda: store.move(job, State.QUEUED, now=now): 2,
        lambda: upkeep.relaunch(queries.job(job), "again", now=now): 1,
        lambda: upkeep.note_silence(job, since=now, now=now): 1,
        lambda: upkeep.note_submitted(queries.job(job), "waits", now=now): 1,
        # Rare, or the job would have ended before much could happen to it.
        lambda: dice.random() < 0.1 and reports.finish(callback, Report("SUCCEEDED"), now=now): 1,
        lambda: dice.random() < 0.1 and store.move(job, State.CANCELLED, now=now): 1,
    }
    with suppress(WrongState, Unusable):
        dice.choices(list(things), list(things.values()))[0]()


@pytest.mark.parametrize("seed", range(20 if PROFILE == "thorough" else 2))
def test_the_invariants_hold_under_many_threads(seed: int) -> None:
    checking = (False, True, True)
    jobs = [store.create(SPEC, identity=None, trace_id="0" * 32, now=NOW, checking=one)[0].id for one in checking]

    def play(number: int) -> None:
        dice = random.Random(f"{seed}-{number}")
        for _ in range(40):
            act(dice.choice(jobs), dice)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(play, range(6)))

    assert min(len(check(job)[1]) for job in jobs) > 1
