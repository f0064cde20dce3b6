"""A trainer's log, as it is stored while it runs: fetched by its link, and what is new since."""

import time
from collections.abc import Iterator

import httpx

from client.api import Api, AwayError, CallError, Json, call
from client.show import FINAL

POLL_SECONDS = 2.0
_TIMEOUT_SECONDS = 30.0


def artifacts(api: Api, job_id: str) -> list[Json]:
    """Return what a job has stored, each with a link.

    Raises:
        CallError: there is no such job, or the functions are away.
    """
    found: list[Json] = call(api, "GET", f"/v1/jobs/{job_id}/artifacts")["artifacts"]
    return found


def link(api: Api, job_id: str, attempt: int | None) -> str | None:
    """Return the link of an attempt's log, the last one's by default; None while nothing is stored.

    Raises:
        CallError: as ``artifacts``.
    """
    logs = {one["key"]: one["url"] for one in artifacts(api, job_id) if one["key"].startswith(f"logs/job-{job_id}/")}
    if attempt is not None:
        return logs.get(f"logs/job-{job_id}/attempt-{attempt}.log")
    # attempt-10 comes after attempt-9: by length first.
    return logs[max(logs, key=lambda key: (len(key), key))] if logs else None


def chunks(api: Api, job_id: str, *, attempt: int | None, is_followed: bool) -> Iterator[bytes]:
    """Yield the log; when followed, what is added as well, until the job has ended.

    Raises:
        CallError: there is no such job, or no log.
    """
    position, where = 0, ""
    while True:
        is_over, new = False, b""
        try:
            is_over = not is_followed or call(api, "GET", f"/v1/jobs/{job_id}")["state"] in FINAL
            found = link(api, job_id, attempt)
            if found is not None:
                key = found.partition("?")[0]
                position, where = (position, key) if key == where else (0, key)
                new = _after(found, position)
        except AwayError:
            if not is_followed:
                raise
            is_over = False
        position += len(new)
        yield new
        if is_over:
            break
        time.sleep(POLL_SECONDS)
    if not where:
        line = f"job {job_id} has stored no log{'' if attempt is None else f' of attempt {attempt}'} (yet)"
        raise CallError(line, {"title": "no log", "detail": line})


def _after(url: str, position: int) -> bytes:
    """Return what follows a position. Raises: AwayError."""
    headers = {"Range": f"bytes={position}-"} if position else {}
    try:
        answer = httpx.get(url, headers=headers, timeout=_TIMEOUT_SECONDS)
    except httpx.TransportError as error:
        line = f"the storage does not answer: {error or type(error).__name__}"
        raise AwayError(line, {"title": "no answer", "detail": line}) from error
    if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:  # nothing new
        return b""
    if answer.is_error:
        line = f"the storage refused the log's link [HTTP {answer.status_code}]"
        raise AwayError(line, {"title": "refused", "status": answer.status_code, "detail": line})
    # A server may leave Range out of account, and answer with all of it.
    return answer.content if answer.status_code == httpx.codes.PARTIAL_CONTENT else answer.content[position:]
