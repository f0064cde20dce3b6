"""What a trainer's process owes the machine it runs on: an end on SIGTERM, a place for files, its secrets to itself."""

import os
import signal
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from contract.settings import ConfigInvalidError, Identity, token_of

EXIT_ON_SIGNAL = 143
#: variables of Identity that a report about them can do without
UNREPORTED = ("TRACE_ID", "HEARTBEAT_SECONDS", "DONE_RETRY_SECONDS", "GRACE_SECONDS", "SCRATCH_DIR")


class Stopped(BaseException):
    """The job is not to go on here: SIGTERM, or the functions say so (409, 404).

    No ``Exception``, so that no framework's ``except Exception`` catches it.
    """


class Stoppable(Protocol):
    """What SIGTERM ends."""

    identity: Identity
    is_terminated: bool


def stop_on_signal(contract: Stoppable) -> None:
    """Raise Stopped in the main thread on SIGTERM, wherever it is: within an epoch, a download or a validation."""
    process = os.getpid()

    def stop(number: int, _frame: object) -> None:
        if os.getpid() != process or contract.is_terminated:  # a fork's parent will see to it
            return
        contract.is_terminated = True
        # Whatever may hang from here on: the launcher's SIGKILL would come next, without our exit code.
        timer = threading.Timer(contract.identity.grace_seconds, os._exit, [EXIT_ON_SIGNAL])
        timer.daemon = True
        timer.start()
        raise Stopped(signal.Signals(number).name)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def identify(environ: Mapping[str, str]) -> tuple[Identity, Path, ConfigInvalidError | None]:
    """Return whom to report to, the scratch folder, and what is wrong with a variable that a report can do without.

    Raises:
        ConfigInvalidError: a variable that every report needs.
    """
    env, wrong = dict(environ), None
    while True:
        try:
            identity = Identity.from_environ(env)
            return identity, scratch_of(identity), wrong
        except ConfigInvalidError as error:
            wrong = wrong or error
            name = next((name for name in UNREPORTED if name in env and str(error).startswith(name)), None)
            if name is None:
                raise wrong from None
            del env[name]


def scratch_of(identity: Identity) -> Path:
    """Make a folder for this process alone. Raises: ConfigInvalidError."""
    try:
        if identity.scratch_dir:
            Path(identity.scratch_dir).mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"job-{identity.job_id}-", dir=identity.scratch_dir or None))
    except OSError as error:
        raise ConfigInvalidError(f"SCRATCH_DIR={identity.scratch_dir!r} cannot be used: {error}") from error


def secrets_of(identity: Identity) -> list[str]:
    """Return what no line of the log may hold. Raises: ConfigInvalidError."""
    names = ("MINIO_SECRET_KEY", "R2_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
    return [token_of(identity), *(os.environ.get(name, "") for name in names)]
