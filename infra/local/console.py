"""Start the local stack, and open its web console signed in (``python -m infra.local.console``)."""

import os
import sys
import webbrowser

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
    if _has_screen():
        webbrowser.open(address)
    return 0


def _has_screen() -> bool:
    """Return whether a browser can open a window; elsewhere, webbrowser starts one in the terminal."""
    return sys.platform in {"darwin", "win32"} or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


if __name__ == "__main__":
    sys.exit(main())
