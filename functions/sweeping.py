"""What one sweep does, step by step; each step is safe to repeat, and none stops the others by failing."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from functions import intake, launcher, notifications, outbox, storage, store, store_sweep
from functions.errors import Refusal, WrongState
from functions.launcher import Phase, Status
from functions.logs import bind, log
from functions.notifications import Upload
from functions.settings import settings
from functions.states import RETRY, Reason, Retry, State
from functions.tables import Job

TURN = timedelta(minutes=5)
#: sweeps are a minute apart at most; no sweep for this long means that the control plane was away
AWAY_AFTER = timedelta(minutes=3)


def once(*, at: datetime) -> None:
    """Sweep, unless another sweep is at it.

    Raises:
        Busy: the store is away.
    """
    awake_at = store_sweep.take_turn(at=at, lasting=TURN, away_after=AWAY_AFTER)
    if awake_at is None:
        return
    try:
        for job in store_sweep.open_jobs():
            bind(job_id=job.id, trace_id=job.trace_id)
            _guarded(lambda job=job: _look_after(job, awake_at=awake_at, at=at))  # type: ignore[misc]
        for step in (_stop_orphans, lambda: _find_uploads(at), lambda: outbox.deliver(at=at)):
            _guarded(step)
    finally:
        store_sweep.end_turn(at=at)


def _guarded(step: Callable[[], None]) -> None:
    try:
        step()
    except WrongState:  # it moved on while we looked at it: what is written stands
        return
    except Refusal as refusal:
        log(logging.WARNING, "a step of sweep was put off", detail=str(refusal)[:500])
    except Exception:  # noqa: BLE001 -- one bad job must not keep sweep from the others
        log(logging.ERROR, "a step of sweep failed", exc_info=True)


def _look_after(job: Job, *, awake_at: datetime, at: datetime) -> None:
    status = launcher.chosen().inspect(job)
    overdue = _overdue(job, awake_at=awake_at, at=at)
    if status.phase == Phase.ENDED:
        _ended(job, status, at=at)
    elif overdue is not None:
        store.move(job.id, State.FAILED, reason=overdue, message=_clock_said(job, overdue), at=at)
        launcher.chosen().stop(job.id)
    elif job.state in {State.PENDING, State.QUEUED} and status.phase != Phase.RUNNING:
        launcher.launch(job, at=at)
    elif status.phase != Phase.RUNNING and _is_lost(job, awake_at=awake_at, at=at):
        _ended(job, Status(Phase.ENDED, "the launcher knows nothing of its trainer", Reason.LOST), at=at)
    elif job.state == State.RUNNING:
        silence = timedelta(seconds=launcher.seconds(job, "heartbeat_seconds") * settings().silent_after_heartbeats)
        if at - awake_at > silence:
            store_sweep.note_silence(job.id, since=at - silence, at=at)


def _ended(job: Job, status: Status, *, at: datetime) -> None:
    """Start a job again whose trainer is gone, if that is worth it and allowed; else it FAILED."""
    reason = status.reason or Reason.LOST
    message = status.message or "the trainer is gone"
    again = store_sweep.relaunch(job, message, at=at) if RETRY[reason] == Retry.AS_IS else None
    if again is not None:
        launcher.launch(again, at=at)
    else:
        store.move(job.id, State.FAILED, reason=reason, message=message, still=store.same_launch(job), at=at)


def _overdue(job: Job, *, awake_at: datetime, at: datetime) -> Reason | None:
    """Return the clock that has run out; progress cannot be seen while the control plane is away: that time is free."""
    if job.state != State.RUNNING or job.started_at is None:
        started, clock, reason = job.created_at, "longest_pending_seconds", Reason.DEADLINE_PENDING
        return reason if (at - started).total_seconds() > launcher.seconds(job, clock) else None
    if (at - job.started_at).total_seconds() > launcher.seconds(job, "longest_running_seconds"):
        return Reason.DEADLINE_RUNNING
    moved_at = max(job.progress_at or job.started_at, awake_at)
    if (at - moved_at).total_seconds() > launcher.seconds(job, "longest_stalled_seconds"):
        return Reason.STALLED
    return None


def _clock_said(job: Job, reason: Reason) -> str:
    said, clock = {
        Reason.DEADLINE_PENDING: ("no trainer called back within", "longest_pending_seconds"),
        Reason.DEADLINE_RUNNING: ("it ran longer than", "longest_running_seconds"),
        Reason.STALLED: ("neither epoch nor step moved for", "longest_stalled_seconds"),
    }[reason]
    return f"{said} {launcher.seconds(job, clock):g} s"


def _is_lost(job: Job, *, awake_at: datetime, at: datetime) -> bool:
    since = max(job.submitted_at or job.created_at, job.heartbeat_at or job.created_at, awake_at)
    return (at - since).total_seconds() > settings().lost_after_seconds


def _stop_orphans() -> None:
    """Stop the trainers whose job has ended, or was never ours."""
    alive = launcher.chosen().list()
    for job_id in alive - store_sweep.still_open(alive):
        log(logging.WARNING, "stopping a trainer without a job", orphan=job_id)
        launcher.chosen().stop(job_id)


def _find_uploads(at: datetime) -> None:
    """Make the jobs of datasets whose notification was lost."""
    now = settings()
    before = at - timedelta(seconds=now.upload_grace_seconds)
    found = [
        Upload(*upload, {}, metadata_known=False)
        for upload in storage.uploads(before=before, horizon=timedelta(seconds=now.upload_horizon_seconds))
    ]
    by_identity = {notifications.identity(upload): upload for upload in found}
    for identity in by_identity.keys() - store_sweep.known(by_identity.keys()):
        with intake.rejecting(by_identity[identity].key, at=at, identity=identity):
            intake.upload(by_identity[identity], at=at)
