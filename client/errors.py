"""The errors that a command ends with: each has a message of one line for people, and JSON for scripts.

Exit codes: 0 done, 1 refused or the job did not succeed, 2 wrong usage, 65 the dataset cannot be used, 69 the server
does not respond, 77 not permitted, 130 interrupted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Json = dict[str, Any]
FAILED, USAGE, DATASET, UNAVAILABLE, NOT_PERMITTED, INTERRUPTED = 1, 2, 65, 69, 77, 130


class CallError(Exception):
    """A command failed; the message is one line for people, ``problem`` is the JSON for scripts."""

    def __init__(self, line: str, problem: Json | None = None, *, exit_code: int = FAILED) -> None:
        super().__init__(line)
        self.problem = {"title": "error", "detail": line, **(problem or {})}
        self.exit_code = exit_code


class UnavailableError(CallError):
    """No response, or one with a temporary error: the same call may succeed later."""

    def __init__(self, line: str, problem: Json | None = None, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(line, problem, exit_code=UNAVAILABLE)
        self.retry_after_seconds = retry_after_seconds


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Give an error of writing, such as a full disk, the name of the file, which the system leaves out."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def invalid(line: str) -> CallError:
    """Return the error for an option or a value that cannot be used."""
    return CallError(line, {"title": "invalid value"}, exit_code=USAGE)
