"""The trainers that the local stack has started, by its local launcher."""

import os
import time
from typing import TYPE_CHECKING

from client.api import Api, CallError, Json, call
from client.home import read_environment
from infra.local import processes
from infra.local.minting import mint

if TYPE_CHECKING:
    from functions.launchers.local import Local

_POLL_SECONDS = 0.05
_SPARE_SECONDS = 10.0
_TOKEN_SECONDS = 60
_DEFAULT_GRACE_SECONDS = "30"


def alive() -> set[str]:
    """Return the jobs whose trainer is running."""
    return _launcher().running() if read_environment() else set()  # no environment: the stack was never started


def paused() -> set[str]:
    """Return the jobs whose trainers were stopped together with the stack."""
    return _launcher().paused()


def pause_all() -> set[str]:
    """Stop all trainers so that their jobs continue later, wait until they have ended, and return their jobs."""
    stopped = alive()
    for job_id in stopped:
        _launcher().pause(job_id)
    if stopped:
        wait_for_end(stopped)
    return stopped


def jobs(*states: str) -> list[Json] | None:
    """Return the local stack's jobs in these states, or None if its functions do not respond."""
    if processes.running("functions") is None:
        return None
    variables = read_environment()
    api = Api(variables["STOKER_URL"], mint(variables["JWT_SECRETS"], "stack", "jobs:read", _TOKEN_SECONDS))
    try:
        return [job for state in states for job in call(api, "GET", "/v1/jobs", query={"state": state})["jobs"]]
    except CallError:
        return None


def _launcher() -> "Local":
    os.environ.update(read_environment())
    from functions.launchers.local import Local  # noqa: PLC0415 -- it reads the environment

    return Local()


def wait_for_end(job_ids: set[str]) -> bool:
    """Wait until the trainers of these jobs have ended, for the launcher's grace at most; return whether they have."""
    grace_seconds = float(read_environment().get("STOP_GRACE_SECONDS", _DEFAULT_GRACE_SECONDS))
    end = time.monotonic() + grace_seconds + _SPARE_SECONDS
    while alive() & job_ids and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
    return not alive() & job_ids
