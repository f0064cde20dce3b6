"""The local stack's clock: calls sweep every two seconds, whatever it answers, until it is stopped."""

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
    """Call for ever; a line is written only when the outcome changes."""
    before = ""
    while True:
        outcome = sweep(os.environ["BACKEND_BASE_URL"])
        if outcome != before:
            print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} sweep: {outcome}", flush=True)
        before = outcome
        time.sleep(PERIOD_SECONDS)


def sweep(address: str) -> str:
    """Ask for one sweep, and return how it went; it never raises for what the functions do."""
    token = mint_api("timer", "jobs:write", _TOKEN_SECONDS, now=datetime.now(UTC))
    request = urllib.request.Request(  # noqa: S310 -- the stack's own address
        f"{address}/v1/sweep", b"", {"Authorization": f"Bearer {token}"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 -- as above
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return f"{error.code}: {error.read(500).decode(errors='replace')}"
    except (OSError, http.client.HTTPException) as error:  # away: it may be starting
        return f"no answer: {error}"


if __name__ == "__main__":
    main()
