"""Sign in with a browser on any device: OAuth's device flow (RFC 8628) at an OpenID Connect issuer."""

import time

import httpx

from client.contexts import SPARE_SECONDS, Context
from client.errors import NOT_PERMITTED, CallError, Json
from client.output import note

_TIMEOUT_SECONDS = 30.0
_SLOWER_SECONDS = 5.0
_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


def with_browser(url: str, issuer: str, client_id: str, scope: str) -> Context:
    """Return a context for a server, once the user has confirmed a code in a browser.

    Raises:
        CallError: the issuer does not offer this, or the user was refused.
    """
    endpoints = _discovered(issuer)
    if "device_authorization_endpoint" not in endpoints:
        raise CallError(f"{issuer} does not offer the device flow; use an API token: stoker login {url}")
    started = _posted(endpoints["device_authorization_endpoint"], {"client_id": client_id, "scope": scope})
    address = started.get("verification_uri_complete") or started["verification_uri"]
    note(f"open {address} and confirm the code {started['user_code']}")
    interval = float(started.get("interval", _SLOWER_SECONDS))
    ends_at = time.monotonic() + float(started["expires_in"])
    request = {"grant_type": _GRANT, "device_code": started["device_code"], "client_id": client_id}
    while time.monotonic() < ends_at:
        time.sleep(interval)
        answer = _posted(endpoints["token_endpoint"], request, may_fail=True)
        match answer.get("error"):
            case None:
                return _signed_in(Context(url, issuer=issuer, client_id=client_id), answer)
            case "authorization_pending":
                continue
            case "slow_down":
                interval += _SLOWER_SECONDS
            case error:
                raise CallError(
                    f"{issuer} refused: {answer.get('error_description') or error}", exit_code=NOT_PERMITTED
                )
    raise CallError("the code has expired; run the command again", exit_code=NOT_PERMITTED)


def renew(context: Context) -> None:
    """Renew a context's token.

    Raises:
        CallError: the issuer refuses; the user must sign in again.
    """
    request = {"grant_type": "refresh_token", "refresh_token": context.refresh_token, "client_id": context.client_id}
    answer = _posted(_discovered(context.issuer)["token_endpoint"], request, may_fail=True)
    if answer.get("error"):
        line = f"sign in again: stoker login {context.url} --issuer {context.issuer} --client-id {context.client_id}"
        raise CallError(line, exit_code=NOT_PERMITTED)
    _signed_in(context, answer)


def _signed_in(context: Context, answer: Json) -> Context:
    # A server verifies signed tokens; access tokens of some issuers are opaque, their ID tokens never are.
    access = str(answer.get("access_token", ""))
    context.token = access if access.count(".") == 2 else str(answer.get("id_token") or access)  # noqa: PLR2004 -- a JWT
    context.expires_at = time.time() + float(answer.get("expires_in", 3600)) - SPARE_SECONDS
    context.refresh_token = str(answer.get("refresh_token") or context.refresh_token)
    return context


def _discovered(issuer: str) -> Json:
    try:
        response = httpx.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration", timeout=_TIMEOUT_SECONDS)
        content: Json = response.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        raise CallError(f"{issuer} is no OpenID Connect issuer, or cannot be reached ({error})") from error
    return content


def _posted(endpoint: str, fields: dict[str, str], *, may_fail: bool = False) -> Json:
    try:
        response = httpx.post(endpoint, data=fields, timeout=_TIMEOUT_SECONDS)
        content: Json = response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise CallError(f"{endpoint} did not answer as expected ({error})") from error
    if response.is_error and not may_fail:
        raise CallError(f"{endpoint} refused: {content.get('error_description') or content.get('error')}")
    return content
