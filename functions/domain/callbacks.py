"""Common to all callbacks: the job, the attempt, and the ids that identify a repeated call."""

from typing import Any, NamedTuple


class Delivery(NamedTuple):
    """The CloudEvents ``source`` and ``id`` of a call: two calls of a job with the same pair count once."""

    source: str
    id: str


class Callback(NamedTuple):
    """Which job and attempt a callback is for (no attempt: the current one)."""

    job_id: str
    delivery: Delivery
    attempt: int | None
    #: the launch that its token was issued for, if the token names one
    launch: int | None = None


class TrainerEvent(NamedTuple):
    """An event that a trainer reports."""

    type: str
    message: str | None
    data: dict[str, Any] | None
