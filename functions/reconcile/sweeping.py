"""The steps of one sweep. Each step is safe to repeat, and a step that fails does not stop the others.

Every write is conditional on what the sweep has read: a job that has changed since then is left alone.
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
from functions.launchers.base import Launcher, LauncherUnreachableError, Phase, Status
from functions.reconcile import leftovers, retention
from functions.runtime import storage
from functions.runtime.logs import bind, log, restored_context
from functions.runtime.settings import settings
from functions.store import jobs as store
from functions.store import queries, reports, transitions, upkeep
from functions.store.lease import Lease
from functions.store.tables import Job

#: launcher timeouts before a sweep skips its remaining launcher steps; more than one, so that a single job on which
#: the launcher hangs does not stop the others
_MAX_TIMEOUTS = 3
#: the actor of all changes by sweep
ACTOR = "sweep"


@restored_context()
def run(*, now: datetime) -> None:
    """Run one sweep, unless another one is running.

    Raises:
        Busy: the store is unavailable.
    """
    bind(actor=ACTOR)
    lease = Lease.take(now=now)
    if lease is None:
        return
    steps = (
        lambda: _reconcile_all(lease, now=now),
        lambda: _create_missing_jobs(now),
        lambda: leftovers.delete(now=now),
        lambda: delivery.deliver(lease, now=now),
        lambda: retention.run(now=now),
    )
    try:
        for step in steps:
            if lease.keep():
                _run_step(step)
    finally:
        lease.end()


@restored_context()
def reconcile_job(job_id: str, *, now: datetime) -> None:
    """Reconcile one job after its launcher has reported a change.

    Raises:
        NotFound: the job does not exist.
        Busy: the store is unavailable.
    """
    bind(actor=ACTOR)
    job, awake_at = queries.job(job_id), upkeep.awake_at()
    if job.state in FINAL:  # the job may have ended before any sweep has noted its trainer's image
        _run_step(lambda: _note_image(job, launching.configured_launcher().inspect(job)))
    elif awake_at is not None:
        _run_step(lambda: _reconcile(job, launching.configured_launcher(), awake_at=awake_at, now=now))


@restored_context()
def _run_step(step: Callable[[], None]) -> bool:
    """Run a step and log its errors; return False if the launcher could not be reached."""
    try:
        step()
    except WrongState:  # the job has changed since it was read; the newer state is right
        pass
    except Refusal as refusal:
        log(logging.WARNING, "a step of sweep was put off", detail=str(refusal)[:500])
    except LauncherUnreachableError as error:
        log(logging.WARNING, "the launcher cannot be reached", detail=str(error)[:500])
        return False
    except ConfigurationError as error:
        log(logging.ERROR, "a step of sweep cannot run until the configuration is fixed", detail=str(error))
    except Exception:  # noqa: BLE001 -- one bad job must not stop the sweep
        log(logging.ERROR, "a step of sweep failed", exc_info=True)
    return True


def _reconcile_all(lease: Lease, *, now: datetime) -> None:
    """Reconcile all open jobs with their trainers; a launcher that hangs costs a few timeouts, not one per job."""
    launcher = launching.configured_launcher()
    timeouts = 0 if _run_step(lambda: _stop_orphans(launcher, now=now)) else _MAX_TIMEOUTS
    jobs = upkeep.open_jobs() if timeouts < _MAX_TIMEOUTS else []
    for job in jobs:
        if timeouts >= _MAX_TIMEOUTS or not lease.keep():
            break
        step = partial(_reconcile, job, launcher, awake_at=lease.awake_at, now=now)
        timeouts += not _run_step(step)
    if timeouts >= _MAX_TIMEOUTS:
        log(logging.WARNING, "this sweep skips the launcher's steps; uploads, outbox and retention continue")


def _reconcile(job: Job, launcher: Launcher, *, awake_at: datetime, now: datetime) -> None:
    bind(job_id=job.id, trace_id=job.trace_id)
    status = launcher.inspect(job)
    _note_image(job, status)
    overdue = _overdue(job, status, awake_at=awake_at, now=now)
    if status.phase == Phase.ENDED:
        _handle_end(job, status, now=now)
    elif overdue is not None:
        _fail_overdue(job, overdue, status, now=now)
        launcher.stop(job.id)
    elif status.is_waiting or (status.phase == Phase.ABSENT and _is_unsubmitted(job)):
        _wait_or_submit(job, status, now=now)
    elif status.phase == Phase.ABSENT and _is_lost(job, awake_at=awake_at, now=now):
        _handle_end(job, Status(Phase.ENDED, "the launcher has no trainer of this job", Reason.LOST), now=now)
    elif job.state == State.RUNNING and job.waiting_since is not None and status.phase == Phase.RUNNING:
        upkeep.note_running(job, now=now)
    elif job.state == State.RUNNING:
        _note_silence(job, awake_at=awake_at, now=now)
    if status.phase in {Phase.HELD, Phase.RUNNING} and overdue is None:
        launching.renew_token(job, launcher, now=now)


def _wait_or_submit(job: Job, status: Status, *, now: datetime) -> None:
    """Submit a job again, or just note what it waits for if an external scheduler already has it."""
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


def _handle_end(job: Job, status: Status, *, now: datetime) -> None:
    """Finish, relaunch or fail a job whose trainer has ended without ``done``.

    A report that the trainer has stored replaces the missing ``done``. Without one, the job is launched again if its
    reason and ``attempt_limit`` allow it, and fails otherwise. While the storage is unavailable, nothing is decided.
    """
    if (finished := reports.finish_as_stored(job, now=now)) is not None:
        if finished.state not in FINAL:  # only its check is finished
            launching.submit(finished, now=now)
        return
    reason = status.reason or Reason.LOST
    message = status.message or "the trainer has disappeared"
    if reason == Reason.DEADLINE_RUNNING and not _has_run_too_long(job, now=now):
        # The cluster's deadline for a Job also counts the time that the job waited.
        reason = Reason.EVICTED
    relaunched = upkeep.relaunch(job, message, reason=reason, now=now) if RETRY[reason] == Retry.AS_IS else None
    if relaunched is not None:
        launching.submit(relaunched, now=now)
    else:
        store.move(
            job.id, State.FAILED, reason=reason, message=message, still=transitions.no_activity_since(job), now=now
        )


def _fail_overdue(job: Job, reason: Reason, status: Status, *, now: datetime) -> None:
    """Fail a job that exceeded a time limit, unless its trainer has stored a report that it could not deliver."""
    with suppress(Busy, ConfigurationError):  # time limits apply even while the storage is unavailable
        if reports.finish_as_stored(job, now=now) is not None:
            return
    message = _overdue_message(job, reason, status)
    store.move(job.id, State.FAILED, reason=reason, message=message, still=_still_overdue(job, reason), now=now)


def _still_overdue(job: Job, overdue: Reason) -> transitions.Condition:
    """Return the condition that the exceeded time limit has not been restarted since the job was read."""
    if overdue == Reason.DEADLINE_RUNNING:
        return transitions.unchanged(job, "started_at", "running_since", "waiting_since")
    if overdue == Reason.STALLED:
        return transitions.unchanged(job, "launch", "progress_at")
    return transitions.no_activity_since(job)


def _overdue(job: Job, status: Status, *, awake_at: datetime, now: datetime) -> Reason | None:
    """Return the reason of the time limit that a job exceeds, or None.

    Outages of the control plane, and the time before the last one, count only for the running limit: trainers keep
    running meanwhile, but no job can be submitted, and neither a start nor progress can be reported.
    """
    if job.state != State.RUNNING or job.started_at is None:
        return _pending_too_long(job, status, since=max(job.created_at, awake_at), now=now)
    if _has_run_too_long(job, now=now):
        return Reason.DEADLINE_RUNNING
    if job.waiting_since is not None and status.phase != Phase.RUNNING:
        return _pending_too_long(job, status, since=max(job.waiting_since, awake_at), now=now)
    if status.is_waiting or job.waiting_since is not None:  # a waiting job cannot make progress
        return None
    progress_at = max(job.progress_at or job.started_at, awake_at)
    if (now - progress_at).total_seconds() > base.seconds(job, "longest_stalled_seconds"):
        return Reason.STALLED
    return None


def _pending_too_long(job: Job, status: Status, *, since: datetime, now: datetime) -> Reason | None:
    is_over = (now - since).total_seconds() > base.seconds(job, "longest_pending_seconds")
    return (status.reason or Reason.DEADLINE_PENDING) if is_over else None


def _has_run_too_long(job: Job, *, now: datetime) -> bool:
    return upkeep.ran_seconds(job, now=now) > base.seconds(job, "longest_running_seconds")


def _overdue_message(job: Job, reason: Reason, status: Status) -> str:
    prefix, limit = {
        Reason.DEADLINE_RUNNING: ("it ran longer than", "longest_running_seconds"),
        Reason.STALLED: ("neither epoch nor step moved for", "longest_stalled_seconds"),
    }.get(reason, (_pending_prefix(job), "longest_pending_seconds"))
    is_waiting = job.state != State.RUNNING or job.waiting_since is not None
    waits = status.message or job.message if is_waiting else None
    return f"{prefix} {base.seconds(job, limit):g} s" + (f"; it {waits}" if waits else "")


def _pending_prefix(job: Job) -> str:
    # The trainer of a check may have called.
    return "no training started within" if job.checking or job.check_launches else "no trainer called back within"


def _is_unsubmitted(job: Job) -> bool:
    """Return whether the current launch was never submitted: the job is new, or a crash came before the submission."""
    return job.state != State.RUNNING or (job.launch > 1 and job.submitted_at is None)


def _is_lost(job: Job, *, awake_at: datetime, now: datetime) -> bool:
    since = max(job.submitted_at or job.created_at, job.heartbeat_at or job.created_at, awake_at)
    return (now - since).total_seconds() > settings().lost_after_seconds


def _stop_orphans(launcher: Launcher, *, now: datetime) -> None:
    """Stop trainers whose job has ended or does not exist; after ``done``, a trainer has the stop grace to exit."""
    alive = launcher.list()
    ended_since = now - timedelta(seconds=settings().stop_grace_seconds)
    orphans = alive - upkeep.open_or_ended_since(ended_since, alive)
    ended = upkeep.existing(orphans)
    for job_id in orphans:
        if job_id in ended:  # a slow exit is no error
            log(logging.DEBUG, "stopping the trainer of an ended job", job_id=job_id)
        else:
            log(logging.WARNING, "stopping a trainer without a job", orphan=job_id)
        launcher.stop(job_id)


def _create_missing_jobs(now: datetime) -> None:
    """Create the jobs of uploaded datasets whose notification was lost."""
    before = now - timedelta(seconds=settings().upload_grace_seconds)
    horizon = timedelta(seconds=settings().upload_horizon_seconds)
    objects = storage.uploads(before=before, horizon=horizon)
    uploads = {identities.of_upload(*object_): object_ for object_ in objects}
    for identity in uploads.keys() - upkeep.known_identities(uploads.keys()):
        bucket, key, etag = uploads[identity]
        _run_step(partial(_create_job, Upload(bucket, (key,), etag), identity, now=now))


def _create_job(upload: Upload, identity: str, *, now: datetime) -> None:
    with intake.rejecting(upload.keys[0], now=now, identity=identity):
        intake.upload(upload, now=now)
