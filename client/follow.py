"""Follow a job until it ends: yield its changes, and wait while the functions are unavailable."""

import time
from collections.abc import Iterator
from typing import NamedTuple

from client.api import Api, Json, UnavailableError, call
from client.show import FINAL

POLL_SECONDS = 0.5
_OUTAGE_POLL_SECONDS = 2.0
_PAGE = 500


class Update(NamedTuple):
    """The result of one poll of a job."""

    job: Json
    #: new since the previous poll
    events: list[Json]
    #: why this poll failed; ``job`` is then the job of the previous one
    outage: str | None = None


def follow(api: Api, job_id: str, *, poll_seconds: float = POLL_SECONDS) -> Iterator[Update]:
    """Yield an update at once and after each poll, until the job has ended.

    Raises:
        CallError: there is no such job, or the token is refused.
    """
    after = 0
    job = call(api, "GET", f"/v1/jobs/{job_id}")
    while True:
        try:
            # Read the job before its events: once it has ended, these events are complete.
            job = call(api, "GET", f"/v1/jobs/{job_id}")
            events = list(events_of(api, job_id, after=after))
        except UnavailableError as error:
            yield Update(job, [], str(error))
            time.sleep(_OUTAGE_POLL_SECONDS)
            continue
        after = events[-1]["id"] if events else after
        yield Update(job, events)
        if job["state"] in FINAL:
            return
        time.sleep(poll_seconds)


def events_of(api: Api, job_id: str, *, after: int = 0, kind: str | None = None) -> Iterator[Json]:
    """Yield a job's events, oldest first, page by page.

    Raises:
        CallError: as ``call``.
    """
    position: int | None = after
    while position is not None:
        query = {"after": position, "kind": kind, "limit": _PAGE}
        page = call(api, "GET", f"/v1/jobs/{job_id}/events", query=query)
        yield from page["events"]
        position = page["next_after"]
