"""Tokens of an OIDC issuer, as Knative Eventing sends them: a real small issuer with real RSA keys."""

import hmac
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from jwt.utils import base64url_encode

from functions.api import tokens
from tests.conftest import answering, forget, seconds

pytestmark = [pytest.mark.oidc, pytest.mark.usefixtures("sqlite")]
SUBJECT = "system:serviceaccount:stoker:create-job-oidc"


class Issuer(ThreadingHTTPServer):
    """Discovery and keys, and the private key that signs."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric import rsa

        super().__init__(("127.0.0.1", 0), _Documents)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        #: who may fetch the keys: anybody, or the bearer of this token
        self.reader = ""
        self.publish("one")

    def publish(self, kid: str) -> None:
        """Show the key under this name, and under no other."""
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        self.documents = {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
            "/keys": {"keys": [public | {"kid": kid, "use": "sig", "alg": "RS256"}]},
        }

    def token(self, *, key: Any = None, algorithm: str = "RS256", kid: str = "one", **changes: Any) -> str:
        """Sign a good token, but for the changes."""
        now = tokens.now()
        claims = {"iss": self.url, "aud": "stoker", "sub": SUBJECT, "iat": now, "exp": now + seconds(60)}
        return jwt.encode(claims | changes, key or self.key, algorithm, headers={"kid": kid})


class _Documents(BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        document = json.dumps(self.server.documents[self.path]).encode()
        reader = self.server.reader
        is_refused = reader and self.headers.get("Authorization") != f"Bearer {reader}"
        self.send_response(401 if is_refused else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(document)))
        self.end_headers()
        self.wfile.write(document)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- its base class says so
        """Say nothing."""


@pytest.fixture
def issuer(environment: pytest.MonkeyPatch) -> Iterator[Issuer]:
    server = Issuer()
    environment.setenv("OIDC_ISSUER", server.url)
    environment.setenv("OIDC_SUBJECTS", "system:serviceaccount:stoker:*")
    with answering(server):
        yield server


@pytest.fixture
def sweep(function: Callable[[str], Any]) -> Callable[[str], int]:
    client = function("sweep")
    return lambda token: client.post("/", headers={"Authorization": f"Bearer {token}"}).status_code


def test_a_token_of_the_issuer_is_accepted(issuer: Issuer, sweep: Callable[[str], int]) -> None:
    assert sweep(issuer.token()) == 204


def test_the_keys_are_fetched_with_the_token_that_the_file_holds_now(
    issuer: Issuer, sweep: Callable[[str], int], environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("the first hour's")
    issuer.reader = "the first hour's"
    environment.setenv("OIDC_TOKEN_FILE", str(file))
    forget()
    assert sweep(issuer.token()) == 204

    file.write_text("the second hour's")
    issuer.reader = "the second hour's"
    issuer.publish("two")
    assert sweep(issuer.token(kid="two")) == 204


def test_any_other_token_is_refused(issuer: Issuer, sweep: Callable[[str], int]) -> None:
    from cryptography.hazmat.primitives import serialization

    public = issuer.key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    stranger = Issuer()
    refused = {
        "audience": issuer.token(aud="somebody"),
        "issuer": issuer.token(iss="http://elsewhere"),
        "expired": issuer.token(exp=tokens.now() - seconds(60)),
        "subject": issuer.token(sub="system:serviceaccount:default:default"),
        "key": issuer.token(key=stranger.key),
        "kid": issuer.token(kid="two"),
        "its public key as our secret": confused(issuer.token(), public),
        "none": jwt.encode({"iss": issuer.url, "aud": "stoker", "sub": SUBJECT}, None, "none", headers={"kid": "one"}),
    }
    stranger.server_close()

    assert {name: sweep(token) for name, token in refused.items()} == dict.fromkeys(refused, 401)


def confused(token: str, public_key: bytes) -> str:
    """Sign again with the public key for a shared secret, which PyJWT itself refuses to do."""
    head, body = jwt.get_unverified_header(token) | {"alg": "HS256"}, token.split(".")[1]
    signed = f"{base64url_encode(json.dumps(head).encode()).decode()}.{body}"
    signature = hmac.digest(public_key, signed.encode(), "sha256")
    return f"{signed}.{base64url_encode(signature).decode()}"


@pytest.mark.parametrize("subjects", ["", " ", ",", "somebody,", ",,somebody , "])
@pytest.mark.parametrize("sub", [SUBJECT, "", None], ids=["a subject", "an empty one", "none"])
def test_every_token_is_refused_if_no_subject_is_configured(
    issuer: Issuer, sweep: Callable[[str], int], environment: pytest.MonkeyPatch, subjects: str, sub: str | None
) -> None:
    environment.setenv("OIDC_SUBJECTS", subjects)
    forget()
    assert sweep(without_sub(issuer) if sub is None else issuer.token(sub=sub)) == 401


@pytest.mark.parametrize("subjects", ["*", "?", f"{SUBJECT},"])
def test_a_token_without_a_subject_is_refused(
    issuer: Issuer, sweep: Callable[[str], int], environment: pytest.MonkeyPatch, subjects: str
) -> None:
    environment.setenv("OIDC_SUBJECTS", subjects)
    forget()
    assert [sweep(issuer.token(sub="")), sweep(without_sub(issuer))] == [401, 401]


def without_sub(issuer: Issuer) -> str:
    now = tokens.now()
    claims = {"iss": issuer.url, "aud": "stoker", "iat": now, "exp": now + seconds(60)}
    return jwt.encode(claims, issuer.key, algorithm="RS256", headers={"kid": "one"})


def test_people_and_events_have_issuers_of_their_own(
    issuer: Issuer, function: Callable[[str], Any], environment: pytest.MonkeyPatch
) -> None:
    jobs, people = function("jobs"), Issuer()
    environment.setenv("SIGN_IN_ISSUER", people.url)
    environment.setenv("SIGN_IN_SUBJECTS", "ann")
    environment.setenv("SIGN_IN_SCOPE", "jobs:read")
    environment.setenv("OIDC_SCOPE", "datasets:notify")
    forget()

    def status(token: str) -> int:
        return int(jobs.get("/v1/jobs", headers={"Authorization": f"Bearer {token}"}).status_code)

    with answering(people):
        assert status(people.token(sub="ann")) == 200
        assert status(people.token(sub=SUBJECT)) == 401
        assert status(issuer.token()) == 403
        assert status(issuer.token(sub="ann")) == 401
        assert status(issuer.token(iss=people.url, sub="ann")) == 401  # not with the key of the other one


def test_an_issuer_with_an_invalid_configuration_is_a_configuration_error(
    issuer: Issuer, sweep: Callable[[str], int]
) -> None:
    token = issuer.token()
    issuer.documents["/.well-known/openid-configuration"] = {"welcome": "to a web site"}
    assert sweep(token) == 503


def test_an_unreachable_issuer_is_503(
    issuer: Issuer, sweep: Callable[[str], int], environment: pytest.MonkeyPatch
) -> None:
    token = issuer.token(iss="http://127.0.0.1:9")
    environment.setenv("OIDC_ISSUER", "http://127.0.0.1:9")
    forget()
    assert sweep(token) == 503
