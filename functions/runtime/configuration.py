"""Checks of all settings: a process with a mistake in one never becomes ready."""

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from urllib.parse import urlsplit

from functions.domain.errors import ConfigurationError
from functions.runtime.registry import check_defaults, trainers
from functions.runtime.settings import (
    SCOPES,
    allowed_origins,
    issuers,
    jwt_secrets,
    read_file,
    settings,
    storage_access,
)

#: functions that do not need TRAINERS
_WITHOUT_TRAINERS = frozenset({"heartbeat", "event", "done", "presign", "uploads", "dead_letter", "metrics"})
_SQLITE, _POSTGRESQL = "sqlite:///", ("postgresql", "postgres")


def check() -> None:
    """Check every setting, so that a process with a mistake in one never becomes ready.

    A mistake in TRAINERS stops only functions that read it: running trainers can still call back. It opens no
    connections: an unreachable service is not a mistake in the settings.

    Raises:
        ConfigurationError: the message names every variable to change, one per line.
    """
    mistakes: list[str] = []
    of_trainers = () if os.environ.get("FUNCTION_TARGET") in _WITHOUT_TRAINERS else (trainers, check_defaults)
    checks: tuple[Callable[[], object], ...] = (settings, jwt_secrets, *of_trainers, check_storage)
    for check_part in (*checks, check_database, _check_files, _check_issuers, _check_addresses, _check_origins):
        try:
            check_part()
        except ConfigurationError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ConfigurationError("\n".join(dict.fromkeys(mistakes)))


def check_storage() -> None:
    """Check the settings of the storage. Raises ConfigurationError."""
    missing = [name for name, value in storage_access().items() if not value]
    if missing:
        raise ConfigurationError(f"no storage is set up: set {', '.join(missing)}")
    if not settings().storage_bucket:
        raise ConfigurationError("STORAGE_BUCKET: set it to the bucket's name")
    endpoint, address = next(iter(storage_access().items()))
    _check_address(endpoint, address)


def _check_origins() -> None:
    """Check CORS_ORIGINS. Raises ConfigurationError."""
    for origin in allowed_origins():
        parts = urlsplit(origin)
        if origin != "*" and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.path or parts.query):
            raise ConfigurationError(
                f"CORS_ORIGINS: use origins such as https://console.example.com, not {origin[:100]!r}"
            )


def check_database() -> None:
    """Check DATABASE_URL. Raises ConfigurationError."""
    url = settings().database_url
    scheme, separator, rest = url.partition("://")
    is_postgresql = bool(separator and rest) and scheme.partition("+")[0] in _POSTGRESQL
    # The URL is not shown: it has a password.
    if not is_postgresql and not (url.startswith(_SQLITE) and len(url) > len(_SQLITE)):
        raise ConfigurationError(
            "DATABASE_URL: use sqlite:///<file> or postgresql://<user>:<password>@<host>/<database>"
        )


def _check_files() -> None:
    """Check that the files which settings name can be read. Raises ConfigurationError."""
    for name in ("k_sink_token_file", "oidc_ca_file", "oidc_token_file", "sign_in_ca_file"):
        path = getattr(settings(), name)
        if path:
            read_file(name.upper(), path)


def _check_issuers() -> None:
    """Check the settings of the OIDC issuers. Raises ConfigurationError."""
    for setting, _, audience, _, scope, *_ in issuers():
        if not audience:
            raise ConfigurationError(f"{setting}_AUDIENCE: set it to the audience that the issuer's tokens are for")
        if not scope.split() or set(scope.split()) - set(SCOPES):
            raise ConfigurationError(f"{setting}_SCOPE: use some of {' '.join(SCOPES)}, separated by spaces")
        if find_spec("cryptography") is None:
            raise ConfigurationError(
                f"{setting}_ISSUER: its tokens need the package cryptography (the dependency group `oidc`)"
            )
    own = settings()
    if own.sign_in_issuer and own.sign_in_issuer == own.oidc_issuer:
        raise ConfigurationError("SIGN_IN_ISSUER: it is OIDC_ISSUER too; use one of the two settings")
    if own.sign_in_client_id and not own.sign_in_issuer:
        raise ConfigurationError("SIGN_IN_CLIENT_ID: set SIGN_IN_ISSUER too, the issuer that knows this client")
    if "openid" not in own.sign_in_client_scope.split():
        raise ConfigurationError("SIGN_IN_CLIENT_SCOPE: include openid")


def _check_addresses() -> None:
    """Check all settings that are URLs. Raises ConfigurationError."""
    for name in ("backend_base_url", "storage_public_endpoint", "k_sink", "oidc_issuer", "sign_in_issuer"):
        address = getattr(settings(), name)
        if address:
            _check_address(name.upper(), address)


def _check_address(name: str, address: str) -> None:
    try:
        parts = urlsplit(address)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigurationError(f"{name}: use an address such as https://host:port, not {address[:100]!r}")


def main() -> None:
    """Check the settings in the environment: ``python -m functions.runtime.configuration``."""
    try:
        check()
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 -- the command's output
        sys.exit(os.EX_CONFIG)


if __name__ == "__main__":
    main()
