"""A read-only link to one job: its token reads that job, and nothing else."""

import itertools
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest

from functions import front
from functions.api import tokens
from functions.api.routes import Route
from functions.domain.states import State
from tests.conftest import api_headers, forget, seconds

pytestmark = pytest.mark.usefixtures("database_url")
DAY = 86_400
#: what a link reads of its own job
READABLE = {"", "/events", "/metrics", "/log", "/artifacts"}
API = [route for route in front.API if route.access.scheme == "api"]
OF_JOB = [route for route in API if "{job_id}" in route.declared_path]


@pytest.fixture
def client(function: Callable[[str], Any]) -> Any:
    return function("front")


@pytest.fixture
def link(client: Any) -> Callable[..., Any]:
    def made(job_id: str, scope: str = "jobs:read", **body: Any) -> Any:
        return client.post(f"/v1/jobs/{job_id}/links", json=body, headers=api_headers(scope))

    return made


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def named(routes: list[Route]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("route", routes, ids=lambda route: f"{route.method} {route.declared_path}")


def is_readable(route: Route) -> bool:
    return route.method == "GET" and route.declared_path.removeprefix("/v1/jobs/{job_id}") in READABLE


def status(client: Any, route: Route, job_id: str, token: str) -> int:
    path = re.sub(r"\{\w+\}", "a", route.declared_path.replace("{job_id}", job_id))
    return int(client.request(route.method, path, headers=bearer(token)).status_code)


def test_a_link_opens_the_job_s_page_for_a_week(link: Any, a_job: Any) -> None:
    job_id = a_job()
    response = link(job_id)
    body = response.json()

    assert response.status_code == 201
    assert body["path"] == f"/jobs/{job_id}#token={body['token']}"
    claims = jwt.decode(body["token"], options={"verify_signature": False})
    assert (claims["scope"], claims["job_id"], claims["aud"]) == ("job:read", job_id, "api")
    expires_at = datetime.fromisoformat(body["expires_at"])
    assert abs((expires_at - datetime.fromtimestamp(claims["exp"], UTC)).total_seconds()) < 1


@named([route for route in OF_JOB if is_readable(route)])
def test_a_link_reads_its_job(client: Any, link: Any, a_job: Any, route: Route) -> None:
    job_id = a_job()

    assert status(client, route, job_id, link(job_id).json()["token"]) not in {401, 403}


@named(OF_JOB)
def test_a_link_reads_no_other_job(client: Any, link: Any, a_job: Any, route: Route) -> None:
    assert status(client, route, a_job(), link(a_job()).json()["token"]) == 403


@named([route for route in API if not is_readable(route)])
def test_a_link_allows_no_other_operation(client: Any, link: Any, a_job: Any, route: Route) -> None:
    job_id = a_job()

    assert status(client, route, job_id, link(job_id).json()["token"]) == 403


def test_the_token_of_a_link_is_no_callback_token(client: Any, link: Any, a_job: Any) -> None:
    job_id = a_job()
    token = link(job_id).json()["token"]
    callbacks = [route for route in front.API if route.access.scheme == "callback"]

    assert {status(client, route, job_id, token) for route in callbacks} == {401}


@pytest.mark.parametrize("scope", ["jobs:read", "jobs:write"])
def test_tokens_that_may_read_jobs_can_create_links(link: Any, a_job: Any, scope: str) -> None:
    assert link(a_job(), scope).status_code == 201


@pytest.mark.parametrize("scope", ["datasets:write", "datasets:notify", "metrics:read"])
def test_other_tokens_cannot_create_links(link: Any, a_job: Any, scope: str) -> None:
    assert link(a_job(), scope).status_code == 403


def test_a_link_does_not_outlive_the_token_that_created_it(link: Any, a_job: Any) -> None:
    left = datetime.fromisoformat(link(a_job(), valid_seconds=DAY).json()["expires_at"]) - tokens.now()

    assert left <= seconds(3600)  # as the caller's


def test_a_link_does_not_outlive_the_configured_limit(client: Any, a_job: Any, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("JOB_LINK_DAYS", "2")
    forget()
    caller = tokens.mint_api("tester", "jobs:read", 100 * DAY, now=tokens.now())
    body = client.post(f"/v1/jobs/{a_job()}/links", json={}, headers=bearer(caller)).json()
    left = datetime.fromisoformat(body["expires_at"]) - tokens.now()
    assert seconds(2 * DAY - 60) < left <= seconds(2 * DAY)

    environment.setenv("JOB_LINK_DAYS", "0")
    forget()
    response = client.post(f"/v1/jobs/{a_job()}/links", json={}, headers=bearer(caller))
    assert (response.status_code, "JOB_LINK_DAYS" in response.json()["detail"]) == (403, True)


@pytest.mark.parametrize("valid", [0, 59, 31 * DAY, -1, "a week"])
def test_the_field_to_change_is_named(link: Any, a_job: Any, valid: Any) -> None:
    response = link(a_job(), valid_seconds=valid)

    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "valid_seconds")


def test_an_expired_link_is_refused(client: Any, a_job: Any) -> None:
    job_id, now = a_job(), tokens.now()
    claims = {"iss": "stoker", "aud": "api", "scope": "job:read", "job_id": job_id, "iat": now - seconds(120)}
    kid, secret = next(iter(tokens.keys().items()))
    token = jwt.encode(claims | {"exp": now - seconds(60)}, secret, "HS256", headers={"kid": kid})

    assert client.get(f"/v1/jobs/{job_id}", headers=bearer(token)).status_code == 401


def test_a_link_without_a_job_reads_nothing(client: Any, a_job: Any) -> None:
    now = tokens.now()
    claims = {"iss": "stoker", "aud": "api", "scope": "job:read", "iat": now, "exp": now + seconds(60)}
    kid, secret = next(iter(tokens.keys().items()))
    token = jwt.encode(claims, secret, "HS256", headers={"kid": kid})

    assert client.get(f"/v1/jobs/{a_job()}", headers=bearer(token)).status_code == 403


@pytest.mark.usefixtures("s3")
def test_a_link_to_a_deleted_job_is_refused(client: Any, link: Any, a_job: Any) -> None:
    job_id = a_job(State.SUCCEEDED)
    token = link(job_id).json()["token"]
    assert client.delete(f"/v1/jobs/{job_id}", headers=api_headers()).status_code == 204

    for path in READABLE:
        assert client.get(f"/v1/jobs/{job_id}{path}", headers=bearer(token)).status_code == 404
    assert link(job_id).status_code == 404


def test_links_end_with_the_key_that_signed_them(
    client: Any, link: Any, a_job: Any, environment: pytest.MonkeyPatch
) -> None:
    job_id = a_job()
    token = link(job_id).json()["token"]
    environment.setenv("JWT_SECRETS", "new:another-secret-of-at-least-32-bytes-length")
    forget()

    assert client.get(f"/v1/jobs/{job_id}", headers=bearer(token)).status_code == 401


@pytest.mark.usefixtures("s3")
def test_all_links_to_a_job_are_revoked_together_and_those_to_others_are_not(
    client: Any, link: Any, a_job: Any
) -> None:
    job_id, other = a_job(), a_job()
    old, older, others = link(job_id).json()["token"], link(job_id).json()["token"], link(other).json()["token"]
    revoked = client.delete(f"/v1/jobs/{job_id}/links", headers=api_headers("jobs:write"))

    assert (revoked.status_code, revoked.content) == (204, b"")
    for token, path in itertools.product((old, older), READABLE):
        refused = client.get(f"/v1/jobs/{job_id}{path}", headers=bearer(token))
        assert (refused.status_code, "was revoked" in refused.json()["detail"]) == (401, True)
    new = link(job_id).json()["token"]
    for shared, token in ((job_id, new), (other, others)):
        for path in READABLE:
            assert client.get(f"/v1/jobs/{shared}{path}", headers=bearer(token)).status_code == 200
    assert client.get(f"/v1/jobs/{job_id}", headers=api_headers("jobs:read")).status_code == 200


def test_a_link_of_an_earlier_release_is_revoked_too(client: Any, a_job: Any) -> None:
    job_id, now = a_job(), tokens.now()
    claims = {"iss": "stoker", "aud": "api", "scope": "job:read", "job_id": job_id, "iat": now}
    kid, secret = next(iter(tokens.keys().items()))
    headers = bearer(jwt.encode(claims | {"exp": now + seconds(60)}, secret, "HS256", headers={"kid": kid}))

    assert client.get(f"/v1/jobs/{job_id}", headers=headers).status_code == 200
    client.delete(f"/v1/jobs/{job_id}/links", headers=api_headers("jobs:write"))
    assert client.get(f"/v1/jobs/{job_id}", headers=headers).status_code == 401


@pytest.mark.parametrize("scope", ["jobs:read", "datasets:write", "datasets:notify", "metrics:read"])
def test_only_tokens_that_may_change_jobs_revoke_links(client: Any, link: Any, a_job: Any, scope: str) -> None:
    job_id = a_job()
    token = link(job_id).json()["token"]

    assert client.delete(f"/v1/jobs/{job_id}/links", headers=api_headers(scope)).status_code == 403
    assert client.get(f"/v1/jobs/{job_id}", headers=bearer(token)).status_code == 200


def test_links_to_an_unknown_job_cannot_be_revoked(client: Any) -> None:
    assert client.delete("/v1/jobs/nobody/links", headers=api_headers("jobs:write")).status_code == 404
