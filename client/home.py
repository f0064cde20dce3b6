"""The local stack's folder, and the file of environment variables that its start writes there."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]


def home() -> Path:
    """Return the folder that the local stack writes to: ``STOKER_HOME``, else ``.stoker``."""
    return Path(os.environ.get("STOKER_HOME") or ROOT / ".stoker").absolute()


def environment_file() -> Path:
    """Return the file with the local stack's ports and credentials; a shell can source it."""
    return home() / "local.env"


def read_environment() -> dict[str, str]:
    """Return the variables of the file; an empty dict when the stack was never started."""
    try:
        lines = environment_file().read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    pairs = (shlex.split(line, comments=True) for line in lines)
    return dict(pair[0].split("=", 1) for pair in pairs if pair)


def write_environment(variables: Mapping[str, str]) -> None:
    """Replace the file atomically; only its owner may read it."""
    home().mkdir(parents=True, exist_ok=True)
    part = environment_file().with_suffix(".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write("# Written by `./taskw up`: the local stack's ports and credentials.\n")
        file.writelines(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
    part.replace(environment_file())
