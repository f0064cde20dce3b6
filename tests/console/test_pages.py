"""Each page, in both themes and on a narrow screen: accessible, complete, and safe with untrusted text."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Dialog, Locator, Page, Route, expect

from tests.conftest import ROOT
from tests.console.conftest import Open
from tests.console.contents import HOSTILE, Contents
from tests.console.screenshots import NARROW, THEMES, pages, settled
from tests.console.site import Site

pytestmark = pytest.mark.usefixtures("contents")
AXE = ROOT / "console/node_modules/axe-core/axe.min.js"
NAMES = ("jobs", "job", "running", "failed", "compare", "datasets", "dataset", "new")
SERIOUS = {"serious", "critical"}


def violations(page: Page) -> list[str]:
    """Return what axe finds on a page."""
    assert AXE.exists(), "run ./taskw console:check first, which installs axe"
    page.evaluate(AXE.read_text())  # not as a script element, which the page's policy would refuse
    result: dict[str, Any] = page.evaluate(
        "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})"
    )
    return [
        f"{one['id']} ({one['impact']}): {node['target']} {node['failureSummary']}"
        for one in result["violations"]
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_accessible(opened: Open, contents: Contents, name: str, theme: str) -> None:
    page = opened(pages(contents)[name], color_scheme=theme)
    settled(page)
    for table in page.get_by_text("Table of", exact=False).all()[:1]:
        table.click()

    assert violations(page) == []


def refused(page: Page) -> None:
    """Let the functions refuse the token, as when it has expired."""

    def refuse(route: Route) -> None:
        route.fulfill(status=401, content_type="application/problem+json", body='{"detail": "the token has expired"}')

    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.route("**/v1/**", refuse)
    page.evaluate("dispatchEvent(new Event('focus'))")  # it checks for updates at once


#: the page, what opens the dialog, and what is in it once it is complete
DIALOGS: dict[str, tuple[str, Callable[[Page], object], str]] = {
    "edit": ("job", lambda page: page.get_by_role("button", name="Edit").click(), "Tags, separated"),
    "delete": ("job", lambda page: page.get_by_role("button", name="Delete").click(), "Delete the job"),
    "share": ("job", lambda page: page.get_by_role("button", name="Share").click(), "It ends on"),
    "cancel": ("running", lambda page: page.get_by_role("button", name="Cancel").click(), "Cancel the job"),
    "delete dataset": ("dataset", lambda page: page.get_by_role("button", name="Delete").click(), "Delete the dataset"),
    "check": ("dataset", lambda page: page.get_by_role("button", name="Check").click(), "Framework"),
    "sign in again": ("running", refused, "the token has expired"),
}


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", DIALOGS)
def test_a_dialog_is_accessible_and_fits_a_narrow_screen(
    opened: Open, contents: Contents, name: str, theme: str
) -> None:
    place, show, content = DIALOGS[name]
    page = opened(pages(contents)[place], color_scheme=theme, viewport=NARROW)
    show(page)
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text(content).first).to_be_visible()
    for details in dialog.locator("summary").all():
        details.click()

    assert violations(page) == []
    box = dialog.bounding_box()
    assert box
    assert box["x"] >= 8
    assert box["x"] + box["width"] <= NARROW["width"] - 8
    assert dialog.evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")


@pytest.mark.parametrize("theme", THEMES)
def test_signing_in_is_accessible(opened: Open, theme: str) -> None:
    page = opened("/", token="nobody", color_scheme=theme)
    page.get_by_label("API token").fill("nobody")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("the token is malformed")

    assert violations(page) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_page_fits_a_screen_of_320_pixels(opened: Open, contents: Contents, name: str) -> None:
    page = opened(pages(contents)[name], viewport=NARROW)
    settled(page)

    assert page.evaluate("document.documentElement.scrollWidth") == NARROW["width"]


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_the_names_of_jobs_have_room_in_their_list(opened: Open, width: int) -> None:
    page = opened("/", viewport={"width": width, "height": 800})
    settled(page)
    names = page.locator(".jobs .name").all()

    assert names
    for name in names:
        box = name.bounding_box()
        assert box
        assert box["width"] >= 200


def test_a_job_that_is_not_there_says_so_and_leads_to_the_others(opened: Open) -> None:
    page = opened("/jobs/nobody")
    expect(page.get_by_role("heading", level=1)).to_have_text("nobody")
    expect(page.get_by_role("alert")).to_have_text("there is no job nobody")
    page.get_by_role("link", name="Show all jobs").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")


def test_what_strangers_write_is_text(opened: Open) -> None:
    page = opened("/")
    dialogs: list[str] = []

    def dismissed(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismissed)
    page.get_by_role("link", name=HOSTILE).first.click()

    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    expect(page.get_by_text("<script>alert(2)</script>")).to_be_visible()
    assert page.locator("main img[src=x]").count() == 0
    assert dialogs == []


def test_a_job_shows_what_it_did_and_stored(opened: Open, contents: Contents) -> None:
    page = opened(f"/jobs/{contents.succeeded}")

    expect(page.get_by_role("heading", name="Cats, larger images")).to_be_visible()
    expect(page.get_by_text("60 of 60")).to_be_visible()
    expect(page.get_by_text("Best mAP50-95")).to_be_visible()
    expect(page.get_by_text("As good as it gets.")).to_be_visible()
    image = page.get_by_role("button", name="confusion_matrix.png").locator("img")
    image.scroll_into_view_if_needed()
    expect(image).to_have_js_property("naturalWidth", 320)
    expect(page.get_by_role("list").filter(has_text="Created")).to_contain_text("Succeeded")


def test_the_end_of_the_log_is_shown_and_searched(opened: Open, contents: Contents) -> None:
    page = opened(f"/jobs/{contents.succeeded}")
    log = page.get_by_role("region", name="The end of the log")
    expect(log).to_contain_text(HOSTILE)
    page.get_by_role("searchbox", name="Search").fill("EPOCH 7")

    expect(log).to_have_text(re.compile(r"^\d\d:\d\d:07 epoch 7$"))


def test_the_dataset_s_report_names_splits_guesses_and_problems(opened: Open, contents: Contents) -> None:
    page = opened(f"/jobs/{contents.succeeded}")
    report = page.locator("section").filter(has=page.get_by_role("heading", name="Dataset", exact=True))

    expect(report.get_by_role("row")).to_have_text(
        [re.compile("Split"), re.compile("train.*812"), re.compile("val.*90")]
    )
    expect(report).to_contain_text("the folder validation is the split val")
    report.get_by_text("3 × image that cannot be read, left out").click()
    expect(report).to_contain_text("images/train/0007.jpg it is cut off")


def test_the_losses_of_training_and_validation_share_a_chart_with_a_table(opened: Open, contents: Contents) -> None:
    page = opened(f"/jobs/{contents.succeeded}")
    chart = page.get_by_role("figure").filter(has=page.get_by_role("heading", name="box loss"))
    chart.get_by_text("Table").click()

    expect(chart.get_by_role("columnheader")).to_have_text(["Epoch", "train", "val"])
    expect(chart.get_by_role("row")).to_have_count(61)


def test_the_axis_and_the_smoothing_change_all_charts(opened: Open, contents: Contents) -> None:
    page = opened(f"/jobs/{contents.succeeded}")
    page.get_by_label("Step").check()
    chart = page.get_by_role("figure").filter(has=page.get_by_role("heading", name="recall", exact=True))
    before = chart.get_by_role("status").text_content()
    page.get_by_label("Smoothing").fill("0.9")
    chart.get_by_text("Table").click()

    expect(chart.get_by_role("columnheader").first).to_have_text("Step")
    expect(chart.get_by_role("rowheader").last).to_have_text("1200")
    expect(chart.get_by_role("status")).not_to_have_text(before or "")
    expect(chart.get_by_role("row").last).to_contain_text(before or "")  # the table has the values as they were


def test_a_failed_job_says_why_and_what_to_do(opened: Open, contents: Contents) -> None:
    banner = opened(f"/jobs/{contents.failed}").get_by_role("alert")

    expect(banner).to_contain_text("The dataset cannot be used.")
    expect(banner).to_contain_text("upload the dataset again")
    expect(banner).to_contain_text("labels/train/0007.txt")


def test_the_filters_are_in_the_address(opened: Open, site: Site) -> None:
    page = opened("/")
    rows = page.get_by_role("row")
    page.get_by_label("Name").fill("cats, ")
    expect(rows).to_have_count(4)
    page.get_by_label("State").select_option("Succeeded")
    expect(rows).to_have_count(3)

    expect(page).to_have_url(f"{site.address}/?name=cats%2C&state=SUCCEEDED")
    page.reload()
    expect(rows).to_have_count(3)
    page.get_by_role("searchbox", name="Tag").fill("nothing")
    page.get_by_role("link", name="Show all jobs").click()
    expect(rows.filter(has_text="Failed")).not_to_have_count(0)


def test_rejected_uploads_are_shown_with_their_reason_until_they_are_hidden(opened: Open) -> None:
    page = opened("/")
    banner = page.get_by_text("could not become a job")
    banner.click()
    expect(page.get_by_text("datasets/digits.zip").first).to_be_visible()
    page.get_by_role("button", name="Hide these").click()
    expect(banner).to_have_count(0)

    page.reload()
    settled(page)
    expect(banner).to_have_count(0)


def test_jobs_are_sorted_by_their_metric_and_the_page_says_what_is_sorted(opened: Open, site: Site) -> None:
    page = opened("/?name=cats")
    header = page.get_by_role("columnheader", name="Metric")
    values = page.get_by_role("row").locator(".value")
    expect(values).to_have_count(3)

    def shown() -> list[float]:
        return [float(text) for text in values.all_text_contents()]

    header.get_by_role("button").click()
    expect(header).to_have_attribute("aria-sort", "descending")
    assert shown() == sorted(shown(), reverse=True)
    expect(page).to_have_url(f"{site.address}/?name=cats&sort=best")
    expect(page.get_by_text("Sorted by metric, best first.")).to_be_visible()
    header.get_by_role("button").click()
    expect(header).to_have_attribute("aria-sort", "ascending")
    assert shown() == sorted(shown())
    header.get_by_role("button").click()
    expect(header).not_to_have_attribute("aria-sort", re.compile("."))


def test_a_narrow_list_is_sorted_by_a_choice(opened: Open) -> None:
    page = opened("/?name=cats", viewport=NARROW)
    page.get_by_label("Order").select_option("metric, worst first")

    expect(page.get_by_text("Sorted by metric, worst first.")).to_be_visible()


def test_the_artifacts_begin_with_the_weights_and_each_folder_is_one_line(opened: Open, contents: Contents) -> None:
    page = opened(f"/jobs/{contents.succeeded}")
    table = page.locator("table.artifacts")
    expect(table.get_by_role("link").first).to_have_text("checkpoints/best.pt")
    expect(table.get_by_role("link").nth(1)).to_have_text("results/report.html")
    expect(table.get_by_role("link", name="000.jpg")).to_have_count(0)
    folder = table.get_by_role("row").filter(has_text="results/samples/images/")
    expect(folder).to_contain_text("6 files")
    expect(folder).to_contain_text(re.compile(r"[\d.]+ KiB$"))
    folder.get_by_text("6 files").click()

    image = folder.get_by_role("link", name="results/samples/images/000.jpg")
    expect(image).to_have_attribute("title", f"results/job-{contents.succeeded}/samples/images/000.jpg")


def test_metrics_have_the_same_readable_names_on_each_page(opened: Open, contents: Contents) -> None:
    page = opened(f"/compare?ids={contents.succeeded},{contents.other}")
    row = page.get_by_role("rowheader", name="best val box loss")
    expect(row).to_have_attribute("title", "val/box_loss")
    expect(page.get_by_role("heading", name="mAP50-95")).to_have_attribute("title", "metrics/mAP50-95(B)")
    results = page.get_by_role("table", name="The best value")
    expect(results).not_to_contain_text("metrics/")
    expect(results).not_to_contain_text("_")
    page.goto(page.url.partition("/compare")[0])

    expect(page.get_by_text("mAP50-95").first).to_have_attribute("title", "metrics/mAP50-95(B)")


PICTURE = re.compile(r"\.(jpg|png)\?")
#: the page, and the image on it
PICTURES: dict[str, Callable[[Page], Locator]] = {
    "dataset": lambda page: page.get_by_alt_text("Sample 1"),
    "job": lambda page: page.get_by_role("button", name="confusion_matrix.png").locator("img"),
}


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", PICTURES)
def test_an_image_that_loads_has_the_theme_s_colour_and_its_place(
    opened: Open, contents: Contents, site: Site, name: str, theme: str
) -> None:
    page = opened("/", color_scheme=theme)

    def hold(_route: Route) -> None:
        """Hold the request until its route is removed."""

    page.route(PICTURE, hold)
    page.goto(site.address + pages(contents)[name])
    image = PICTURES[name](page)
    image.scroll_into_view_if_needed()
    sunken = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--sunken')")
    expect(image).to_have_css("background-color", rgb(sunken))
    box = image.bounding_box()
    page.unroute(PICTURE)

    expect(image).to_have_class("shown paper" if name == "job" else "shown")
    assert image.bounding_box() == box


def rgb(colour: str) -> str:
    """Return a colour such as #f1eee9 as browsers compute it."""
    return f"rgb{tuple(bytes.fromhex(colour.strip().removeprefix('#')))}"


def test_selected_jobs_are_compared(opened: Open) -> None:
    page = opened("/")
    for name in ("Cats, larger images", "Cats, large batch"):
        page.get_by_label(f"Select {name}").check()
    page.get_by_role("link", name="Compare").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Compare 2 jobs")
    results = page.get_by_role("table", name="The best value")
    best = results.get_by_role("row").filter(has_text="best mAP50-95").get_by_role("cell")
    expect(best.first).to_have_class("best")
    expect(best.last).not_to_have_class("best")
    settings = (
        page.get_by_role("region").or_(page.locator("section")).filter(has=page.get_by_role("heading", name="Settings"))
    )
    expect(settings.get_by_role("row").filter(has_text="batch_size")).to_have_text(re.compile("batch_size *16 *64"))
    expect(settings.get_by_role("row").filter(has_text="framework")).to_have_count(0)


def test_a_dataset_shows_its_versions_what_is_in_it_and_its_jobs(opened: Open, contents: Contents) -> None:
    page = opened("/datasets")
    page.get_by_role("link", name="digits", exact=True).click()

    expect(page.get_by_role("heading", level=1)).to_have_text("digits")
    versions = page.locator("section").filter(has=page.get_by_role("heading", name="Versions"))
    expect(versions.get_by_role("row").filter(has_text="now in the bucket")).to_have_count(1)
    expect(page.get_by_text("3 classes: cat, dog")).to_be_visible()
    expect(page.get_by_text("As Cats, larger images (planned) read it")).to_be_visible()
    jobs = page.locator("section").filter(has=page.get_by_role("heading", name="Jobs", exact=True))
    expect(jobs.get_by_role("link", name="Cats, tonight")).to_have_attribute("href", f"/jobs/{contents.running}")
    page.get_by_role("link", name="Train on it").click()
    expect(page.get_by_label("Name of a dataset in the bucket")).to_have_value("digits")


def test_a_prediction_on_a_dataset_does_not_hide_what_a_training_read(
    opened: Open, contents: Contents, site: Site
) -> None:
    weights = f"checkpoints/job-{contents.succeeded}/best.pt"
    prediction = site.submit(spec={"task": "predict", "checkpoint_key": weights})
    site.wait_for(prediction, "SUCCEEDED")
    site.put(f"results/job-{prediction}/dataset.json", b'{"usable": true}')

    expect(opened("/datasets/digits").get_by_text("As Cats, larger images (planned) read it")).to_be_visible()


def test_a_dataset_that_is_not_there_says_so(opened: Open) -> None:
    expect(opened("/datasets/no%20such%20one").get_by_role("alert")).to_have_text(
        "there is no dataset 'no such one' in the bucket"
    )


def test_a_wide_table_says_that_it_goes_on(opened: Open) -> None:
    page = opened("/datasets/digits", viewport=NARROW)
    box = page.get_by_role("region", name="Versions")
    more = page.locator(".table-scroll").filter(has=box).get_by_text("more →")
    expect(more).to_be_visible()
    box.focus()
    box.evaluate("box => box.scrollTo(box.scrollWidth, 0)")

    expect(more).to_have_count(0)


def test_all_is_reached_by_the_keyboard(opened: Open) -> None:
    page = opened("/")
    settled(page)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('th.name a')"):
            break
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/jobs/"))
