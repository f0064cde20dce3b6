"""Start the local stack, and open its web console signed in (``python -m infra.local.console``)."""

import sys

from client import browser
from client.home import read_environment
from infra.local import stack
from infra.local.stopping import Stopped, raise_on_signals


def main() -> int:
    """Print the console's address, open it where there is a browser, and return the exit code."""
    raise_on_signals()
    try:
        stack.ensure_up(print)
    except Stopped as stopped:
        return stopped.exit_code
    except stack.NotStartedError as error:
        print(error, file=sys.stderr)
        return 1
    variables = read_environment()
    # Browsers never send the fragment; the console moves the token out of it.
    address = f"{variables['STOKER_URL']}/#token={variables['STOKER_TOKEN']}"
    print(f"The console, signed in: {address}")
    browser.show(address)
    return 0


if __name__ == "__main__":
    sys.exit(main())
