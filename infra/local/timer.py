"""The local stack's timer: call sweep every two seconds, whatever the response, until it is stopped."""

import http.client
import os
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime

from functions.api.tokens import mint_api

PERIOD_SECONDS = 2.0
_TIMEOUT_SECONDS = 60.0
_TOKEN_SECONDS = 300.0


def main() -> None:
    """Call sweep forever; print a line only when the outcome changes."""
    before = ""
    while True:
        outcome = sweep(os.environ["BACKEND_BASE_URL"])
        if outcome != before:
            print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} sweep: {outcome}", flush=True)
        before = outcome
        time.sleep(PERIOD_SECONDS)


def sweep(address: str) -> str:
    """Call sweep once, and return the outcome; errors are returned, not raised."""
    token = mint_api("timer", "jobs:write", _TOKEN_SECONDS, now=datetime.now(UTC))
    request = urllib.request.Request(  # noqa: S310 -- the stack's own address
        f"{address}/v1/sweep", b"", {"Authorization": f"Bearer {token}"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 -- as above
            return str(response.status)
    except urllib.error.HTTPError as error:
        return f"{error.code}: {error.read(500).decode(errors='replace')}"
    except (OSError, http.client.HTTPException) as error:  # it may still be starting
        return f"no response: {error}"


if __name__ == "__main__":
    main()
