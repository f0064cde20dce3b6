"""All environment variables of a trainer (contract v1), and the ways in which a job can fail."""

import json
import math
import os
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class TrainerError(Exception):
    """The job fails: ``reason`` and the message go to the functions, ``exit_code`` to the launcher (sysexits.h)."""

    reason = "trainer_error"
    exit_code = 70


class ConfigInvalidError(TrainerError):
    """A variable or hyperparameter cannot be used; the message names it and what it may be."""

    reason = "config_invalid"
    exit_code = 78


class DatasetInvalidError(TrainerError):
    """The dataset cannot be used; the message names the file and, where there is one, the line."""

    reason = "dataset_invalid"
    exit_code = 65


class StorageError(TrainerError):
    """The storage is away for minutes, or refuses us. Another attempt may go better: the job is left open."""

    reason = "storage_error"
    exit_code = 74


class GpuMemoryError(TrainerError):
    """The GPU's memory does not hold the batch."""

    reason = "oom_gpu"


@dataclass(frozen=True)
class Identity:
    """Whose trainer this is, and whom to call back: what a report needs, even one about the other settings."""

    job_id: str
    trace_id: str
    backend_base_url: str
    callback_token: str
    callback_token_file: str
    heartbeat_seconds: float
    done_retry_seconds: float
    grace_seconds: float
    scratch_dir: str

    @classmethod
    def from_environ(cls, env: Mapping[str, str]) -> "Identity":
        """Raises: ConfigInvalidError."""
        if not env.get("CALLBACK_TOKEN") and not env.get("CALLBACK_TOKEN_FILE"):
            raise ConfigInvalidError("CALLBACK_TOKEN is missing: set it, or CALLBACK_TOKEN_FILE")
        return cls(
            job_id=_match(env, "JOB_ID", r"[\w-]{1,100}"),
            trace_id=_match(env, "TRACE_ID", r"[0-9a-f]{32}", default=uuid.uuid4().hex),
            backend_base_url=_match(env, "BACKEND_BASE_URL", r"https?://\S+").rstrip("/"),
            callback_token=env.get("CALLBACK_TOKEN", "").strip(),
            callback_token_file=env.get("CALLBACK_TOKEN_FILE", ""),
            heartbeat_seconds=_number(env, "HEARTBEAT_SECONDS", float, 30.0, low=0.1),
            done_retry_seconds=_number(env, "DONE_RETRY_SECONDS", float, 3600.0, low=0),
            grace_seconds=_number(env, "GRACE_SECONDS", float, 25.0, low=1),
            scratch_dir=env.get("SCRATCH_DIR", ""),
        )


@dataclass(frozen=True)
class Settings:
    """The work. None means: the framework's own default."""

    task: str  # train | predict
    dataset_id: str
    model_name: str
    epochs: int
    batch_size: int
    image_size: int | None  # pixels
    learning_rate: float | None
    seed: int
    device: str | None  # cpu | mps | 0 | 0,1 …
    workers: int
    hyperparameters: dict[str, Any]
    checkpoint_key: str | None
    storage_type: str  # minio | r2 | presigned
    storage_retry_seconds: float  # how long the storage may be away at the start and at the end
    mlflow_tracking_uri: str | None

    @classmethod
    def from_environ(cls, env: Mapping[str, str]) -> "Settings":
        """Raises: ConfigInvalidError."""
        size = env.get("IMAGE_SIZE") and _number(env, "IMAGE_SIZE", int, 0, low=16)
        rate = env.get("LEARNING_RATE") and _number(env, "LEARNING_RATE", float, 0.0, low=0)
        return cls(
            task=_match(env, "TASK", "train|predict", default="train"),
            dataset_id=_match(env, "DATASET_ID", r"(?!.*\.\.)\w[\w +=@.-]*"),
            model_name=_match(env, "MODEL_NAME", r"(?!.*\.\.)\w[\w +=@./-]*"),
            epochs=_number(env, "EPOCHS", int, 100, low=1),
            batch_size=_number(env, "BATCH_SIZE", int, 16, low=1),
            image_size=size or None,
            learning_rate=rate or None,
            seed=_number(env, "SEED", int, 0, low=0),
            device=_match(env, "DEVICE", r"mps|(cpu|\d+)(,(cpu|\d+))*", default="") or None,
            workers=_number(env, "WORKERS", int, 2, low=0),
            hyperparameters=_json_object(env, "HYPERPARAMETERS"),
            checkpoint_key=_match(env, "CHECKPOINT_KEY", r"(?!.*\.\.)\w[\w +=@./-]*", default="") or None,
            storage_type=_match(env, "STORAGE_TYPE", "minio|r2|presigned"),
            storage_retry_seconds=_number(env, "STORAGE_RETRY_SECONDS", float, 300.0, low=0),
            mlflow_tracking_uri=env.get("MLFLOW_TRACKING_URI") or None,
        )


def s3_settings(env: Mapping[str, str], storage_type: str) -> dict[str, str]:
    """Return endpoint, key, secret and bucket of the chosen storage. Raises: ConfigInvalidError."""
    names = {
        "minio": ("MINIO_ENDPOINT", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", "STORAGE_BUCKET"),
        "r2": ("R2_ENDPOINT", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", "STORAGE_BUCKET"),
    }[storage_type]
    values = [_match(env, names[0], r"https?://\S+"), *(_match(env, name, r"\S+") for name in names[1:])]
    return dict(zip(("endpoint", "key", "secret", "bucket"), values, strict=True))


def token_of(identity: Identity) -> str:
    """Return the callback token as it is now: a mounted file is renewed in place. Raises: ConfigInvalidError."""
    if not identity.callback_token_file:
        return identity.callback_token
    try:
        return Path(identity.callback_token_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigInvalidError(f"CALLBACK_TOKEN_FILE cannot be read: {os.strerror(error.errno or 0)}") from error


def _match(env: Mapping[str, str], name: str, pattern: str, *, default: str | None = None) -> str:
    value = env.get(name, "").strip()
    if not value and default is not None:
        return default
    if not value:
        raise ConfigInvalidError(f"{name} is missing: set this environment variable")
    if not re.fullmatch(pattern, value):
        raise ConfigInvalidError(f"{name}={value!r} cannot be used: it must match {pattern}")
    return value


def _number(env: Mapping[str, str], name: str, kind: Callable[[str], T], default: T, *, low: float) -> T:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        value = kind(text)
        usable = math.isfinite(float(text)) and float(text) >= low
    except ValueError:
        usable = False
    if not usable:
        raise ConfigInvalidError(f"{name}={text!r} cannot be used: it must be a number, {low:g} or more")
    return value


def _json_object(env: Mapping[str, str], name: str) -> dict[str, Any]:
    try:
        value = json.loads(env.get(name) or "{}", parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ConfigInvalidError(f"{name} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigInvalidError(f'{name} must be a JSON object, such as {{"weight_decay": 0.01}}')
    return value


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")
