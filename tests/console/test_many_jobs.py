"""The list of jobs in a store with 10,000 of them: whatever it shows, it loads and draws one page."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.console import many
from tests.console.conftest import Open
from tests.console.screenshots import settled
from tests.console.site import Site, site_running

expect.set_options(timeout=60_000)
COUNT = 10_000
#: of the console's pages
PAGE = 50


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Run a stack of its own, with many jobs."""
    with site_running(tmp_path_factory.mktemp("many")) as running:
        many.fill(running.variables["DATABASE_URL"], COUNT)
        yield running


def names(page: Page) -> Locator:
    """Return the links to the jobs that a page shows."""
    return page.locator("table.jobs th.name > a")


def test_a_page_has_fifty_jobs_and_the_next_one_starts_at_its_top(opened: Open) -> None:
    page = opened("/")
    expect(names(page)).to_have_text([many.name_of(number) for number in range(PAGE)])
    elements = page.locator("*").count()

    for turn in range(1, 6):
        page.get_by_role("link", name="Older").click()
        expect(names(page)).to_have_text([many.name_of(turn * PAGE + number) for number in range(PAGE)])
        assert page.evaluate("scrollY") == 0
    assert page.locator("*").count() <= elements + PAGE
    page.get_by_role("link", name="Newest").click()
    expect(names(page).first).to_have_text(many.name_of(0))


def test_the_oldest_job_is_searched_by_name_and_the_page_is_as_it_was_on_the_way_back(opened: Open) -> None:
    page = opened("/?state=FAILED,CANCELLED")
    expect(names(page)).to_have_count(PAGE)
    page.get_by_role("link", name="Older").click()
    expect(page.get_by_role("link", name="Newest")).to_be_visible()
    page.get_by_label("Name").fill(many.name_of(COUNT - 1).upper())

    expect(names(page)).to_have_text([many.name_of(COUNT - 1)])
    expect(page.get_by_role("link", name="Older")).to_have_count(0)
    names(page).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(many.name_of(COUNT - 1))
    page.go_back()
    expect(page.get_by_label("Name")).to_have_value(many.name_of(COUNT - 1).upper())
    expect(names(page)).to_have_count(1)


@pytest.mark.parametrize(
    ("query", "first", "apart"), [("dataset_id=dataset-7", 7, many.DATASETS), ("tag=large", 2, len(many.TAGS))]
)
def test_a_filter_that_fits_few_shows_the_newest_of_them(opened: Open, query: str, first: int, apart: int) -> None:
    page = opened(f"/?{query}")

    expect(names(page)).to_have_text([many.name_of(first + number * apart) for number in range(PAGE)])


def test_jobs_of_different_pages_are_selected_and_compared(opened: Open) -> None:
    page = opened("/")
    page.get_by_label(f"Select {many.name_of(3)}").check()
    page.get_by_role("link", name="Older").click()
    page.get_by_label(f"Select {many.name_of(PAGE + 1)}").check()
    page.get_by_role("link", name="Compare").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Compare 2 jobs")
    expect(page.get_by_role("columnheader", name=many.name_of(PAGE + 1)).first).to_be_visible()


def test_a_page_that_is_long_in_coming_is_announced(opened: Open) -> None:
    page = opened("/")
    expect(names(page)).to_have_count(PAGE)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(re.compile(r"/v1/jobs\?.*after="), hold)
    page.get_by_role("link", name="Older").click()

    table = page.locator("[aria-busy]").filter(has=page.locator("table.jobs"))
    expect(table).to_have_attribute("aria-busy", "true")
    expect(names(page).first).to_have_text(many.name_of(0))
    held[0].continue_()
    expect(names(page).first).to_have_text(many.name_of(PAGE))
    expect(table).to_have_attribute("aria-busy", "false")


def test_each_curve_of_a_long_job_is_drawn_once(opened: Open, site: Site) -> None:
    job_id = many.add_long_job(site.variables["DATABASE_URL"], 1_000)
    page = opened()
    page.add_init_script("""
        window.curves = 0;
        const stroke = CanvasRenderingContext2D.prototype.stroke;
        CanvasRenderingContext2D.prototype.stroke = function (...parts) {
          window.curves += parts[0] instanceof Path2D;
          return stroke.apply(this, parts);
        };
    """)
    page.goto(f"{site.address}/jobs/{job_id}")
    expect(page.get_by_role("figure")).to_have_count(8)
    settled(page)

    assert page.evaluate("window.curves") == 12
