"""One stack for the session; a browser for each module, because it occupies the event loop of its thread."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import jwt
import pytest
from playwright.sync_api import Browser, Page

from tests.console.contents import Contents, fill
from tests.console.site import Site, browser_running, site_running

#: a page of the console, opened at a path; keywords are options of the browser's context
Open = Callable[..., Page]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_running(tmp_path_factory.mktemp("console")) as running:
        yield running


@pytest.fixture(scope="session")
def contents(site: Site) -> Contents:
    return fill(site)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browser_running() as running:
        yield running


@pytest.fixture
def opened(site: Site, browser: Browser) -> Iterator[Open]:
    """Open signed-in pages; at the end, no page may have reported an error, such as a violation of the policy."""
    errors: list[str] = []

    def open_at(path: str = "/", token: str = site.token, **options: Any) -> Page:
        context = contexts.enter_context(browser.new_context(**{"reduced_motion": "reduce"} | options))
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(f"{site.address}/#token={token}")
        page.goto(site.address + path)
        return page

    with ExitStack() as contexts:
        yield open_at
        # Refused calls are part of some tests; browsers report them by themselves.
        assert [error for error in errors if not error.startswith("Failed to load resource")] == []


@pytest.fixture
def reader(site: Site) -> str:
    """Return a token that may only read."""
    kid, _, secret = site.variables["JWT_SECRETS"].partition(":")
    now = int(time.time())
    claims = {"iss": "stoker", "aud": "api", "sub": "reader", "scope": "jobs:read", "iat": now, "exp": now + 3600}
    return jwt.encode(claims, secret, "HS256", headers={"kid": kid})
