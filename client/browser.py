"""Open an address in the user's browser, where there is one."""

import os
import sys

import typer


def has_screen() -> bool:
    """Return whether a browser can open a window; elsewhere, one might start in the terminal."""
    is_named = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    return sys.platform in {"darwin", "win32"} or is_named


def show(address: str) -> bool:
    """Open an address, and return whether there is a screen for it."""
    if has_screen():
        typer.launch(address)
        return True
    return False
