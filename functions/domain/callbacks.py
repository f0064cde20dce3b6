"""What every callback has, whatever it reports: whose it is, and what makes it the same call when it comes again."""

from typing import Any, NamedTuple


class Delivery(NamedTuple):
    """What makes two calls of one job the same call: CloudEvents ``source`` and ``id``."""

    source: str
    id: str


class Callback(NamedTuple):
    """Whose callback it is, and which attempt's (None: the current one's)."""

    job_id: str
    delivery: Delivery
    attempt: int | None
    #: which launch its token was made for (None: the token does not say)
    launch: int | None = None


class TrainerEvent(NamedTuple):
    """What an event says."""

    type: str
    message: str | None
    data: dict[str, Any] | None
