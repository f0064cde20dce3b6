"""All environment variables of the functions, as one typed model."""

import os
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec

from functions.domain import fields
from functions.domain.errors import ConfigurationError

#: the scopes of API tokens
SCOPES = ("jobs:read", "jobs:write", "datasets:notify", "datasets:write", "metrics:read")
_SHORTEST_SECRET_BYTES, _FEWEST_CHARACTERS = 32, 8
Positive = Annotated[float, msgspec.Meta(gt=0)]
#: the value of a Kubernetes label
Label = Annotated[
    str,
    msgspec.Meta(
        pattern="^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$",
        description="1 to 63 letters, digits, dots, dashes or underscores, with a letter or digit at both ends",
    ),
]


class Settings(msgspec.Struct, frozen=True):
    """The settings: each field is the environment variable of that name in upper case."""

    database_url: str = "sqlite:///.stoker/stoker.db"
    backend_base_url: str = "http://127.0.0.1:8080"
    log_format: Literal["json", "text"] = "json"
    #: ``debug`` adds a line per request
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    storage_type: Literal["minio", "r2"] = "minio"
    storage_bucket: str = "stoker"
    #: the storage's address for people, if functions and trainers use another one; links to artifacts use it
    storage_public_endpoint: str = ""
    minio_endpoint: str = ""
    minio_access_key: str = ""
    minio_secret_key: str = ""
    r2_endpoint: str = ""
    r2_access_key_id: str = ""
    r2_secret_access_key: str = ""
    #: whether trainers receive the credentials above or presigned URLs only
    trainer_storage: Literal["credentials", "presigned"] = "credentials"

    trainers: str = ""
    default_framework: str = ""
    default_model: str = ""
    #: whether a training's first launch only checks the dataset, unless the job itself sets it
    check_first: bool = False

    launcher: Literal["local", "kubernetes"] = "local"
    local_runs_dir: str = ".stoker/runs"
    local_job_limit: Annotated[int, msgspec.Meta(ge=1)] = 1
    stop_grace_seconds: Positive = 30.0
    trainer_namespace: str = "stoker-trainers"
    #: distinguishes this installation's Jobs from others in the same namespace
    installation: Label = "stoker"
    gpu_resource: str = "nvidia.com/gpu"
    #: the node label whose value a job's ``gpu_type`` is
    gpu_type_label: str = "nvidia.com/gpu.product"
    #: the default LocalQueue and WorkloadPriorityClass; Kueue is not used without a queue
    kueue_queue: str = ""
    kueue_priority: str = ""
    #: how long image pulls may fail before the job FAILED
    image_pull_seconds: Positive = 300.0

    #: where trainers share unpacked datasets: a folder of this machine, or a volume of the cluster; off by default
    dataset_cache_dir: str = ""
    dataset_cache_volume: Literal["", "hostPath", "persistentVolumeClaim"] = ""
    dataset_cache_bytes: Annotated[int, msgspec.Meta(ge=1)] = 100_000_000_000

    #: defaults of a job's time limits
    longest_pending_seconds: Positive = 24 * 3600.0
    longest_running_seconds: Positive = 3 * 24 * 3600.0
    longest_stalled_seconds: Positive = 2 * 3600.0
    heartbeat_seconds: Positive = 30.0
    #: heartbeats missed before a job counts as silent
    silent_after_heartbeats: Positive = 4.0
    #: how long a submitted job may be unknown to its launcher before it counts as lost
    lost_after_seconds: Positive = 60.0
    #: the age at which sweep treats an upload's notification as lost, and how far back sweep searches
    upload_grace_seconds: Positive = 60.0
    upload_horizon_seconds: Positive = 7 * 24 * 3600.0
    #: the origins of web pages that may call the functions, separated by commas, or *
    cors_origins: str = ""
    #: how many jobs the subject of a token may create by HTTP requests in an hour; 0: any number
    jobs_per_hour: Annotated[int, msgspec.Meta(ge=0)] = 1_000
    #: the longest life of a read-only link to a job; 0: there are no links
    job_link_days: Annotated[int, msgspec.Meta(ge=0, le=30)] = 30
    #: the largest dataset that upload links are given for; S3's own limit is 5 TiB
    upload_limit_bytes: Annotated[int, msgspec.Meta(ge=1, le=5 * 1024**4)] = 1024**4
    #: how long after a job's end its events stay in the store before they are archived to the bucket; 0: forever
    retention_days: Annotated[int, msgspec.Meta(ge=0, le=36_500)] = 90

    k_sink: str = ""
    #: a file with the token for the sink
    k_sink_token_file: str = ""
    oidc_issuer: str = ""
    oidc_audience: str = "stoker"
    #: the issuer's subjects that may call, as comma-separated shell patterns; none by default
    oidc_subjects: str = ""
    #: a certificate authority and a token for fetching the issuer's keys, if it needs them
    oidc_ca_file: str | None = None
    oidc_token_file: str = ""
    oidc_scope: str = "datasets:notify jobs:write"
    #: the issuer at which people sign in, as OIDC_ISSUER is that of events, with what its subjects may do
    sign_in_issuer: str = ""
    sign_in_audience: str = "stoker"
    sign_in_subjects: str = ""
    sign_in_scope: str = "jobs:read jobs:write datasets:write"
    sign_in_ca_file: str | None = None
    #: the console's public client there, and the scopes that it requests; without a client, it offers no sign-in there
    sign_in_client_id: str = ""
    sign_in_client_scope: str = "openid"
    mlflow_tracking_uri: str = ""


@cache
def settings() -> Settings:
    """Return the settings of this process.

    Raises:
        ConfigurationError: a variable cannot be used; the message names it.
    """
    known = {field.encode_name for field in msgspec.structs.fields(Settings)}
    values = {name.lower(): value for name, value in os.environ.items() if name.lower() in known}
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        wrong = [f"{name.upper()}: {detail}" for name, detail in fields.problems(values, Settings, strict=False)]
        raise ConfigurationError("\n".join(wrong)) from error


def storage_environment() -> dict[str, str]:
    """Return the environment variables that give a trainer access to the storage."""
    configured = settings()
    if configured.trainer_storage == "presigned":
        return {"STORAGE_TYPE": "presigned", "STORAGE_BUCKET": configured.storage_bucket}
    return {"STORAGE_TYPE": configured.storage_type, "STORAGE_BUCKET": configured.storage_bucket} | storage_access()


def storage_access() -> dict[str, str]:
    """Return the storage's endpoint, access key id and secret key, by environment variable."""
    names = {
        "minio": ("minio_endpoint", "minio_access_key", "minio_secret_key"),
        "r2": ("r2_endpoint", "r2_access_key_id", "r2_secret_access_key"),
    }[settings().storage_type]
    return {name.upper(): getattr(settings(), name) for name in names}


def jwt_secrets() -> dict[str, str]:
    """Return the accepted secrets by ``kid``; the first signs.

    The format is ``kid:secret,kid:secret``, in the file that ``JWT_SECRETS_FILE`` names or else in ``JWT_SECRETS``. The
    file is read each time, because a mounted Secret changes while functions run. To rotate: append a key, and move it
    to the front once all functions accept it.

    Raises:
        ConfigurationError: there is none, or one is shorter than 32 bytes.
    """
    path = os.environ.get("JWT_SECRETS_FILE")
    return _jwt_secrets(read_file("JWT_SECRETS_FILE", path) if path else os.environ.get("JWT_SECRETS", ""))


@lru_cache(maxsize=2)
def _jwt_secrets(text: str) -> dict[str, str]:
    pairs = [pair.strip().partition(":") for pair in text.split(",") if pair.strip()]
    if not pairs:
        raise ConfigurationError("JWT_SECRETS: set it to kid:secret, with a secret of 32 random bytes or more")
    for kid, _, secret in pairs:
        # "aaaa…" is weak, however long
        if len(secret.encode()) < _SHORTEST_SECRET_BYTES or len(set(secret)) < _FEWEST_CHARACTERS:
            raise ConfigurationError(f"JWT_SECRETS: the secret of kid {kid!r} is weak; use 32 random bytes or more")
    return {kid: secret for kid, _, secret in pairs}


def allowed_origins() -> list[str]:
    """Return the origins in CORS_ORIGINS; none while the settings cannot be read."""
    try:
        return [origin.strip().rstrip("/") for origin in settings().cors_origins.split(",") if origin.strip()]
    except ConfigurationError:  # the responses report the error
        return []


class Issuer(NamedTuple):
    """An OIDC issuer whose tokens are accepted. ``setting``: the prefix of its settings' names."""

    setting: str
    address: str
    audience: str
    #: its subjects that may call, as comma-separated shell patterns
    subjects: str
    #: the scopes of these subjects
    scope: str
    ca_file: str | None
    token_file: str = ""


def issuers() -> list[Issuer]:
    """Return the OIDC issuers whose tokens are accepted: that of events, and that of people."""
    own = settings()
    of_events = Issuer(
        "OIDC",
        own.oidc_issuer,
        own.oidc_audience,
        own.oidc_subjects,
        own.oidc_scope,
        own.oidc_ca_file,
        own.oidc_token_file,
    )
    of_people = Issuer(
        "SIGN_IN",
        own.sign_in_issuer,
        own.sign_in_audience,
        own.sign_in_subjects,
        own.sign_in_scope,
        own.sign_in_ca_file,
    )
    return [issuer for issuer in (of_events, of_people) if issuer.address]


def read_file(name: str, path: str) -> str:
    """Return the text of a file that a setting names.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(f"{name}: the file {path} cannot be read: {reason}") from error
