"""Points in time in short notations: ``2d``, ``12h``, ``30min``, ``2026-11-26``, ``2026-11-26T18:00``."""

import re
from datetime import UTC, datetime, timedelta

from client.errors import invalid

_UNITS = {"s": "seconds", "min": "minutes", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str, option: str, now: datetime | None = None) -> str:
    """Return a time in RFC 3339, in UTC; ``2d`` is two days ago, and a date begins at local midnight.

    Raises:
        CallError: the text is in none of these notations.
    """
    span = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.strip().lower())
    try:
        if span and span[2] in _UNITS:
            at = (now or datetime.now(UTC)) - timedelta(**{_UNITS[span[2]]: float(span[1])})
        else:
            at = datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise invalid(f"{option} {text}: write 2d, 12h, 30min, or a date such as 2026-11-26") from error
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
