"""Read a trainer's log from the storage, also while the trainer still writes it."""

import time
from collections.abc import Iterator

import httpx

from client.api import Api, CallError, Json, UnavailableError, call
from client.show import FINAL

POLL_SECONDS = 2.0
_TIMEOUT_SECONDS = 30.0


def artifacts(api: Api, job_id: str) -> list[Json]:
    """Return a job's artifacts, each with a link.

    Raises:
        CallError: there is no such job, or the functions are unavailable.
    """
    rows: list[Json] = call(api, "GET", f"/v1/jobs/{job_id}/artifacts")["artifacts"]
    return rows


def link(api: Api, job_id: str, attempt: int | None) -> str | None:
    """Return the link of an attempt's log, by default of the last attempt; None while there is no log.

    Raises:
        CallError: as ``artifacts``.
    """
    prefix = f"logs/job-{job_id}/"
    logs = {row["key"]: row["url"] for row in artifacts(api, job_id) if row["key"].startswith(prefix)}
    if attempt is not None:
        return logs.get(f"{prefix}attempt-{attempt}.log")
    # Compare lengths first: attempt-10 comes after attempt-9.
    return logs[max(logs, key=lambda key: (len(key), key))] if logs else None


def chunks(api: Api, job_id: str, *, attempt: int | None, is_followed: bool) -> Iterator[bytes]:
    """Yield the log; when followed, also what is appended until the job has ended.

    Raises:
        CallError: there is no such job, or no log.
    """
    position, key = 0, ""
    while True:
        is_over, new = False, b""
        try:
            is_over = not is_followed or call(api, "GET", f"/v1/jobs/{job_id}")["state"] in FINAL
            url = link(api, job_id, attempt)
            if url is not None:
                previous, key = key, url.partition("?")[0]
                position = position if key == previous else 0  # the log of another attempt
                new = _after(url, position)
        except UnavailableError:
            if not is_followed:
                raise
            is_over = False
        position += len(new)
        yield new
        if is_over:
            break
        time.sleep(POLL_SECONDS)
    if not key:
        line = f"job {job_id} has stored no log{'' if attempt is None else f' of attempt {attempt}'} (yet)"
        raise CallError(line, {"title": "no log", "detail": line})


def _after(url: str, position: int) -> bytes:
    """Return the log from a position on. Raises: UnavailableError."""
    headers = {"Range": f"bytes={position}-"} if position else {}
    try:
        response = httpx.get(url, headers=headers, timeout=_TIMEOUT_SECONDS)
    except httpx.TransportError as error:
        line = f"no response from the storage: {error or type(error).__name__}"
        raise UnavailableError(line, {"title": "no response", "detail": line}) from error
    if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:  # nothing new
        return b""
    if response.is_error:
        line = f"the storage refused the log's link [HTTP {response.status_code}]"
        raise UnavailableError(line, {"title": "refused", "status": response.status_code, "detail": line})
    # A server may ignore Range and send the whole log.
    return response.content if response.status_code == httpx.codes.PARTIAL_CONTENT else response.content[position:]
