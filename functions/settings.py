"""All environment variables of the functions, as one typed model."""

import os
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

Positive = Annotated[float, msgspec.Meta(gt=0)]
#: the value of a Kubernetes label
Label = Annotated[
    str,
    msgspec.Meta(
        pattern="^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$",
        description="1 to 63 letters, digits, dots, dashes or underscores, with a letter or digit at both ends",
    ),
]


class Resources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one trainer gets in a cluster, as Kubernetes writes quantities; GPUs are the job's to ask for."""

    cpu: str = "2"
    memory: str = "8Gi"
    #: of the memory, what workers may share
    shm: str = "2Gi"
    #: scratch space, and all that else is written
    scratch: str = "20Gi"
    ephemeral_storage: str = "24Gi"


class Trainer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one framework is started: by an image in a cluster, by a command on a laptop."""

    command: dict[str, list[str]] = {}
    image: str = ""
    resources: Resources = Resources()
    #: labels of the nodes that it may run on, and taints that it bears besides the GPU's, as Kubernetes writes them
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, str | int], ...] = ()
    env: dict[str, str] = {}
    #: shell patterns of the model names that this trainer knows; anything else is refused at once
    models: tuple[str, ...] = ("*",)


class Settings(msgspec.Struct, frozen=True):
    """One field a variable, by the variable's name in lower case."""

    database_url: str = "sqlite:///.stoker/stoker.db"
    backend_base_url: str = "http://127.0.0.1:8080"
    log_format: Literal["json", "text"] = "json"

    storage_type: Literal["minio", "r2"] = "minio"
    storage_bucket: str = "stoker"
    minio_endpoint: str = ""
    minio_access_key: str = ""
    minio_secret_key: str = ""
    r2_endpoint: str = ""
    r2_access_key_id: str = ""
    r2_secret_access_key: str = ""
    #: what trainers get: the credentials above, or presigned URLs only
    trainer_storage: Literal["credentials", "presigned"] = "credentials"

    trainers: str = ""
    default_framework: str = ""
    default_model: str = ""

    launcher: Literal["local", "kubernetes"] = "local"
    local_runs_dir: str = ".stoker/runs"
    local_job_limit: Annotated[int, msgspec.Meta(ge=1)] = 1
    stop_grace_seconds: Positive = 30.0
    trainer_namespace: str = "stoker-trainers"
    #: tells this installation's Jobs from those of others in the same namespace
    installation: Label = "stoker"
    gpu_resource: str = "nvidia.com/gpu"
    #: the node label that a job's ``gpu_type`` is a value of
    gpu_type_label: str = "nvidia.com/gpu.product"
    #: the LocalQueue and WorkloadPriorityClass of jobs that name none; no queue, no Kueue
    kueue_queue: str = ""
    kueue_priority: str = ""
    #: how long an image may fail to be pulled before the job has FAILED
    image_pull_seconds: Positive = 300.0

    #: defaults of the three clocks; a job may bring its own
    longest_pending_seconds: Positive = 24 * 3600.0
    longest_running_seconds: Positive = 3 * 24 * 3600.0
    longest_stalled_seconds: Positive = 2 * 3600.0
    heartbeat_seconds: Positive = 30.0
    #: heartbeats missed before a job counts as silent
    silent_after_heartbeats: Positive = 4.0
    #: how long a submitted job may be unknown to its launcher before it counts as lost
    lost_after_seconds: Positive = 60.0
    #: how old an upload must be before sweep takes its notification for lost, and how far back it looks
    upload_grace_seconds: Positive = 60.0
    upload_horizon_seconds: Positive = 7 * 24 * 3600.0
    #: how long after a job's end its events stay in the store, before they go to the bucket; 0: for ever
    retention_days: Annotated[int, msgspec.Meta(ge=0, le=36_500)] = 0

    k_sink: str = ""
    #: a file with the token that the sink wants to see
    k_sink_token_file: str = ""
    oidc_issuer: str = ""
    oidc_audience: str = "stoker"
    #: who of that issuer's subjects may call, as shell patterns separated by commas; nobody by default
    oidc_subjects: str = ""
    #: how the issuer's keys are fetched, where that takes a certificate authority or a token of its own
    oidc_ca_file: str | None = None
    oidc_token_file: str = ""
    oidc_scope: str = "datasets:notify jobs:write"
    mlflow_tracking_uri: str = ""


@cache
def settings() -> Settings:
    """Return the settings of this process.

    Raises:
        ValueError: a variable cannot be used; the message names it.
    """
    known = {field.encode_name for field in msgspec.structs.fields(Settings)}
    given: dict[str, Any] = {name.lower(): value for name, value in os.environ.items() if name.lower() in known}
    try:
        return msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"environment: {error} (the variable's name is the field's in capitals)") from error


@cache
def trainers() -> dict[str, Trainer]:
    """Return the registered trainers by framework, from the JSON file that ``TRAINERS`` names.

    Relative paths in a command are resolved against that file's folder.

    Raises:
        ValueError: the file is missing or cannot be used.
    """
    path = Path(settings().trainers)
    try:
        registry = msgspec.json.decode(path.read_bytes(), type=dict[str, Trainer])
    except (OSError, msgspec.MsgspecError) as error:
        raise ValueError(f"TRAINERS={settings().trainers!r}: {error}") from error
    return {name: _resolved(trainer, path.resolve().parent) for name, trainer in registry.items()}


def _resolved(trainer: Trainer, folder: Path) -> Trainer:
    # Not Path.resolve: a virtual environment's interpreter is a link, and its target is another environment.
    command = {
        task: [os.path.normpath(folder / word) if "/" in word else word for word in words]
        for task, words in trainer.command.items()
    }
    return msgspec.structs.replace(trainer, command=command)


def storage_environment() -> dict[str, str]:
    """Return the contract's storage variables, as a trainer gets them."""
    now = settings()
    if now.trainer_storage == "presigned":
        return {"STORAGE_TYPE": "presigned", "STORAGE_BUCKET": now.storage_bucket}
    return {"STORAGE_TYPE": now.storage_type, "STORAGE_BUCKET": now.storage_bucket} | storage_access()


def storage_access() -> dict[str, str]:
    """Return what the bucket is reached with: its endpoint, the key's id and the key, by their variables."""
    names = {
        "minio": ("minio_endpoint", "minio_access_key", "minio_secret_key"),
        "r2": ("r2_endpoint", "r2_access_key_id", "r2_secret_access_key"),
    }[settings().storage_type]
    return {name.upper(): getattr(settings(), name) for name in names}
