"""console: the files of the web console, and their response headers."""

import gzip
import re
from collections.abc import Callable
from typing import Any

import pytest

from functions import console
from tests.conftest import forget

#: all that the first page loads, compressed
BUDGET_BYTES = 150_000
ASSETS = sorted(path.name for path in (console.BUILT / "assets").iterdir())


@pytest.fixture
def client(function: Callable[[str], Any]) -> Any:
    return function("console")


@pytest.mark.parametrize("path", ["/", "/jobs/job-1", "/compare", "/datasets", "/new", "/jobs/job-1/"])
def test_every_page_is_the_same_file_and_needs_no_token(client: Any, path: str) -> None:
    response = client.get(path)

    assert (response.status_code, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert response.content == (console.BUILT / "index.html").read_bytes()


def test_a_browser_asks_for_the_page_again_and_is_told_that_it_is_current(client: Any) -> None:
    first = client.get("/")
    second = client.get("/", headers={"If-None-Match": first.headers["ETag"]})

    assert first.headers["Cache-Control"] == second.headers["Cache-Control"] == "no-cache"
    assert (second.status_code, second.content) == (304, b"")


@pytest.mark.parametrize("name", ASSETS)
def test_everything_else_is_kept_for_ever_under_a_name_with_a_hash(client: Any, name: str) -> None:
    response = client.get(f"/assets/{name}", headers={"Accept-Encoding": "gzip"})

    assert re.fullmatch(r"[a-z]+-[0-9A-Za-z]{8}\.(js|css|svg)", name)
    assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert response.headers["Content-Encoding"] == "gzip"
    assert response.content == (console.BUILT / "assets" / name).read_bytes()


@pytest.mark.parametrize(
    "path", ["/assets/other.js", "/assets/index.html", "/assets/..%2findex.html", "/assets/", "/other"]
)
def test_no_other_file_can_be_requested(client: Any, path: str) -> None:
    response = client.get(path)

    assert (response.status_code, response.headers["Content-Type"]) == (404, "application/problem+json")


def test_what_the_first_page_loads_is_small(client: Any) -> None:
    page = client.get("/").text
    loaded = re.findall(r'(?:src|href)="(/[^"]+)"', page)

    assert len(loaded) == 3
    contents = [page.encode(), *(client.get(path).content for path in loaded)]
    assert sum(len(gzip.compress(content)) for content in contents) <= BUDGET_BYTES


def test_the_policy_allows_our_own_files_and_the_storage_only(client: Any) -> None:
    policy = dict(one.split(" ", 1) for one in client.get("/").headers["Content-Security-Policy"].split("; "))

    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self' http://127.0.0.1:9",
        "img-src": "'self' blob: http://127.0.0.1:9",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_the_page_has_no_inline_script_or_style_and_loads_nothing_from_elsewhere(client: Any) -> None:
    page = client.get("/").text

    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=|https?:", page) == []


def test_a_public_endpoint_of_the_storage_is_the_one_that_browsers_reach(
    client: Any, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("STORAGE_PUBLIC_ENDPOINT", "https://files.example.com/path")
    forget()

    assert "img-src 'self' blob: https://files.example.com;" in client.get("/").headers["Content-Security-Policy"]


def test_the_page_names_the_issuer_of_its_users_and_may_call_it(client: Any, environment: pytest.MonkeyPatch) -> None:
    plain = client.get("/")
    environment.setenv("SIGN_IN_ISSUER", "https://login.example.com/realms/one")
    forget()
    assert client.get("/").content == plain.content  # an issuer without a client of the console is for other programs

    environment.setenv("SIGN_IN_CLIENT_ID", 'a"><script>')
    environment.setenv("SIGN_IN_CLIENT_SCOPE", "openid offline_access")
    forget()
    page = client.get("/")
    assert (
        '<html data-issuer="https://login.example.com/realms/one" data-client-id="a&quot;&gt;&lt;script&gt;"'
        ' data-client-scope="openid offline_access" lang="en">'
    ) in page.text
    assert page.headers["ETag"] != plain.headers["ETag"]
    policy = page.headers["Content-Security-Policy"]
    assert "connect-src 'self' http://127.0.0.1:9 https://login.example.com;" in policy
