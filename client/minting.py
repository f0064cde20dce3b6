"""Create API tokens with the secret that the functions verify them with."""

import os
from datetime import UTC, datetime


def mint(jwt_secrets: str, subject: str, scope: str, seconds: float) -> str:
    """Return an API token, signed with the first of ``kid:secret,kid:secret``.

    Raises:
        ValueError: a scope is unknown, or the secret is weak.
    """
    os.environ["JWT_SECRETS"] = jwt_secrets
    from functions.api import tokens  # noqa: PLC0415 -- it refuses to load without a secret

    return tokens.mint_api(subject, scope, seconds, now=datetime.now(UTC))
