"""The parts of the local stack: three processes, their commands, and their environment."""

import os
import secrets
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from client.home import home, read_environment
from infra.local import ports, registry
from infra.local.minting import every_scope, mint, user

BUCKET = "stoker"
#: the ports, by the prefix of their variable in local.env; clients connect to FUNCTIONS and S3
PORTS = ("FUNCTIONS", "S3", "MASTER", "VOLUME", "FILER", "ADMIN")
#: settings of the functions that ``./taskw up`` takes over from the caller's environment and remembers; an empty value
#: forgets one
PASSED = (
    "DEFAULT_FRAMEWORK",
    "DEFAULT_MODEL",
    "CHECK_FIRST",
    "LOCAL_JOB_LIMIT",
    "STOP_GRACE_SECONDS",
    "UPLOAD_GRACE_SECONDS",
    "MLFLOW_TRACKING_URI",
    "K_SINK",
    "DATASET_CACHE_DIR",
    "DATASET_CACHE_BYTES",
    "SIGN_IN_ISSUER",
    "SIGN_IN_AUDIENCE",
    "SIGN_IN_SUBJECTS",
    "SIGN_IN_SCOPE",
    "SIGN_IN_CLIENT_ID",
    "SIGN_IN_CLIENT_SCOPE",
)
#: the variable that remembers the user's own registry of trainers
OWN_TRAINERS = "STOKER_OWN_TRAINERS"
#: settings that the stack chooses itself, once and for all
OWN_SETTINGS = (
    "JWT_SECRETS",
    "STORAGE_TYPE",
    "STORAGE_BUCKET",
    "MINIO_ENDPOINT",
    "MINIO_ACCESS_KEY",
    "MINIO_SECRET_KEY",
)
_WEBHOOK_TOKEN_SECONDS = _CLIENT_TOKEN_SECONDS = 365 * 24 * 3600


class Part(NamedTuple):
    """One process of the stack."""

    name: str
    command: list[str]
    #: its address, if it has one
    address: str | None = None


def environment() -> dict[str, str]:
    """Return the functions' environment, with the ports and credentials of the last start or new ones."""
    known = read_environment()
    chosen = {f"{name}_PORT": known.get(f"{name}_PORT", "") for name in PORTS}
    for name, port in chosen.items():
        chosen[name] = port or str(ports.free({int(other) for other in chosen.values() if other}))
    address = f"http://127.0.0.1:{chosen['FUNCTIONS_PORT']}"
    jwt_secrets = known.get("JWT_SECRETS") or f"local:{secrets.token_urlsafe(48)}"
    return chosen | {
        "STOKER_URL": address,
        "STOKER_TOKEN": mint(jwt_secrets, user(), every_scope(), _CLIENT_TOKEN_SECONDS),
        "BACKEND_BASE_URL": address,
        "JWT_SECRETS": jwt_secrets,
        "DATABASE_URL": f"sqlite:///{home()}/stoker.db",
        "STORAGE_TYPE": "minio",
        "STORAGE_BUCKET": BUCKET,
        "MINIO_ENDPOINT": f"http://127.0.0.1:{chosen['S3_PORT']}",
        "MINIO_ACCESS_KEY": known.get("MINIO_ACCESS_KEY") or secrets.token_hex(10),
        "MINIO_SECRET_KEY": known.get("MINIO_SECRET_KEY") or secrets.token_urlsafe(30),
        "LAUNCHER": "local",
        "LOCAL_RUNS_DIR": str(home() / "runs"),
        "UPLOAD_GRACE_SECONDS": "10",
        "LOG_FORMAT": "text",
        **_passed(known),
        **_trainers(known),
    }


def _passed(known: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that the caller's environment or an earlier start has set."""
    values = {name: os.environ.get(name, known.get(name, "")) for name in PASSED}
    return {name: value for name, value in values.items() if value}


def _trainers(known: Mapping[str, str]) -> dict[str, str]:
    """Return the registry of trainers, and the user's own one that is a part of it."""
    own = os.environ.get("TRAINERS", known.get(OWN_TRAINERS, ""))
    if own == known.get("TRAINERS"):  # of a shell that has sourced local.env
        own = known.get(OWN_TRAINERS, "")
    folder = Path(os.environ.get("TASKW_FOLDER", "."))  # Task itself runs in the checkout
    own = str((folder / own).absolute()) if own else ""
    return {"TRAINERS": registry.write(own), **({OWN_TRAINERS: own} if own else {})}


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the settings of the functions that differ between two starts."""
    names = [*PASSED, "TRAINERS", OWN_TRAINERS]
    return ["TRAINERS" if name == OWN_TRAINERS else name for name in names if before.get(name) != now.get(name)]


def ignored(variables: Mapping[str, str]) -> list[str]:
    """Return the variables of the caller's environment that the local stack sets itself, to another value."""
    own = [*OWN_SETTINGS, "DATABASE_URL", "LAUNCHER", "LOCAL_RUNS_DIR"]
    return [name for name in own if os.environ.get(name) and os.environ[name] != variables.get(name)]


def process_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the complete environment of a part, without settings of the caller's shell."""
    own = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "STOKER_HOME") if name in os.environ}
    weed = {
        "AWS_ACCESS_KEY_ID": variables["MINIO_ACCESS_KEY"],
        "AWS_SECRET_ACCESS_KEY": variables["MINIO_SECRET_KEY"],
        "S3_BUCKET": BUCKET,
    }
    served = {"FUNCTION_TARGET": "front", "HOST": "127.0.0.1", "PORT": variables["FUNCTIONS_PORT"], "THREADS": "8"}
    return own | weed | dict(variables) | served | {"PYTHONUNBUFFERED": "1"}


def storage(variables: Mapping[str, str]) -> Part:
    """Return the S3 server; it reads the settings of its notifications from its folder."""
    folder = home() / "s3"
    numbers = {name: variables[f"{name}_PORT"] for name in PORTS}
    flags = [
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.port={numbers['S3']}",
        f"-master.port={numbers['MASTER']}",
        f"-volume.port={numbers['VOLUME']}",
        f"-filer.port={numbers['FILER']}",
        f"-admin.port={numbers['ADMIN']}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
    ]
    # -logtostderr: otherwise it creates a log file in /tmp at each start.
    return Part("storage", [_program("weed"), "-logtostderr", "mini", *flags], variables["MINIO_ENDPOINT"])


def remove_sockets(ports_of_storage: Iterable[int]) -> None:
    """Remove the sockets that an S3 server with these ports has left in /tmp; it must have ended."""
    for port in ports_of_storage:
        for number in (port, port + ports.GRPC):
            for path in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):  # noqa: S108 -- SeaweedFS' own choice
                path.unlink(missing_ok=True)


def functions(variables: Mapping[str, str]) -> Part:
    """Return the server of all functions."""
    return Part("functions", [sys.executable, "-m", "functions.api.server"], variables["STOKER_URL"])


def timer() -> Part:
    """Return the timer that calls sweep, as a PingSource does in a cluster."""
    return Part("timer", [sys.executable, "-m", "infra.local.timer"])


def write_notification(variables: Mapping[str, str]) -> None:
    """Configure the S3 server to notify create-job of uploads, with a token for that scope only."""
    path = home() / "s3" / "notification.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(notification(f"{variables['STOKER_URL']}/v1/jobs", variables["JWT_SECRETS"]))


def notification(endpoint: str, jwt_secrets: str) -> str:
    """Return the settings that make SeaweedFS notify an endpoint of uploads, with a token for that scope only."""
    token = mint(jwt_secrets, "storage", "datasets:notify", _WEBHOOK_TOKEN_SECONDS)
    return f"""[notification.webhook]
enabled = true
endpoint = "{endpoint}"
bearer_token = "{token}"
timeout_seconds = 10
max_retries = 10
event_types = ["create", "update", "rename"]
path_prefixes = ["/buckets/{BUCKET}/datasets/"]
"""


def _program(name: str) -> str:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name) or name
