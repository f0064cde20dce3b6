"""What one sweep does, step by step; each step is safe to repeat, and none stops the others by failing."""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from functions import identities, intake, launcher, outbox, retention, storage, store, store_read, store_sweep
from functions.errors import Refusal, WrongState
from functions.launcher import Launcher, Phase, Status
from functions.logs import apart, bind, log
from functions.notifications import Upload
from functions.settings import settings
from functions.states import FINAL, RETRY, Reason, Retry, State
from functions.tables import Job

#: how long a sweep that was killed keeps others from its work: not the next one, a minute later, even if that is early;
#: one that is alive keeps its turn
TURN = timedelta(seconds=50)
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
    turn = _Turn(at)
    try:
        launchers = launcher.chosen()
        _guarded(lambda: _stop_orphans(launchers, at=at))
        for job in store_sweep.open_jobs():
            turn.keep()
            _guarded(lambda job=job: _look_after(job, launchers, awake_at=awake_at, at=at))  # type: ignore[misc]
        for step in (lambda: _find_uploads(at), lambda: outbox.deliver(at=at), lambda: retention.run(at=at)):
            turn.keep()
            _guarded(step)
    finally:
        store_sweep.end_turn(at=turn.kept_at, lasting=TURN)


class _Turn:
    """The turn to sweep, from the moment that it was taken or last kept."""

    def __init__(self, at: datetime) -> None:
        self.kept_at, self._since = at, time.monotonic()

    def keep(self) -> None:
        """Prolong it now and then. Should it be another's by now, both go on: each step is safe to repeat."""
        passed = timedelta(seconds=time.monotonic() - self._since)
        if passed > TURN / 3:
            now = self.kept_at + passed
            if store_sweep.keep_turn(at=self.kept_at, until=now + TURN, lasting=TURN):
                self.kept_at = now
            self._since += passed.total_seconds()


def look(job_id: str, *, at: datetime) -> None:
    """Look after one job, when its launcher says that something has happened to it.

    Raises:
        NotFound: there is no such job.
        Busy: the store is away.
    """
    job, awake_at = store_read.job(job_id), store_sweep.awake_at()
    if job.state not in FINAL and awake_at is not None:
        _guarded(lambda: _look_after(job, launcher.chosen(), awake_at=awake_at, at=at))


@apart()
def _guarded(step: Callable[[], None]) -> None:
    try:
        step()
    except WrongState:  # it moved on while we looked at it: what is written stands
        return
    except Refusal as refusal:
        log(logging.WARNING, "a step of sweep was put off", detail=str(refusal)[:500])
    except Exception:  # noqa: BLE001 -- one bad job must not keep sweep from the others
        log(logging.ERROR, "a step of sweep failed", exc_info=True)


def _look_after(job: Job, launchers: Launcher, *, awake_at: datetime, at: datetime) -> None:
    bind(job_id=job.id, trace_id=job.trace_id)
    status = launchers.inspect(job)
    overdue = _overdue(job, status, awake_at=awake_at, at=at)
    if status.phase == Phase.ENDED:
        _ended(job, status, at=at)
    elif overdue is not None:
        store.move(job.id, State.FAILED, reason=overdue, message=_clock_said(job, overdue, status), at=at)
        launcher.stop(job.id)
    elif status.phase == Phase.HELD and job.state != State.PENDING and job.submitted_at is not None:
        store_sweep.note_wait(job, status.message)
    elif status.is_waiting or (status.phase == Phase.ABSENT and _is_unsubmitted(job)):
        launcher.launch(job, at=at, waits=status.message)
    elif status.phase == Phase.ABSENT and _is_lost(job, awake_at=awake_at, at=at):
        _ended(job, Status(Phase.ENDED, "the launcher knows nothing of its trainer", Reason.LOST), at=at)
    elif job.state == State.RUNNING:
        silence = timedelta(seconds=launcher.seconds(job, "heartbeat_seconds") * settings().silent_after_heartbeats)
        if at - awake_at > silence:
            store_sweep.note_silence(job.id, since=at - silence, at=at)
    if status.phase in {Phase.HELD, Phase.RUNNING} and overdue is None:
        launcher.renew_token(job, launchers, now=at)


def _ended(job: Job, status: Status, *, at: datetime) -> None:
    """Start a job again whose trainer is gone, if that is worth it and allowed; else it FAILED."""
    reason = status.reason or Reason.LOST
    message = status.message or "the trainer is gone"
    again = store_sweep.relaunch(job, message, at=at) if RETRY[reason] == Retry.AS_IS else None
    if again is not None:
        launcher.launch(again, at=at)
    else:
        store.move(job.id, State.FAILED, reason=reason, message=message, still=store.unheard_since(job), at=at)


def _overdue(job: Job, status: Status, *, awake_at: datetime, at: datetime) -> Reason | None:
    """Return the clock that has run out; progress cannot be seen while the control plane is away: that time is free."""
    if job.state != State.RUNNING or job.started_at is None:
        is_over = (at - job.created_at).total_seconds() > launcher.seconds(job, "longest_pending_seconds")
        return (status.reason or Reason.DEADLINE_PENDING) if is_over else None
    if (at - job.started_at).total_seconds() > launcher.seconds(job, "longest_running_seconds"):
        return Reason.DEADLINE_RUNNING
    if status.is_waiting:  # for the node or slot of its next attempt: nothing can move
        return None
    moved_at = max(job.progress_at or job.started_at, awake_at)
    if (at - moved_at).total_seconds() > launcher.seconds(job, "longest_stalled_seconds"):
        return Reason.STALLED
    return None


def _clock_said(job: Job, reason: Reason, status: Status) -> str:
    said, clock = {
        Reason.DEADLINE_RUNNING: ("it ran longer than", "longest_running_seconds"),
        Reason.STALLED: ("neither epoch nor step moved for", "longest_stalled_seconds"),
    }.get(reason, ("no trainer called back within", "longest_pending_seconds"))
    waits = status.message or job.message if job.state != State.RUNNING else None
    return f"{said} {launcher.seconds(job, clock):g} s" + (f"; it {waits}" if waits else "")


def _is_unsubmitted(job: Job) -> bool:
    """Say whether it is the launcher's turn: it never ran, or a crash came between counting a start and starting."""
    return job.state != State.RUNNING or (job.launch > 1 and job.submitted_at is None)


def _is_lost(job: Job, *, awake_at: datetime, at: datetime) -> bool:
    since = max(job.submitted_at or job.created_at, job.heartbeat_at or job.created_at, awake_at)
    return (at - since).total_seconds() > settings().lost_after_seconds


def _stop_orphans(launchers: Launcher, *, at: datetime) -> None:
    """Stop the trainers whose job has ended, or was never ours; one that has just said so itself has time to leave."""
    alive = launchers.list()
    ended_since = at - timedelta(seconds=settings().stop_grace_seconds)
    for job_id in alive - store_sweep.open_or_ended_since(ended_since, alive):
        log(logging.WARNING, "stopping a trainer without a job", orphan=job_id)
        launcher.stop(job_id)


def _find_uploads(at: datetime) -> None:
    """Make the jobs of datasets whose notification was lost."""
    now = settings()
    before = at - timedelta(seconds=now.upload_grace_seconds)
    found = [
        Upload(*upload, {}, metadata_known=False)
        for upload in storage.uploads(before=before, horizon=timedelta(seconds=now.upload_horizon_seconds))
    ]
    by_identity = {identities.of_upload(one.bucket, one.key, one.etag): one for one in found}
    for identity in by_identity.keys() - store_sweep.known(by_identity.keys()):
        with apart(), intake.rejecting(by_identity[identity].key, at=at, identity=identity):
            intake.upload(by_identity[identity], at=at)
