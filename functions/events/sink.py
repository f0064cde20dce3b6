"""Sends CloudEvents to the Broker, or to another receiver that ``K_SINK`` names."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from functions.api import tokens
from functions.domain.errors import Busy, ConfigurationError
from functions.runtime.settings import settings

if TYPE_CHECKING:
    from urllib3 import PoolManager

_TIMEOUT_SECONDS = 5.0
#: size of the connection pool
CONNECTIONS = 8


def post(headers: Mapping[str, str], body: bytes) -> int:
    """Send one event, and return the status of the sink's response.

    Raises:
        ConfigurationError: K_SINK is not set or invalid, or its token cannot be read.
        Busy: the sink is unreachable.
    """
    import urllib3  # noqa: PLC0415 -- only needed if there is a sink

    if not settings().k_sink:
        raise ConfigurationError(
            "K_SINK: set it to the address of the Broker; without one, storages notify POST /v1/jobs"
        )
    sent = {**headers, **tokens.bearer_headers("K_SINK_TOKEN_FILE", settings().k_sink_token_file)}
    try:
        response = _pool().request("POST", settings().k_sink, body=body, headers=sent)
    except urllib3.exceptions.LocationValueError as error:
        raise ConfigurationError(f"K_SINK: {error}") from error
    except urllib3.exceptions.HTTPError as error:
        raise Busy(f"the sink is unreachable: {type(error).__name__}") from error
    return response.status


@cache
def _pool() -> "PoolManager":
    import urllib3  # noqa: PLC0415 -- as above

    return urllib3.PoolManager(maxsize=CONNECTIONS, timeout=_TIMEOUT_SECONDS, retries=False)
