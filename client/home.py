"""The local stack's folder, and the file of environment variables that its start writes there."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
_FOLDER, _FILE = ".stoker", "local.env"


def home() -> Path:
    """Return the folder that the local stack writes to: ``STOKER_HOME``, else ``.stoker`` of this checkout."""
    return Path(os.environ.get("STOKER_HOME") or ROOT / _FOLDER).absolute()


def find(last: str | None = None) -> Path | None:
    """Return the folder of the local stack to talk to; None if there is none.

    It is ``STOKER_HOME``, else the nearest ``.stoker`` above the current folder, else this checkout's own, else the
    stack that was started last.
    """
    if os.environ.get("STOKER_HOME"):
        return home() if (home() / _FILE).is_file() else None
    here = Path.cwd()
    candidates = [folder / _FOLDER for folder in (here, *here.parents)] + [ROOT / _FOLDER]
    candidates += [Path(last)] if last else []
    return next((folder for folder in candidates if (folder / _FILE).is_file()), None)


def read_environment(folder: Path | None = None) -> dict[str, str]:
    """Return the variables that the start of the stack has written; an empty dict if it was never started."""
    try:
        lines = ((folder or home()) / _FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    pairs = (shlex.split(line, comments=True) for line in lines)
    return dict(pair[0].split("=", 1) for pair in pairs if pair)


def write_environment(variables: Mapping[str, str]) -> None:
    """Replace the file atomically; only its owner may read it. A shell can source it."""
    home().mkdir(parents=True, exist_ok=True)
    part = (home() / _FILE).with_suffix(".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write("# Written by `./taskw up`: the local stack's ports and credentials.\n")
        file.writelines(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
    part.replace(home() / _FILE)
