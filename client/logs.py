"""Read a job's log, also while its trainer still writes it."""

import codecs
import re
import time
from collections.abc import Iterator

from client.api import Api, call, request
from client.errors import CallError, UnavailableError
from client.show import FINAL

POLL_SECONDS = 1.0
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
    r"""Return what a terminal would show of a progress bar: the text after the last ``\r``."""
    return line.rstrip("\r").rpartition("\r")[2]


def _texts(api: Api, job_id: str, *, attempt: int | None, is_followed: bool) -> Iterator[str]:
    offset, known_attempt, has_log = 0, attempt, False
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character may be divided between two responses
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
        except CallError as error:
            if error.problem.get("status") != 404 or not is_followed or is_over:  # noqa: PLR2004 -- no log yet
                raise
            time.sleep(POLL_SECONDS)
            continue
        number = response.headers.get("Log-Attempt")
        if known_attempt is not None and number and int(number) != known_attempt and offset:
            offset, known_attempt = 0, int(number)  # another attempt began: its log from the start
            continue
        known_attempt = int(number) if number else known_attempt
        has_log = has_log or bool(response.content)
        following = int(response.headers.get("Log-Next-Offset", offset + len(response.content)))
        yield decoder.decode(response.content)
        is_complete = following == offset or not response.content
        offset = following
        if is_over and is_complete:
            break
        if is_complete:
            time.sleep(POLL_SECONDS)
    if not has_log:
        raise CallError(f"job {job_id} has no log{'' if attempt is None else f' of attempt {attempt}'} yet")
