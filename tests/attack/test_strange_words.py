"""Line breaks, escapes, unusual paths and headers: no 500, no forged line in the log, no secret in a response."""

import http.client
import json
import re
from contextlib import closing
from typing import NamedTuple

import httpx
import pytest

from tests.attack.conftest import Server
from tests.conftest import SECRET, api_headers, callback_headers

BREAKS = {
    "line feed": "\n", "return": "\r\n", "escape": "\x1b[31mred\x1b[0m", "NUL": "\x00", "backspace": "\x08" * 9, "next line": "\x85",
    "line separator": "\u2028", "paragraph separator": "\u2029", "right to left": "\u202e", "a lone half": "\ud800", "far": "\U0010ffff",
}  # fmt: skip
FORGED = '{"at": "2026-01-01T00:00:00Z", "severity": "ERROR", "message": "forged"}'
PATHS = [
    "/v1/jobs/../../etc/passwd", "/v1/jobs/%2e%2e/%2e%2e/etc/passwd", "/v1/jobs/..%2f..%2fetc%2fpasswd", "/v1//jobs", "//v1/jobs",
    "/v1/jobs//events", "/v1/jobs/;x=1", "/v1/jobs;/x", "/v1/jobs/x%00y", "/v1/jobs/%0d%0aX-Evil:%20yes", "/v1/jobs/" + "a" * 20_000, "/v1/jobs/" + "a/" * 5_000,
    "/v1/jobs/%D9%A1%D9%A2%D9%A3", "/v1/jobs/%EF%BC%91", "/v1/jobs/%C3%A9", "/v1/jobs/%ff%fe", "/v1/jobs/JOB", "/v1/jobs/-x", "/v1/jobs/%", "/v1/jobs/%zz",
    "/v1/jobs/x%2fevents", "/v1/jobs/x\\events", "/v1/jobs/.", "/v1/jobs/x/events/..", "/v1/openapi.json/../jobs", "/v1/OPENAPI.json", "http://elsewhere/v1/jobs/x/y",
    "*", "?", "/?", "/v1/jobs/x?" + "&".join(f"a{n}=1" for n in range(1_000)), "/v1/jobs?cursor=%00", "/v1/jobs?cursor=_", "/v1/jobs?limit=%D9%A1",
    "/v1/jobs?limit=1e3", "/v1/jobs?state=%27%20OR%201=1", "/v1/jobs?dataset_id=%00", "/v1/jobs?framework=%ff", "/v1/jobs?cursor=9999-12-31T23:59:59Z_x",
    "/v1/jobs?cursor=0001-01-01T00:00:00%2B14:00_x", "/v1/rejected-events?after=99999999999999999999", "/v1/rejected-events?after=-1",
]  # fmt: skip
REQUESTED = {"framework": "stub", "model_name": "stub-1", "dataset_id": "digits"}


class Response(NamedTuple):
    status: int
    headers: str
    body: str


def get(server: Server, path: str, headers: dict[str, str], method: str = "GET") -> Response:
    """Request a path unchanged; HTTP clients would normalise it."""
    with closing(http.client.HTTPConnection(*server.place, timeout=60)) as connection:
        connection.putrequest(method, path, skip_host=True)
        for name, value in {"Host": "x", **headers}.items():
            connection.putheader(name, value.encode("utf-8", "surrogatepass"))
        connection.endheaders()
        response = connection.getresponse()
        return Response(response.status, str(response.headers), response.read().decode())


@pytest.fixture
def job(server: Server) -> str:
    response = httpx.post(f"{server.address}/v1/jobs", json=REQUESTED, headers=api_headers(), timeout=60)
    return str(response.raise_for_status().json()["id"])


def assert_no_forged_line(server: Server) -> None:
    for line in server.logged().splitlines():
        logged = json.loads(line)
        assert {"at", "severity", "message"} <= logged.keys(), line
        assert logged["message"] != "forged"


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_an_unusual_path_needs_a_token_and_breaks_nothing(server: Server, path: str) -> None:
    with_token, without = get(server, path, api_headers()), get(server, path, {})

    assert with_token.status < 500
    is_console = without.status == 200 and "text/html" in without.headers and path == "/?"  # anyone may read that page
    assert is_console or without.status in {308, 400, 401, 404, 405, 422, 431}
    assert "X-Evil" not in with_token.headers
    assert "root:" not in with_token.body
    assert SECRET not in with_token.body + without.body
    assert_no_forged_line(server)


@pytest.mark.parametrize("text", BREAKS.values(), ids=BREAKS)
def test_a_line_break_in_a_body_forges_no_line_of_the_log(server: Server, job: str, text: str) -> None:
    evil = f"x{text}{FORGED}"
    api, own = api_headers(), callback_headers(job)
    tries = [
        ("/v1/jobs", REQUESTED | {"dataset_id": evil}, api),
        ("/v1/jobs", REQUESTED | {"framework": evil}, api),
        ("/v1/jobs", {evil: 1}, api),
        ("/v1/jobs", {"Records": [{"eventName": "s3:ObjectCreated:Put", "s3": {"bucket": {"name": evil}, "object": {"key": f"datasets/{evil}.zip"}}}]}, api),
        (f"/v1/jobs/{job}/event", {"type": "log", "message": evil, "data": {evil: evil}}, own),
        (f"/v1/jobs/{job}/event", {"type": evil}, own),
        (f"/v1/jobs/{job}/heartbeat", {"metrics": {evil: 1.0}}, own),
        (f"/v1/jobs/{job}/presign", {"method": "GET", "key": evil}, own),
        (f"/v1/jobs/{job}/cancel", {"message": evil}, api),
    ]  # fmt: skip
    for path, body, headers in tries:
        response = httpx.post(
            f"{server.address}{path}",
            content=json.dumps(body),
            headers={**headers, "Content-Type": "application/json"},
            timeout=60,
        )
        assert response.status_code < 500, (path, body, response.text)
        assert SECRET not in response.text

    assert_no_forged_line(server)


@pytest.mark.parametrize("text", [text for text in BREAKS.values() if not set(text) & set("\r\n\x00")])
@pytest.mark.parametrize(
    "name",
    [
        "traceparent",
        "ce-id",
        "ce-source",
        "ce-type",
        "Idempotency-Key",
        "Content-Type",
        "X-Request-Id",
        "Authorization",
    ],
)
def test_an_unusual_header_breaks_nothing_and_forges_no_line_of_the_log(server: Server, name: str, text: str) -> None:
    for value in (text, f"00-{text}-{text}-01", f"Bearer {text}", f"{text}{FORGED}"):
        response = get(server, "/v1/jobs", api_headers() | {name: value, "Content-Length": "0"}, "POST")
        assert response.status < 500
        assert not re.search("[\x1b\u2028\u202e]", response.headers + response.body)

    assert_no_forged_line(server)


def test_a_request_with_two_tokens_is_rejected(server: Server) -> None:
    good = api_headers()["Authorization"]
    with closing(http.client.HTTPConnection(*server.place, timeout=60)) as connection:
        connection.putrequest("GET", "/v1/jobs")
        connection.putheader("Authorization", good)
        connection.putheader("Authorization", "Bearer x.y.z")
        connection.endheaders()
        assert connection.getresponse().status == 401


def test_a_header_with_an_underscore_is_not_authorization(server: Server) -> None:
    assert get(server, "/v1/jobs", {"HTTP_AUTHORIZATION": api_headers()["Authorization"]}).status == 401


def test_a_token_is_in_no_response_and_no_log(server: Server) -> None:
    token = api_headers()["Authorization"].removeprefix("Bearer ")
    wrong = token[:-9] + "A" * 9
    response = get(server, f"/v1/jobs?cursor={token}", {"Authorization": f"Bearer {wrong}"})

    assert response.status == 401
    assert wrong not in response.body
    assert token not in server.logged()
    assert wrong not in server.logged()
