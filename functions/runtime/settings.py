"""All environment variables of the functions, as one typed model."""

import os
import sys
from collections.abc import Callable
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from functions.domain import fields, json_values
from functions.domain.declarations import Declaration, accepts
from functions.domain.errors import ConfigurationError, Unusable

#: functions that never read TRAINERS
_WITHOUT_TRAINERS = frozenset({"heartbeat", "event", "done", "presign", "uploads", "dead_letter"})
#: the scopes of API tokens
SCOPES = ("jobs:read", "jobs:write", "datasets:notify", "datasets:write", "metrics:read")
_SHORTEST_SECRET_BYTES, _FEWEST_CHARACTERS = 32, 8
#: of labels and annotations that select, own or admit a trainer's objects
_OWN_PREFIXES = ("stoker.dev", "kubernetes.io", "k8s.io")
_SQLITE, _POSTGRESQL = "sqlite:///", ("postgresql", "postgres")
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
    """The resources of a trainer in a cluster, as Kubernetes quantities. The job itself requests GPUs."""

    cpu: str = "2"
    memory: str = "8Gi"
    #: the part of the memory that workers may share
    shm: str = "2Gi"
    #: scratch space and all other local storage
    scratch: str = "20Gi"
    ephemeral_storage: str = "24Gi"
    #: others by name, such as ``rdma/hca``
    extra: dict[str, str] = {}


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A claim of dynamic resource allocation, made for each pod from a template in the trainers' namespace."""

    name: str
    template: str


class Pod(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What else a cluster needs in a trainer's pod; ``affinity`` and ``topology_spread`` are as Kubernetes has them."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    runtime_class: str = ""
    scheduler: str = ""
    affinity: dict[str, Any] = {}
    topology_spread: tuple[dict[str, Any], ...] = ()
    resource_claims: tuple[Claim, ...] = ()


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a launch that only checks a dataset has in a cluster, in place of what the trainer has for GPUs."""

    #: by default small ones, with the trainer's scratch space, since the dataset is unpacked there
    resources: Resources | None = None
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, str | int], ...] = ()


class Trainer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a framework's trainer is started: by an image in a cluster, by a command on a laptop."""

    command: dict[str, list[str]] = {}
    image: str = ""
    resources: Resources = Resources()
    #: Kubernetes' node selector, and tolerations in addition to the GPU's
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, str | int], ...] = ()
    #: the resource that a job's ``gpus`` are; empty: the setting GPU_RESOURCE
    gpu_resource: str = ""
    pod: Pod = Pod()
    check: Check = Check()
    env: dict[str, str] = {}
    #: shell patterns of the model names that this trainer accepts
    models: tuple[str, ...] = ("*",)
    #: what it takes: the content of its trainer.json, or that file's path
    declaration: Declaration | str | None = None

    @property
    def declared(self) -> Declaration:
        """What the trainer takes, as far as it is known."""
        own = self.declaration if isinstance(self.declaration, Declaration) else Declaration()
        return msgspec.structs.replace(own, models=self._models(own))

    def _models(self, own: Declaration) -> tuple[str, ...]:
        """Return the declared models that the registry allows; without a declaration, the registry's patterns."""
        if self.models == ("*",):
            return own.models
        allowed = tuple(model for model in own.models if accepts(self.models, model))
        return allowed if allowed and own.models != ("*",) else self.models

    @property
    def can_check(self) -> bool:
        """Whether it declares the task check; on a laptop also whether it has a command for that."""
        return "check" in self.declared.tasks and (settings().launcher != "local" or bool(self.command.get("check")))

    def for_check(self) -> "Trainer":
        """Return the trainer as a check of a dataset needs it: small, and on any node."""
        own, check = self.resources, self.check
        small = Resources(
            cpu="1", memory="4Gi", shm="256Mi", scratch=own.scratch, ephemeral_storage=own.ephemeral_storage
        )
        pod = Pod(labels=self.pod.labels, annotations=self.pod.annotations, scheduler=self.pod.scheduler)
        nodes = {"node_selector": check.node_selector, "tolerations": check.tolerations}
        return msgspec.structs.replace(self, resources=check.resources or small, pod=pod, **nodes)

    def accepts(self, model: str) -> bool:
        """Return whether the trainer has a model of this name."""
        return accepts(self.models, model) and accepts(self.declared.models, model)


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
    #: whether a training's first launch only checks the dataset, unless the job itself says so
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
    #: the console's public client there, and the scopes that it asks for; without, the console offers no sign-in there
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


@cache
def trainers() -> dict[str, Trainer]:
    """Return the registered trainers by framework, from the JSON file that ``TRAINERS`` names.

    Relative paths in a command are resolved against that file's folder.

    Raises:
        ConfigurationError: the file is missing or cannot be used.
    """
    if not settings().trainers:
        raise ConfigurationError("TRAINERS: set it to the JSON file that registers the trainers by framework")
    path = Path(settings().trainers).absolute()
    try:
        registry = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it is not JSON: {error}"
        raise ConfigurationError(f"TRAINERS: the file {path} cannot be read: {reason}") from error
    if not registry or not isinstance(registry, dict):
        raise ConfigurationError(f"TRAINERS: the file {path} must hold a JSON object, one trainer for each framework")
    return {name: _resolved(_trainer(name, value, path), path.parent) for name, value in registry.items()}


def _trainer(framework: str, value: object, path: Path) -> Trainer:
    try:
        trainer = fields.convert(value, Trainer)
    except Unusable as error:
        raise ConfigurationError(f"TRAINERS: the trainer {framework} in {path}: {error}") from error
    for name in [*trainer.pod.labels, *trainer.pod.annotations]:
        if name.partition("/")[0].endswith(_OWN_PREFIXES):
            raise ConfigurationError(f"TRAINERS: the trainer {framework} in {path}: pod: Stoker itself sets {name}")
    for name, text in trainer.env.items():
        if not name or "=" in name or "\0" in name + text:
            raise ConfigurationError(
                f"TRAINERS: the trainer {framework} in {path}: {name!r} is no environment variable"
            )
    return trainer


def _resolved(trainer: Trainer, folder: Path) -> Trainer:
    # Not Path.resolve: a virtual environment's interpreter is a link, and its target is another environment.
    command = {
        task: [os.path.normpath(folder / word) if "/" in word else word for word in words]
        for task, words in trainer.command.items()
    }
    declaration = trainer.declaration
    if isinstance(declaration, str):
        declaration = _declaration(Path(os.path.normpath(folder / declaration)))
    return msgspec.structs.replace(trainer, command=command, declaration=declaration)


def _declaration(path: Path) -> Declaration:
    try:
        return fields.convert(json_values.decode(path.read_bytes()), Declaration)
    except (OSError, ValueError, Unusable) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"TRAINERS: the declaration {path} cannot be used: {reason}") from error


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


def check() -> None:
    """Check every setting, so that a process with a mistake in one never becomes ready.

    A mistake in TRAINERS stops only functions that read it: running trainers can still call back. It opens no
    connections: an unreachable service is not a mistake in the settings.

    Raises:
        ConfigurationError: the message names every variable to change, a line each.
    """
    mistakes: list[str] = []
    of_trainers = () if os.environ.get("FUNCTION_TARGET") in _WITHOUT_TRAINERS else (trainers, check_defaults)
    checks: tuple[Callable[[], object], ...] = (settings, jwt_secrets, *of_trainers, check_storage)
    for check_part in (*checks, check_database, _check_files, _check_issuers, _check_addresses, _check_origins):
        try:
            check_part()
        except ConfigurationError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ConfigurationError("\n".join(dict.fromkeys(mistakes)))


def check_defaults() -> None:
    """Check that the default framework is registered. Raises ConfigurationError."""
    framework = settings().default_framework
    if framework and framework not in trainers():
        raise ConfigurationError(f"DEFAULT_FRAMEWORK: {framework} is not in TRAINERS; use {', '.join(trainers())}")


def check_storage() -> None:
    """Check the settings of the storage. Raises ConfigurationError."""
    missing = [name for name, value in storage_access().items() if not value]
    if missing:
        raise ConfigurationError(f"no storage is set up: set {', '.join(missing)}")
    if not settings().storage_bucket:
        raise ConfigurationError("STORAGE_BUCKET: set it to the bucket's name")
    endpoint, address = next(iter(storage_access().items()))
    _check_address(endpoint, address)


def allowed_origins() -> list[str]:
    """Return the origins in CORS_ORIGINS; none while the settings cannot be read."""
    try:
        return [origin.strip().rstrip("/") for origin in settings().cors_origins.split(",") if origin.strip()]
    except ConfigurationError:  # the responses say so
        return []


def _check_origins() -> None:
    """Check CORS_ORIGINS. Raises ConfigurationError."""
    for origin in allowed_origins():
        parts = urlsplit(origin)
        if origin != "*" and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.path or parts.query):
            raise ConfigurationError(
                f"CORS_ORIGINS: use origins such as https://console.example.com, not {origin[:100]!r}"
            )


def check_database() -> None:
    """Check DATABASE_URL. Raises ConfigurationError."""
    url = settings().database_url
    scheme, separator, rest = url.partition("://")
    is_postgresql = bool(separator and rest) and scheme.partition("+")[0] in _POSTGRESQL
    # The URL is not shown: it has a password.
    if not is_postgresql and not (url.startswith(_SQLITE) and len(url) > len(_SQLITE)):
        raise ConfigurationError(
            "DATABASE_URL: use sqlite:///<file> or postgresql://<user>:<password>@<host>/<database>"
        )


def _check_files() -> None:
    """Check that the files which settings name can be read. Raises ConfigurationError."""
    for name in ("k_sink_token_file", "oidc_ca_file", "oidc_token_file", "sign_in_ca_file"):
        path = getattr(settings(), name)
        if path:
            read_file(name.upper(), path)


class Issuer(NamedTuple):
    """An OIDC issuer whose tokens are accepted. ``setting``: what the names of its settings begin with."""

    setting: str
    address: str
    audience: str
    #: its subjects that may call, as comma-separated shell patterns
    subjects: str
    #: what they may do
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


def _check_issuers() -> None:
    """Check the settings of the OIDC issuers. Raises ConfigurationError."""
    for setting, _, audience, _, scope, *_ in issuers():
        if not audience:
            raise ConfigurationError(f"{setting}_AUDIENCE: set it to the audience that the issuer's tokens are for")
        if not scope.split() or set(scope.split()) - set(SCOPES):
            raise ConfigurationError(f"{setting}_SCOPE: use some of {' '.join(SCOPES)}, separated by spaces")
        if find_spec("cryptography") is None:
            raise ConfigurationError(
                f"{setting}_ISSUER: its tokens need the package cryptography (the dependency group `oidc`)"
            )
    own = settings()
    if own.sign_in_issuer and own.sign_in_issuer == own.oidc_issuer:
        raise ConfigurationError("SIGN_IN_ISSUER: it is OIDC_ISSUER too; use one of the two settings")
    if own.sign_in_client_id and not own.sign_in_issuer:
        raise ConfigurationError("SIGN_IN_CLIENT_ID: set SIGN_IN_ISSUER too, the issuer that knows this client")
    if "openid" not in own.sign_in_client_scope.split():
        raise ConfigurationError("SIGN_IN_CLIENT_SCOPE: include openid")


def _check_addresses() -> None:
    """Check all settings that are URLs. Raises ConfigurationError."""
    for name in ("backend_base_url", "storage_public_endpoint", "k_sink", "oidc_issuer", "sign_in_issuer"):
        address = getattr(settings(), name)
        if address:
            _check_address(name.upper(), address)


def _check_address(name: str, address: str) -> None:
    try:
        parts = urlsplit(address)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigurationError(f"{name}: use an address such as https://host:port, not {address[:100]!r}")


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


def main() -> None:
    """Check the settings in the environment: ``python -m functions.runtime.settings``."""
    try:
        check()
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 -- the command's output
        sys.exit(os.EX_CONFIG)


if __name__ == "__main__":
    main()
