"""Follow one job to its end: what is new, as it comes; outages of the functions are waited out."""

import time
from collections.abc import Iterator
from typing import NamedTuple

from client.api import Api, AwayError, Json, call
from client.show import FINAL

POLL_SECONDS = 0.5
_AWAY_POLL_SECONDS = 2.0
_PAGE = 500


class News(NamedTuple):
    """One look at a job."""

    job: Json
    #: since the look before
    events: list[Json]
    #: why the functions could not be asked this time; ``job`` is then what was known
    away: str | None = None


def follow(api: Api, job_id: str, *, poll_seconds: float = POLL_SECONDS) -> Iterator[News]:
    """Yield what is new, the first time at once, until the job has ended.

    Raises:
        CallError: there is no such job, or the token is refused.
    """
    after = 0
    job = call(api, "GET", f"/v1/jobs/{job_id}")
    while True:
        try:
            # The job first: once it has ended, the events read after it are all there are.
            job = call(api, "GET", f"/v1/jobs/{job_id}")
            events = list(events_of(api, job_id, after=after))
        except AwayError as error:
            yield News(job, [], str(error))
            time.sleep(_AWAY_POLL_SECONDS)
            continue
        after = events[-1]["id"] if events else after
        yield News(job, events)
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
