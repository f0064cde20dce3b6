"""Create API tokens with the secret that the functions verify them with (``python -m infra.local.minting``)."""

import getpass
import json
import os
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from client.home import read_environment

_HOUR_SECONDS = 3600


def mint(jwt_secrets: str, subject: str, scope: str, seconds: float) -> str:
    """Return an API token, signed with the first of ``kid:secret,kid:secret``.

    Raises:
        ValueError: a scope is unknown, or the secret is weak.
    """
    os.environ["JWT_SECRETS"] = jwt_secrets
    from functions.api import tokens  # noqa: PLC0415 -- the stack imports it only where it starts functions

    return tokens.mint_api(subject, scope, seconds, now=datetime.now(UTC))


def every_scope() -> str:
    """Return all scopes that a token may have."""
    from functions.runtime.settings import SCOPES  # noqa: PLC0415 -- as above

    return " ".join(SCOPES)


def user() -> str:
    """Return the name of this machine's user, who owns the jobs that are submitted with the local stack's token."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "local"


def main(
    *,
    scope: str = "jobs:read jobs:write",
    subject: str = "developer",
    hours: Annotated[float, typer.Option(min=0.01)] = 24,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Create an API token, signed with JWT_SECRETS of the environment or else of the local stack."""
    secret = os.environ.get("JWT_SECRETS") or read_environment().get("JWT_SECRETS")
    if not secret:
        _fail("there is no secret to sign with; start the local stack (./taskw up), or set JWT_SECRETS=kid:secret")
    try:
        token = mint(str(secret), subject, scope, hours * _HOUR_SECONDS)
    except ValueError as error:
        _fail(str(error))
    print(json.dumps({"token": token}) if as_json else token)


def _fail(line: str) -> None:
    print(f"stoker: {line}", file=sys.stderr)
    raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
