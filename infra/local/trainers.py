"""The trainers that the local stack has started, seen as its local launcher sees them."""

import os
import time

from client.home import read_environment

_LOOK_SECONDS = 0.05
_SPARE_SECONDS = 10.0
_DEFAULT_GRACE_SECONDS = "30"


def alive() -> set[str]:
    """Return the jobs that have a trainer alive."""
    if not read_environment():  # the stack was never started
        return set()
    os.environ.update(read_environment())
    from functions.launch_local import Local  # noqa: PLC0415 -- it reads the environment

    return Local().list()


def stop_all() -> set[str]:
    """Stop all of them, as a cancel does, and wait; return whose they were."""
    stopped = alive()
    if stopped:
        from functions.launch_local import Local  # noqa: PLC0415 -- as above

        for job_id in stopped:
            Local().stop(job_id)
        wait_for_end(stopped)
    return stopped


def wait_for_end(job_ids: set[str]) -> bool:
    """Wait until these have no trainer any more, but no longer than the launcher's grace; say whether it is so."""
    grace_seconds = float(read_environment().get("STOP_GRACE_SECONDS", _DEFAULT_GRACE_SECONDS))
    end = time.monotonic() + grace_seconds + _SPARE_SECONDS
    while alive() & job_ids and time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
    return not alive() & job_ids
