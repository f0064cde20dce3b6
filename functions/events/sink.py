"""The Broker, or whatever else ``K_SINK`` names: where our events go."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from functions.api import tokens
from functions.domain.errors import Busy, ConfigurationError
from functions.runtime.settings import settings

if TYPE_CHECKING:
    from urllib3 import PoolManager

_TIMEOUT_SECONDS = 5.0
#: connections that are kept
CONNECTIONS = 8


def post(headers: Mapping[str, str], body: bytes) -> int:
    """Send one event, and return the sink's status.

    Raises:
        ConfigurationError: there is no sink, or its token cannot be read.
        Busy: the sink is away.
    """
    import urllib3  # noqa: PLC0415 -- only where there is a sink

    if not settings().k_sink:
        raise ConfigurationError(
            "K_SINK: set it to the address of the Broker; without one, storages notify POST /v1/jobs"
        )
    sent = {**headers, **tokens.bearer_headers("K_SINK_TOKEN_FILE", settings().k_sink_token_file)}
    try:
        answer = _pool().request("POST", settings().k_sink, body=body, headers=sent)
    except urllib3.exceptions.LocationValueError as error:
        raise ConfigurationError(f"K_SINK: {error}") from error
    except urllib3.exceptions.HTTPError as error:
        raise Busy(f"the sink is away: {type(error).__name__}") from error
    return answer.status


@cache
def _pool() -> "PoolManager":
    import urllib3  # noqa: PLC0415 -- as above

    return urllib3.PoolManager(maxsize=CONNECTIONS, timeout=_TIMEOUT_SECONDS, retries=False)
