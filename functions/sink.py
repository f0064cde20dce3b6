"""The Broker, or whatever else ``K_SINK`` names: where our events go."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from functions import tokens
from functions.errors import Busy
from functions.settings import settings

if TYPE_CHECKING:
    from urllib3 import PoolManager

_TIMEOUT_SECONDS = 5.0
#: connections that are kept
CONNECTIONS = 8


def post(headers: Mapping[str, str], body: bytes) -> int:
    """Send one event, and return the sink's status.

    Raises:
        Busy: the sink is away.
    """
    import urllib3  # noqa: PLC0415 -- only where there is a sink

    now = settings()
    given = {**headers, **tokens.headers_of(now.k_sink_token_file)}
    try:
        answer = _pool().request("POST", now.k_sink, body=body, headers=given)
    except urllib3.exceptions.HTTPError as error:
        raise Busy(f"the sink is away: {type(error).__name__}") from error
    return answer.status


@cache
def _pool() -> "PoolManager":
    import urllib3  # noqa: PLC0415 -- as above

    return urllib3.PoolManager(maxsize=CONNECTIONS, timeout=_TIMEOUT_SECONDS, retries=False)
