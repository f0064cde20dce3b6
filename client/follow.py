"""Follow a job until it ends: yield its changes, and wait while the functions are unavailable."""

import time
from collections.abc import Iterator
from typing import NamedTuple

from client.api import Api, Json, UnavailableError, call, request
from client.show import FINAL

POLL_SECONDS = 1.0
_OUTAGE_SECONDS, _LONGEST_OUTAGE_SECONDS = 1.0, 15.0
_PAGE = 500
_NOT_MODIFIED = 304


class Update(NamedTuple):
    """The result of one poll of a job."""

    job: Json
    #: new since the previous poll
    events: list[Json]
    #: why this poll failed; ``job`` is then that of the previous poll
    outage: str | None = None


def follow(api: Api, job_id: str, *, poll_seconds: float = POLL_SECONDS) -> Iterator[Update]:
    """Yield an update at once and after each poll, until the job has ended.

    A poll of an unchanged job costs one small request, if the server sends ETags. An outage is waited for, with pauses
    that become longer.

    Raises:
        CallError: the job does not exist, or the token is refused.
    """
    after, etag, pause = 0, "", _OUTAGE_SECONDS
    job = call(api, "GET", f"/v1/jobs/{job_id}")
    while True:
        try:
            # Read the job before its events: once it has ended, these events are complete.
            response = request(api, "GET", f"/v1/jobs/{job_id}", headers={"If-None-Match": etag} if etag else {})
            if response.status_code == _NOT_MODIFIED:
                yield Update(job, [])
            else:
                job = response.json()
                events = list(events_of(api, job_id, after=after))
                etag = response.headers.get("ETag", "")
                after = events[-1]["id"] if events else after
                yield Update(job, events)
        except UnavailableError as error:
            yield Update(job, [], str(error))
            time.sleep(error.retry_after_seconds or pause)
            pause = min(pause * 2, _LONGEST_OUTAGE_SECONDS)
            continue
        pause = _OUTAGE_SECONDS
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
