"""What one sweep does, step by step; each step is safe to repeat, and none stops the others by failing.

Every move is conditional on what sweep has read: a job that has moved meanwhile stays as it is.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

from functions.domain import identities
from functions.domain.errors import Busy, ConfigurationError, Refusal, WrongState
from functions.domain.states import FINAL, RETRY, Reason, Retry, State
from functions.events import delivery, intake
from functions.events.notifications import Upload
from functions.launchers import base, launching
from functions.launchers.base import Launcher, LauncherAwayError, Phase, Status
from functions.reconcile import retention
from functions.runtime import storage
from functions.runtime.logs import bind, log, restored_context
from functions.runtime.settings import settings
from functions.store import jobs as store
from functions.store import queries, reports, upkeep
from functions.store.lease import Lease
from functions.store.tables import Job

#: time-outs of the launcher in one sweep, once it has listed its trainers; one job that it hangs on stops no other
_TIMEOUTS = 3


def once(*, now: datetime) -> None:
    """Sweep, unless another sweep is at it.

    Raises:
        Busy: the store is away.
    """
    lease = Lease.take(now=now)
    if lease is None:
        return
    steps = (
        lambda: _reconcile_all(lease, now=now),
        lambda: _find_uploads(now),
        lambda: delivery.deliver(lease, now=now),
        lambda: retention.run(now=now),
    )
    try:
        for step in steps:
            if lease.keep():
                _guarded(step)
    finally:
        lease.end()


def look(job_id: str, *, now: datetime) -> None:
    """Reconcile one job, when its launcher reports that something has happened to it.

    Raises:
        NotFound: there is no such job.
        Busy: the store is away.
    """
    job, awake_at = queries.job(job_id), upkeep.awake_at()
    if job.state in FINAL:  # maybe before any sweep has seen its trainer's image
        _guarded(lambda: _note_image(job, launching.chosen().inspect(job)))
    elif awake_at is not None:
        _guarded(lambda: _reconcile(job, launching.chosen(), awake_at=awake_at, now=now))


@restored_context()
def _guarded(step: Callable[[], None]) -> bool:
    """Run a step; False when it failed because the launcher could not be reached."""
    try:
        step()
    except WrongState:  # it has moved since it was read: what is written stands
        pass
    except Refusal as refusal:
        log(logging.WARNING, "a step of sweep was put off", detail=str(refusal)[:500])
    except LauncherAwayError as error:
        log(logging.WARNING, "the launcher cannot be reached", detail=str(error)[:500])
        return False
    except ConfigurationError as error:
        log(logging.ERROR, "a step of sweep waits for the configuration to be mended", detail=str(error))
    except Exception:  # noqa: BLE001 -- one bad job must not keep sweep from the others
        log(logging.ERROR, "a step of sweep failed", exc_info=True)
    return True


def _reconcile_all(lease: Lease, *, now: datetime) -> None:
    """Bring all open jobs and their trainers together; a launcher that hangs costs one time-out, not one a job."""
    launchers = launching.chosen()
    timeouts = 0 if _guarded(lambda: _stop_orphans(launchers, now=now)) else _TIMEOUTS
    jobs = upkeep.open_jobs() if timeouts < _TIMEOUTS else []
    for job in jobs:
        if timeouts >= _TIMEOUTS or not lease.keep():
            break
        step = partial(_reconcile, job, launchers, awake_at=lease.awake_at, now=now)
        timeouts += not _guarded(step)
    if timeouts >= _TIMEOUTS:
        log(logging.WARNING, "this sweep leaves out the launcher's steps: uploads, outbox and retention go on")


def _reconcile(job: Job, launchers: Launcher, *, awake_at: datetime, now: datetime) -> None:
    bind(job_id=job.id, trace_id=job.trace_id)
    status = launchers.inspect(job)
    _note_image(job, status)
    overdue = _overdue(job, status, awake_at=awake_at, now=now)
    if status.phase == Phase.ENDED:
        _ended(job, status, now=now)
    elif overdue is not None:
        _fail_overdue(job, overdue, status, now=now)
        launchers.stop(job.id)
    elif status.is_waiting or (status.phase == Phase.ABSENT and _is_unsubmitted(job)):
        _wait_or_submit(job, status, now=now)
    elif status.phase == Phase.ABSENT and _is_lost(job, awake_at=awake_at, now=now):
        _ended(job, Status(Phase.ENDED, "the launcher knows nothing of its trainer", Reason.LOST), now=now)
    elif job.state == State.RUNNING and job.waiting_since is not None and status.phase == Phase.RUNNING:
        upkeep.note_running(job, now=now)
    elif job.state == State.RUNNING:
        _note_silence(job, awake_at=awake_at, now=now)
    if status.phase in {Phase.HELD, Phase.RUNNING} and overdue is None:
        launching.renew_token(job, launchers, now=now)


def _wait_or_submit(job: Job, status: Status, *, now: datetime) -> None:
    """Note what a job waits for, if it is the launcher that has to start it; else submit it again."""
    if status.phase == Phase.HELD and job.state != State.PENDING and job.submitted_at is not None:
        upkeep.note_wait(job, status.message, now=now)
    else:
        launching.submit(job, now=now, waits=status.message)


def _note_silence(job: Job, *, awake_at: datetime, now: datetime) -> None:
    silence = timedelta(seconds=base.seconds(job, "heartbeat_seconds") * settings().silent_after_heartbeats)
    if now - awake_at > silence:
        upkeep.note_silence(job.id, since=now - silence, now=now)


def _note_image(job: Job, status: Status) -> None:
    if status.image is not None and status.image != job.image:
        upkeep.note_image(job.id, job.launch, status.image)


def _ended(job: Job, status: Status, *, now: datetime) -> None:
    """Start a job again whose trainer is gone, if that is worth it and allowed; else it FAILED.

    Unless the trainer stored the report of its end: that counts as the ``done`` that did not arrive. While the storage
    is away, nothing is decided.
    """
    if job.state == State.RUNNING and reports.finish_as_stored(job, now=now):
        return
    reason = status.reason or Reason.LOST
    message = status.message or "the trainer is gone"
    if reason == Reason.DEADLINE_RUNNING and not _has_run_too_long(job, now=now):
        # The cluster's own deadline for a Job counts also the time that the job waited.
        reason = Reason.EVICTED
    again = upkeep.relaunch(job, message, now=now) if RETRY[reason] == Retry.AS_IS else None
    if again is not None:
        launching.submit(again, now=now)
    else:
        store.move(job.id, State.FAILED, reason=reason, message=message, still=store.unheard_since(job), now=now)


def _fail_overdue(job: Job, reason: Reason, status: Status, *, now: datetime) -> None:
    """Fail a job whose clock has run out, unless its trainer stored a report and cannot deliver it."""
    with suppress(Busy, ConfigurationError):  # a clock is a promise, also while the storage is away
        if job.state == State.RUNNING and reports.finish_as_stored(job, now=now):
            return
    message = _clock_said(job, reason, status)
    store.move(job.id, State.FAILED, reason=reason, message=message, still=_unchanged(job, reason), now=now)


def _unchanged(job: Job, overdue: Reason) -> store.Condition:
    """Return the condition that the clock which has run out has not been started anew since the job was read."""
    if overdue == Reason.DEADLINE_RUNNING:
        return store.as_read(job, "started_at", "running_since", "waiting_since")
    if overdue == Reason.STALLED:
        return store.as_read(job, "launch", "progress_at")
    return store.unheard_since(job)


def _overdue(job: Job, status: Status, *, awake_at: datetime, now: datetime) -> Reason | None:
    """Return the clock that has run out; progress cannot be seen while the control plane is away: that time is free."""
    if job.state != State.RUNNING or job.started_at is None:
        is_over = (now - job.created_at).total_seconds() > base.seconds(job, "longest_pending_seconds")
        return (status.reason or Reason.DEADLINE_PENDING) if is_over else None
    if _has_run_too_long(job, now=now):
        return Reason.DEADLINE_RUNNING
    if job.waiting_since is not None and status.phase != Phase.RUNNING:
        is_over = (now - job.waiting_since).total_seconds() > base.seconds(job, "longest_pending_seconds")
        return (status.reason or Reason.DEADLINE_PENDING) if is_over else None
    if status.is_waiting or job.waiting_since is not None:  # nothing could move
        return None
    moved_at = max(job.progress_at or job.started_at, awake_at)
    if (now - moved_at).total_seconds() > base.seconds(job, "longest_stalled_seconds"):
        return Reason.STALLED
    return None


def _has_run_too_long(job: Job, *, now: datetime) -> bool:
    return upkeep.ran_seconds(job, now=now) > base.seconds(job, "longest_running_seconds")


def _clock_said(job: Job, reason: Reason, status: Status) -> str:
    said, clock = {
        Reason.DEADLINE_RUNNING: ("it ran longer than", "longest_running_seconds"),
        Reason.STALLED: ("neither epoch nor step moved for", "longest_stalled_seconds"),
    }.get(reason, ("no trainer called back within", "longest_pending_seconds"))
    waits = status.message or job.message if job.state != State.RUNNING or job.waiting_since is not None else None
    return f"{said} {base.seconds(job, clock):g} s" + (f"; it {waits}" if waits else "")


def _is_unsubmitted(job: Job) -> bool:
    """Say whether it is the launcher's turn: it never ran, or a crash came between counting a start and starting."""
    return job.state != State.RUNNING or (job.launch > 1 and job.submitted_at is None)


def _is_lost(job: Job, *, awake_at: datetime, now: datetime) -> bool:
    since = max(job.submitted_at or job.created_at, job.heartbeat_at or job.created_at, awake_at)
    return (now - since).total_seconds() > settings().lost_after_seconds


def _stop_orphans(launchers: Launcher, *, now: datetime) -> None:
    """Stop the trainers whose job has ended or never existed; one that has just reported its end has time to leave."""
    alive = launchers.list()
    ended_since = now - timedelta(seconds=settings().stop_grace_seconds)
    for job_id in alive - upkeep.open_or_ended_since(ended_since, alive):
        log(logging.WARNING, "stopping a trainer without a job", orphan=job_id)
        launchers.stop(job_id)


def _find_uploads(now: datetime) -> None:
    """Make the jobs of datasets whose notification was lost."""
    before = now - timedelta(seconds=settings().upload_grace_seconds)
    horizon = timedelta(seconds=settings().upload_horizon_seconds)
    found = [Upload(bucket, (key,), etag) for bucket, key, etag in storage.uploads(before=before, horizon=horizon)]
    by_identity = {identities.of_upload(one.bucket, one.keys[0], one.etag): one for one in found}
    for identity in by_identity.keys() - upkeep.known(by_identity.keys()):
        _guarded(partial(_take_upload, by_identity[identity], identity, now=now))


def _take_upload(upload: Upload, identity: str, *, now: datetime) -> None:
    with intake.rejecting(upload.keys[0], now=now, identity=identity):
        intake.upload(upload, now=now)
