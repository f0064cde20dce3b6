"""Submits jobs to the launcher that ``LAUNCHER`` names, and makes the environment that every trainer gets."""

import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from functions.api import tokens
from functions.domain.errors import ConfigurationError, WrongState, unusable_field
from functions.domain.spec import Spec, hyperparameters_json
from functions.domain.states import FINAL, Reason, State
from functions.launchers import base
from functions.runtime import storage
from functions.runtime.logs import log
from functions.runtime.settings import settings, storage_environment
from functions.store import callbacks, jobs, queries, transitions, upkeep
from functions.store.tables import Job


def check(requested: Spec) -> None:
    """Refuse a job that the launcher could never start.

    Raises:
        Unusable: a field requests more than this machine has.
    """
    if settings().launcher == "local" and requested.gpus:
        available = len(list(Path("/dev").glob("nvidia[0-9]*")))
        if requested.gpus > available:
            has = f"this machine has {available} NVIDIA GPUs" if available else "this machine has no NVIDIA GPU"
            raise unusable_field("gpus", f"{has}; use {f'at most {available}' if available else '0'}")


def configured_launcher() -> base.Launcher:
    """Return the launcher that ``LAUNCHER`` names."""
    if settings().launcher == "kubernetes":
        from functions.launchers.kubernetes import Kubernetes  # noqa: PLC0415 -- imports the Kubernetes client

        return Kubernetes()
    from functions.launchers.local import Local  # noqa: PLC0415 -- imports psutil

    return Local()


def launch(job: Job, *, now: datetime) -> Job:
    """Submit an open job; if the launcher fails, leave the job unchanged for sweep to submit again."""
    try:
        return submit(job, now=now)
    except ConfigurationError as error:
        log(logging.ERROR, "misconfigured; sweep tries again", detail=str(error), job_id=job.id)
        return job
    except OSError:
        log(logging.ERROR, "the launcher failed; sweep tries again", exc_info=True, job_id=job.id)
        return job


def submit(job: Job, *, now: datetime, waits: str | None = None) -> Job:
    """Submit the job's current launch to the launcher and record the result; safe to repeat after a crash.

    Does nothing if the job has ended or was launched again since it was read. If that happens during the submission,
    the trainer is stopped, or its calls are refused because its token names an older launch. ``waits`` is the message
    of a waiting trainer from ``inspect``, which knows more than the result of another submission.

    Raises:
        OSError: the launcher failed; the job waits, and its message says why.
        ConfigurationError: the launcher or the trainers are misconfigured; the job waits, and its message says why.
    """
    current = queries.job(job.id)
    if current.state in FINAL or current.launch != job.launch:
        return current
    try:
        variables = environment(job, now=now)
        status = configured_launcher().submit(job, variables)
    except base.LaunchRejectedError as error:
        rejected = {
            "message": str(error),
            "reason": Reason.LAUNCH_REJECTED,
            "still": transitions.no_activity_since(job),
        }
        return _moved(job, State.FAILED, now=now, **rejected)
    except ConfigurationError as error:
        mistake = f"waits until the operator corrects the configuration: {error}".replace("\n", "; ")
        upkeep.note_wait(job, mistake[: base.MESSAGE_LENGTH], now=now)
        raise
    except OSError as error:
        failure = f"waits for the launcher, which failed: {error.strerror or error}"[: base.MESSAGE_LENGTH]
        upkeep.note_wait(job, failure, now=now)
        raise
    started = callbacks.CHECKS if job.checking else None
    message = waits or status.message if status.is_waiting else status.message or started
    if not upkeep.note_submitted(job, message, now=now, image=_image(job)):
        return _stopped_if_ended(job)
    if status.is_waiting and job.state == State.RUNNING:
        upkeep.note_wait(job, message, now=now)
    upkeep.note_token(job, *tokens.key_and_expiry(variables["CALLBACK_TOKEN"]))
    if job.state == State.PENDING:
        return _moved(job, State.QUEUED, now=now, message=message)
    return job


def renew_token(job: Job, launcher: base.Launcher, *, now: datetime) -> None:
    """Renew a launch's stored token once half of its lifetime has passed, or its signing key was removed.

    A running trainer gets a new token with a heartbeat. The stored token is for a trainer that starts long after its
    submission, because it waited for a node or its pod was replaced.

    Raises:
        OSError: the launcher failed.
    """
    keys, expires_at = tokens.keys(), job.token_expires_at
    half_life = timedelta(seconds=tokens.callback_seconds(base.seconds(job, "longest_running_seconds")) / 2)
    if job.token_key in keys and expires_at is not None and expires_at - now > half_life:
        return
    fresh = credentials(job, now=now)
    launcher.renew(job, fresh)
    upkeep.note_token(job, *tokens.key_and_expiry(fresh["CALLBACK_TOKEN"]))


def _image(job: Job) -> str | None:
    """Return the image that a job is launched from; None if it is launched as a command."""
    return (base.trainer_of(job).image or None) if settings().launcher == "kubernetes" else None


def stop(job_id: str) -> None:
    """Stop a job's trainer; if the launcher fails or is misconfigured now, sweep stops the trainer later."""
    try:
        configured_launcher().stop(job_id)
    except ConfigurationError as error:
        log(logging.ERROR, "misconfigured; sweep tries again", detail=str(error), job_id=job_id)
    except OSError:
        log(logging.ERROR, "the launcher failed; sweep tries again", exc_info=True, job_id=job_id)


def local_log(job: Job, attempt: int) -> Path | None:
    """Return the file with the output of an attempt's trainer, if the launcher is local and the file exists."""
    if settings().launcher != "local":
        return None
    from functions.launchers.local import log_of  # noqa: PLC0415 -- imports psutil

    # Each launch has an attempt, once its trainer has claimed the job.
    launch, latest = job.launch, max(job.attempt, 1)
    if attempt <= job.check_attempts:
        launch, latest = job.check_launches, job.check_attempts
    return log_of(job.id, max(launch - (latest - attempt), 1))


def _moved(job: Job, to: State, *, now: datetime, **values: Any) -> Job:
    try:
        return jobs.move(job.id, to, now=now, **values)
    except WrongState:  # the trainer called back first, or the job was cancelled; the newer state is right
        return _stopped_if_ended(job)


def _stopped_if_ended(job: Job) -> Job:
    current = queries.job(job.id)
    if current.state in FINAL:
        stop(job.id)
    return current


def environment(job: Job, *, now: datetime) -> dict[str, str]:
    """Return the environment variables of contract v1 for a job, and no others."""
    spec, configured = base.spec_of(job), settings()
    names = (
        "epochs",
        "batch_size",
        "image_size",
        "learning_rate",
        "seed",
        "device",
        "workers",
        "checkpoint_key",
    )
    optional = {name.upper(): str(spec[name]) for name in names if spec.get(name) is not None}
    if spec.get("gpus", 0) > 1:
        optional.setdefault("DEVICE", ",".join(map(str, range(spec["gpus"]))))
    return {
        **base.trainer_of(job).env,
        "JOB_ID": job.id,
        "TRACE_ID": job.trace_id,
        "ATTEMPT_LIMIT": str(job.attempt_limit),
        "BACKEND_BASE_URL": configured.backend_base_url,
        "TASK": base.task_of(job),
        # The object's exact name, so that datasets/{DATASET_ID}.zip in the trainer is that object.
        "DATASET_ID": _dataset_stem(job),
        **({"DATASET_ETAG": job.dataset_etag} if job.dataset_etag else {}),
        "MODEL_NAME": job.model_name,
        "HYPERPARAMETERS": hyperparameters_json(spec.get("hyperparameters", {})).decode(),
        "HEARTBEAT_SECONDS": str(base.seconds(job, "heartbeat_seconds")),
        **({"MLFLOW_TRACKING_URI": configured.mlflow_tracking_uri} if configured.mlflow_tracking_uri else {}),
        **_dataset_cache(),
        **credentials(job, now=now),
        **optional,
    }


def _dataset_cache() -> dict[str, str]:
    """Return where a trainer finds the datasets that others have unpacked; nothing if they share none."""
    configured = settings()
    folder = str(Path(configured.dataset_cache_dir).resolve()) if configured.dataset_cache_dir else ""
    if configured.launcher == "kubernetes":
        folder = base.DATASET_CACHE if configured.dataset_cache_volume else ""
    shared = {"DATASET_CACHE_DIR": folder, "DATASET_CACHE_BYTES": str(configured.dataset_cache_bytes)}
    return shared if folder else {}


def _dataset_stem(job: Job) -> str:
    return storage.dataset_stem(job.dataset_key or storage.dataset_key(job.dataset_id))


def credentials(job: Job, *, now: datetime) -> dict[str, str]:
    """Return the variables by which a job's trainer authenticates to the functions and the storage."""
    running_seconds = base.seconds(job, "longest_running_seconds")
    token = tokens.mint_callback(job.id, running_seconds, now=now, launch=job.launch)
    return {"CALLBACK_TOKEN": token, **storage_environment()}
