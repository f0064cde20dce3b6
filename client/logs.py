"""Read a job's log, also while its trainer still writes it."""

import codecs
import re
import time
from collections.abc import Iterator

from client.api import Api, call, request
from client.errors import CallError, UnavailableError
from client.show import FINAL

POLL_SECONDS = 1.0
_LAST_POLLS = 5
_PREFIX = re.compile(
    r"^(?P<date>\d{4}-\d\d-\d\d)[T ](?P<time>\d\d:\d\d:\d\d)\S*(?: \w+)? \[TRACE:\w+\] job(?:_id)?=\w+ ?"
)


def lines(api: Api, job_id: str, *, attempt: int | None, is_followed: bool) -> Iterator[str]:
    """Yield the lines of a log; when followed, also what is appended until the job has ended.

    Raises:
        CallError: there is no such job, or no log.
    """
    buffer = ""
    for text in _texts(api, job_id, attempt=attempt, is_followed=is_followed):
        *complete, buffer = (buffer + text).replace("\r\n", "\n").split("\n")
        yield from map(_visible, complete)
    if buffer:
        yield _visible(buffer)


def short(line: str) -> str:
    """Return a line without date, trace and job, which are the same in all of them."""
    match = _PREFIX.match(line)
    return f"{match['time']} {line[match.end() :]}" if match else line


def _visible(line: str) -> str:
    r"""Return the last state of a progress bar: the text after the last ``\r``."""
    return line.rstrip("\r").rpartition("\r")[2]


def _texts(api: Api, job_id: str, *, attempt: int | None, is_followed: bool) -> Iterator[str]:
    """Yield a log part by part; of a job that is retried, the log of each further attempt from its start."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character may be divided between two responses
    offset, latest, quiet_polls, is_empty = 0, None, 0, True
    while True:
        try:
            is_over = not is_followed or call(api, "GET", f"/v1/jobs/{job_id}")["state"] in FINAL
            query = {"offset": offset, "attempt": attempt}
            response = request(api, "GET", f"/v1/jobs/{job_id}/log", query=query, feature="log by HTTP")
        except UnavailableError:
            if not is_followed:
                raise
            time.sleep(POLL_SECONDS)
            continue
        number = response.headers["Log-Attempt"]
        if latest not in {None, number} and offset:
            offset, latest = 0, number
            continue
        latest, offset = number, int(response.headers["Log-Next-Offset"])
        yield decoder.decode(response.content)
        quiet_polls = 0 if response.content else quiet_polls + 1
        is_empty = is_empty and not response.content
        is_complete = response.headers["Log-Complete"] == "true"
        # A trainer stores the end of its log shortly after the job's end.
        if is_over and (is_complete or quiet_polls >= (_LAST_POLLS if is_followed else 1)):
            break
        if not response.content:
            time.sleep(POLL_SECONDS)
    if is_empty:
        of_attempt = "" if attempt is None else f" of attempt {attempt}"
        raise CallError(f"job {job_id} has no log{of_attempt} yet", {"title": "no log"})
