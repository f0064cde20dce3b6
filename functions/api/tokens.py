"""Authentication by JWT (RFC 7519): HS256 tokens of Stoker, and tokens of an OIDC issuer if one is configured."""

import json
import re
import ssl
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jwt

from functions.domain.errors import Busy, ConfigurationError, Forbidden, Unauthenticated
from functions.runtime.settings import SCOPES, Issuer, issuers, jwt_secrets, read_file

if TYPE_CHECKING:
    from functions.api.requests import Request

ISSUER = "stoker"
#: of a read-only link to one job
LINK_SCOPE = "job:read"
#: RFC 7515's compact serialization
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
#: the accepted secrets by ``kid``; the first signs
keys = jwt_secrets
#: the end of the range of times: PyJWT accepts any number
_END_OF_TIME = 2**40
_SHORTEST_SECONDS, _LONGEST_SECONDS = 6 * 3600, 24 * 3600
#: how far the clock of the replica that issued a token may be ahead of the one that verifies it
_CLOCK_ERROR_SECONDS = 3600
_LEEWAY_SECONDS = 5
_AUDIENCES = {
    "api": "use an API token; a trainer's callback token is for the callbacks of its job",
    "callback": "use the job's CALLBACK_TOKEN; an API token is for the API",
}


def mint_callback(job_id: str, running_seconds: float, *, now: datetime, launch: int | None = None) -> str:
    """Return a callback token for one job, valid for the job's time limit, but at least 6 h and at most 24 h.

    With ``launch``, the token is valid only as long as that is the job's current launch.
    """
    of_launch = {} if launch is None else {"launch": launch}
    return _mint({"aud": "callback", "job_id": job_id, **of_launch}, callback_seconds(running_seconds), now=now)


def callback_seconds(running_seconds: float) -> float:
    """Return how long a new token of a job with this time limit is valid."""
    return min(max(running_seconds, _SHORTEST_SECONDS), _LONGEST_SECONDS)


def key_and_expiry(token: str) -> tuple[str, datetime]:
    """Return the ``kid`` that signed one of our own tokens, and when the token expires, without verification."""
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.get_unverified_header(token)["kid"], datetime.fromtimestamp(claims["exp"], UTC)


def mint_api(subject: str, scope: str, seconds: float, *, now: datetime) -> str:
    """Return an API token; ``scope`` is space-separated, among ``settings.SCOPES``.

    Raises:
        ValueError: a scope is unknown.
    """
    unknown = set(scope.split()) - set(SCOPES)
    if unknown or not scope.split():
        raise ValueError(f"scope: use some of {' '.join(SCOPES)}, not {' '.join(sorted(unknown)) or 'nothing'}")
    return _mint({"aud": "api", "sub": subject, "scope": scope}, seconds, now=now)


def mint_link(
    request: "Request", job_id: str, seconds: float, *, revocations: int, now: datetime
) -> tuple[str, datetime]:
    """Return a token that reads one job, and when it expires: at the latest with the Stoker token that creates it.

    It is valid only until the links to the job have been revoked more than ``revocations`` times. An issuer's token
    can be renewed for an unknown time, so its expiry is no limit.
    """
    claims = _claims(request, "api")
    expires_at = now + timedelta(seconds=seconds)
    if claims["iss"] == ISSUER:
        expires_at = min(expires_at, datetime.fromtimestamp(claims["exp"], UTC))
    of_job = {"aud": "api", "scope": LINK_SCOPE, "job_id": job_id, "revocations": revocations}
    return _mint({"sub": str(claims.get("sub", "")), **of_job}, (expires_at - now).total_seconds(), now=now), expires_at


def _mint(claims: dict[str, Any], seconds: float, *, now: datetime) -> str:
    kid, secret = next(iter(keys().items()))
    times = {"iat": now, "exp": now + timedelta(seconds=seconds)}
    return jwt.encode({"iss": ISSUER, **claims, **times}, secret, "HS256", headers={"kid": kid})


def require_callback(request: "Request", job_id: str) -> dict[str, Any]:
    """Require a callback token of this job, and return its claims.

    Raises:
        Unauthenticated: the token is missing, malformed, expired, or another job's.
    """
    claims = _claims(request, "callback")
    if claims.get("job_id") != job_id:
        raise Unauthenticated("this token is for another job")
    return claims


def renewed(claims: Mapping[str, Any], *, now: datetime) -> str | None:
    """Return a new callback token if less than half of the lifetime of these claims is left, else None."""
    if claims["exp"] - now.timestamp() > (claims["exp"] - claims["iat"]) / 2:
        return None
    return mint_callback(claims["job_id"], claims["exp"] - claims["iat"], now=now, launch=claims.get("launch"))


def require_api(request: "Request", *scopes: str, job_id: str | None = None) -> dict[str, Any]:
    """Require an API token with any of these scopes, and return its claims; a link's token is for its ``job_id`` only.

    Raises:
        Unauthenticated: the token is missing, malformed, expired, or not for the API.
        Forbidden: the token has none of the scopes.
        Busy: the OIDC issuer's keys cannot be fetched.
    """
    claims = _claims(request, "api")
    scope = claims.get("scope")
    common = set(scope.split()) & set(scopes) if isinstance(scope, str) else set()
    if common == {LINK_SCOPE} and (job_id is None or claims.get("job_id") != job_id):
        raise Forbidden("this token is a link to another job")
    if not common:
        raise Forbidden(f"this needs a token with the scope {' or '.join(scopes)}")
    return claims


def allows(request: "Request", scope: str) -> bool:
    """Return whether the caller's token has a scope, for routes that accept several.

    Raises:
        Unauthenticated, Busy: as ``require_api``.
    """
    try:
        require_api(request, scope)
    except Forbidden:
        return False
    return True


def _claims(request: "Request", audience: str) -> dict[str, Any]:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("send the header Authorization: Bearer <token>")
    if not _COMPACT.fullmatch(token):  # PyJWT ignores padding, so one token would have several forms
        raise Unauthenticated("the token is malformed: it is not three parts of base64url, joined by dots")
    try:
        if audience == "api" and issuers() and jwt.get_unverified_header(token).get("alg") != "HS256":
            return _of_issuer(token)
        claims = _signed(token, audience, tuple(keys().items()))
        if claims["exp"] <= now().timestamp() - _LEEWAY_SECONDS:
            raise Unauthenticated("the token has expired")
    except jwt.InvalidAudienceError as error:
        raise Unauthenticated(f"the token has another audience: {_AUDIENCES[audience]}") from error
    except jwt.ExpiredSignatureError as error:
        raise Unauthenticated("the token has expired") from error
    except (jwt.PyJWTError, UnicodeError, ValueError, TypeError) as error:
        raise Unauthenticated(f"token refused: {error}") from error
    if claims["iat"] > now().timestamp() + _CLOCK_ERROR_SECONDS:
        raise Unauthenticated("the token is not yet valid")
    return dict(claims)


@lru_cache(maxsize=4096)  # a trainer sends the same token many times; errors are not cached
def _signed(token: str, audience: str, secrets: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Return the verified claims of one of our tokens; the caller checks when it expires."""
    secret = dict(secrets).get(jwt.get_unverified_header(token).get("kid", ""))
    if secret is None:
        raise Unauthenticated("the token's kid is unknown or no longer accepted")
    # PyJWT refuses an iat in the future, but replicas' clocks differ.
    options: Any = {"require": ["iss", "aud", "iat", "exp"], "verify_iat": False, "verify_exp": False}
    claims = jwt.decode(
        token, secret, ["HS256"], audience=audience, issuer=ISSUER, leeway=_LEEWAY_SECONDS, options=options
    )
    if not all(_is_moment(claims[name]) for name in ("iat", "exp")):
        raise Unauthenticated("the token's iat and exp must be numbers: seconds")
    return claims


def _is_moment(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < _END_OF_TIME


def _of_issuer(token: str) -> dict[str, Any]:
    """Return the claims of an OIDC issuer's token, with the scope that settings allow."""
    address = jwt.decode(token, options={"verify_signature": False}).get("iss")
    issuer = next((one for one in issuers() if one.address == address), None)
    if issuer is None:
        raise Unauthenticated("the token's iss is neither OIDC_ISSUER nor SIGN_IN_ISSUER")
    try:
        bearer = bearer_headers("OIDC_TOKEN_FILE", issuer.token_file).get("Authorization")
        key = _issuer_keys(issuer, bearer).get_signing_key_from_jwt(token)
    except (OSError, jwt.PyJWKClientConnectionError) as error:
        raise Busy(f"the issuer of this token is unavailable: {type(error).__name__}") from error
    except jwt.PyJWKSetError as error:
        raise ConfigurationError(f"{issuer.setting}_ISSUER: its keys cannot be used: {error}") from error
    claims = jwt.decode(
        token,
        key.key,
        ["RS256", "ES256"],
        audience=issuer.audience,
        issuer=issuer.address,
        options={"require": ["iss", "aud", "exp", "sub"]},
    )
    if not _is_allowed_subject(claims["sub"], issuer.subjects):
        raise Unauthenticated(f"the token's sub is not among {issuer.setting}_SUBJECTS")
    # The issuer's token identifies the caller; the settings decide what the caller may do.
    return claims | {"scope": issuer.scope}


def _is_allowed_subject(subject: object, allowed: str) -> bool:
    """Return whether comma-separated patterns include a subject; empty patterns and empty subjects never match."""
    patterns = [pattern.strip() for pattern in allowed.split(",") if pattern.strip()]
    return isinstance(subject, str) and bool(subject) and any(fnmatchcase(subject, pattern) for pattern in patterns)


# The kubelet renews the bearer token hourly: only the latest clients, one of each issuer, are cached.
@lru_cache(maxsize=2)
def _issuer_keys(issuer: Issuer, bearer: str | None) -> jwt.PyJWKClient:
    name, ca_file = issuer.setting, issuer.ca_file
    context = ssl.create_default_context(cadata=read_file(f"{name}_CA_FILE", ca_file) if ca_file else None)
    headers = {"Authorization": bearer} if bearer else {}
    url = issuer.address.rstrip("/") + "/.well-known/openid-configuration"
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 -- the operator's own address
        with urllib.request.urlopen(request, timeout=5, context=context) as response:  # noqa: S310 -- as above
            keys_url = json.load(response)["jwks_uri"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{name}_ISSUER: {url} is not an OpenID configuration") from error
    return jwt.PyJWKClient(keys_url, headers=headers, timeout=5, ssl_context=context)


def bearer_headers(variable: str, token_file: str) -> dict[str, str]:
    """Return the Authorization header with the token in a file that a setting names; empty without a file.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    return {"Authorization": f"Bearer {read_file(variable, token_file).strip()}"} if token_file else {}


def now() -> datetime:
    """Return the current time in UTC, which handlers pass on as ``now``."""
    return datetime.now(UTC)
