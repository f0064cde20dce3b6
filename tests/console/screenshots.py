"""Take a screenshot of each page of the console in both themes (``./taskw console:screenshots``)."""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page

from tests.console.contents import Contents, fill
from tests.console.site import browser_running, site_running

THEMES = ("light", "dark")
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 320, "height": 700}


def pages(contents: Contents) -> dict[str, str]:
    """Return the path of each page."""
    return {
        "jobs": "/",
        "datasets": "/datasets",
        "dataset": "/datasets/digits",
        "new": f"/new?from={contents.succeeded}",
        "job": f"/jobs/{contents.succeeded}",
        "running": f"/jobs/{contents.running}",
        "failed": f"/jobs/{contents.failed}",
        "compare": f"/compare?ids={contents.succeeded},{contents.other},{contents.running}",
    }


def settled(page: Page) -> None:
    """Wait until a page shows what it has loaded."""
    page.locator("h1").wait_for()
    page.wait_for_load_state("networkidle")


def main(folder: Path) -> int:
    """Write the screenshots to a folder, and print their names."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, site_running(Path(home)) as site, browser_running() as browser:
        paths = pages(fill(site))
        for theme in THEMES:
            for size, suffix in ((WIDE, ""), (NARROW, "-narrow")):
                page = browser.new_page(viewport=size, color_scheme=theme)  # type: ignore[arg-type]  # plain dictionaries
                page.goto(site.address)
                settled(page)
                page.screenshot(path=folder / f"sign-in-{theme}{suffix}.png")
                page.goto(f"{site.address}/#token={site.token}")
                page.reload()
                for name, path in paths.items():
                    page.goto(site.address + path)
                    settled(page)
                    page.screenshot(path=folder / f"{name}-{theme}{suffix}.png", full_page=True)
                page.close()
    print(*sorted(str(path) for path in folder.glob("*.png")), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
