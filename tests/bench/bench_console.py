"""The console in a browser: the list beside 10,000 jobs, and the curves of a job with 1,000 epochs."""

import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import pytest
from playwright.sync_api import Page

from tests.bench.conftest import QUICK, Figure, by_turns
from tests.console import many
from tests.console.site import Site, browser_running, site_running

TURNS = 5 if QUICK else 15
JOBS, FEW_JOBS = 10_000, 50
EPOCHS, FEW_EPOCHS = 1_000, 10
#: notes in each page when the response with a job's metrics is complete, and the first frame after its first curve
_WATCH = """
new PerformanceObserver(list => {
  for (const {name, responseEnd} of list.getEntries()) if (name.includes("/metrics?")) window.loadedAt ??= responseEnd;
}).observe({type: "resource", buffered: true});
const stroke = CanvasRenderingContext2D.prototype.stroke;
CanvasRenderingContext2D.prototype.stroke = function (...parts) {
  if (parts[0] instanceof Path2D && !window.hasCurve) {
    window.hasCurve = true;
    requestAnimationFrame(() => setTimeout(() => { window.drawnAt = performance.now(); }));
  }
  return stroke.apply(this, parts);
};
"""
_CURVE = "window.drawnAt !== undefined && window.loadedAt !== undefined"
_ROWS = "document.querySelectorAll('table.jobs tbody tr').length && performance.now()"


class Stacks(NamedTuple):
    """Pages signed in at two stacks, of which one has many jobs and the other few."""

    many: Page
    few: Page
    site: Site


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stacks]:
    with ExitStack() as stack:
        sites = [stack.enter_context(site_running(tmp_path_factory.mktemp(name))) for name in ("many", "few")]
        for site, count in zip(sites, (JOBS, FEW_JOBS), strict=True):
            many.fill(site.variables["DATABASE_URL"], count)
        browser = stack.enter_context(browser_running())
        pages = []
        for site in sites:
            context = browser.new_context(bypass_csp=True)  # the measurements are scripts
            context.add_init_script(_WATCH)
            pages.append(context.new_page())
            pages[-1].goto(f"{site.address}/#token={site.token}")
        yield Stacks(pages[0], pages[1], sites[0])


def seconds_to_rows(page: Page) -> float:
    """Return the time from the address of the list to its first rows."""
    page.reload()
    return float(page.wait_for_function(_ROWS, polling="raf").json_value()) / 1000


def seconds_to_curve(page: Page, address: str) -> float:
    """Return the time from the end of the response with a job's metrics to the frame with its first curve."""
    page.goto(address)
    page.wait_for_function(_CURVE, polling=20)
    return float(page.evaluate("window.drawnAt - window.loadedAt")) / 1000


@pytest.mark.timeout(600)
def bench_console_list(stacks: Stacks, report: Callable[[Figure], None]) -> None:
    measures = partial(seconds_to_rows, stacks.many), partial(seconds_to_rows, stacks.few)
    by_turns(1, *measures)
    measured, baseline = by_turns(TURNS, *measures)
    report(Figure(f"console: list of {JOBS:,} jobs, first rows", f"{FEW_JOBS} jobs", "s", measured, baseline, "<= 1.1"))


@pytest.mark.timeout(600)
def bench_console_curves(stacks: Stacks, report: Callable[[Figure], None]) -> None:
    url, address = stacks.site.variables["DATABASE_URL"], stacks.site.address
    jobs = [f"{address}/jobs/{many.add_long_job(url, epochs)}" for epochs in (EPOCHS, FEW_EPOCHS)]
    measures = [partial(seconds_to_curve, stacks.many, job) for job in jobs]
    by_turns(1, *measures)
    measured, baseline = by_turns(TURNS, *measures)
    name = f"console: first of 12 curves of {EPOCHS:,} epochs, from data to frame"
    report(Figure(name, f"{FEW_EPOCHS} epochs", "s", measured, baseline))
    print(f"\n{name}: {statistics.median(measured):.3f} s (the goal is 0.3), load {os.getloadavg()[0]:.1f}")
