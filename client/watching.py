"""Watch a job until it ends, and print how to resume watching if the user stops earlier."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from client import show
from client.api import Api, Json
from client.errors import FAILED, INTERRUPTED
from client.output import print_json

if TYPE_CHECKING:
    from client.follow import Update


def watch_job(api: Api, job_id: str, *, as_json: bool, is_quiet: bool = False) -> Json:
    """Show a job until it ends, and return it. Exit with 1 unless it succeeds.

    ``is_quiet``: show nothing of a job that succeeds; the caller prints its result.
    """
    from client.follow import follow  # noqa: PLC0415 -- only watching needs them
    from client.watch import watcher  # noqa: PLC0415 -- as above

    with detached_by_interrupt(job_id, f"stoker watch {job_id}"):
        job = (_last if is_quiet else watcher(as_json=as_json))(follow(api, job_id))
    if is_quiet and job["state"] != "SUCCEEDED":
        print_json(job)
    if not as_json:
        metrics = "" if sys.stdout.isatty() else show.metrics(job["metrics"])  # a terminal shows them already
        print("\n".join(line for line in (show.end(job), metrics) if line))
    if job["state"] != "SUCCEEDED":
        raise typer.Exit(FAILED)
    return job


def _last(updates: "Iterable[Update]") -> Json:
    """Return a job's last state."""
    job: Json = {}
    for update in updates:
        job = update.job
    return job


@contextmanager
def detached_by_interrupt(job_id: str, command: str) -> Iterator[None]:
    """Turn Ctrl-C into a message that tells how to resume watching; the job continues."""
    try:
        yield
    except KeyboardInterrupt as error:
        print(f"\ndetached; job {job_id} continues. To come back: {command}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from error
