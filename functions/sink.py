"""The Broker, or whatever else ``K_SINK`` names: where our events go."""

from collections.abc import Mapping

from functions import tokens
from functions.errors import Busy
from functions.settings import settings

_TIMEOUT_SECONDS = 5.0


def post(headers: Mapping[str, str], body: bytes) -> int:
    """Send one event, and return the sink's status.

    Raises:
        Busy: the sink is away.
    """
    import urllib3  # noqa: PLC0415 -- only where there is a sink

    now = settings()
    given = {**headers, **tokens.headers_of(now.k_sink_token_file)}
    try:
        answer = urllib3.request("POST", now.k_sink, body=body, headers=given, timeout=_TIMEOUT_SECONDS, retries=False)
    except urllib3.exceptions.HTTPError as error:
        raise Busy(f"the sink is away: {type(error).__name__}") from error
    return answer.status
