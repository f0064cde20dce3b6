"""What a training has stored, drawn from data: samples, evaluation, the machine's load; predictions; comparison."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.console import results
from tests.console.conftest import Open
from tests.console.contents import Contents
from tests.console.screenshots import NARROW, THEMES, settled
from tests.console.site import Site
from tests.console.test_pages import violations

expect.set_options(timeout=60_000)


@pytest.fixture(scope="session")
def classified(site: Site, contents: Contents) -> str:
    """A classification with 60 classes, whose second sample is wrong."""
    del contents  # made first
    job_id = site.submit(spec={"name": "Sixty classes"}, planned=3)
    for name, content in results.classification():
        site.put(f"results/job-{job_id}/{name}", content)
    site.wait_for(job_id, "SUCCEEDED")
    return job_id


def section(page: Page, heading: str) -> Locator:
    return page.locator("section").filter(has=page.get_by_role("heading", name=heading, exact=True))


def marks(page: Page, kind: str) -> Locator:
    return section(page, "Samples").locator(f".mark.{kind}")


def test_boxes_are_drawn_from_data_and_chosen_by_kind_and_confidence(opened: Open, contents: Contents) -> None:
    page = opened(f"/jobs/{contents.succeeded}")
    objects = sum(len(results.places(number)) for number in range(results.IMAGES))
    expect(marks(page, "truth")).to_have_count(objects)
    expect(marks(page, "prediction")).to_have_count(objects)  # without those below 0.25

    page.get_by_label("Confidence from").fill("0.1")
    expect(marks(page, "prediction")).to_have_count(objects + results.IMAGES)
    page.get_by_role("checkbox", name="Truth").uncheck()
    expect(marks(page, "truth")).to_have_count(0)
    page.get_by_role("checkbox", name="Predictions").uncheck()
    expect(marks(page, "prediction")).to_have_count(0)


def test_the_epoch_is_chosen_by_the_keyboard_and_stays_while_later_ones_come(opened: Open, site: Site) -> None:
    job_id = site.submit(planned=1, of=3, wait=True)
    files = dict(results.detection(epochs=(1, 2, 3)))
    last = files.pop("samples/epoch-0003.json")
    for name, content in files.items():
        site.put(f"results/job-{job_id}/{name}", content)
    page = opened(f"/jobs/{job_id}")
    slider = section(page, "Samples").get_by_label("Epoch")
    expect(slider).to_have_attribute("aria-valuetext", "epoch 2")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(slider).to_have_attribute("aria-valuetext", "epoch 1")

    site.put(f"results/job-{job_id}/samples/epoch-0003.json", last)
    expect(slider).to_have_attribute("max", "2")
    expect(slider).to_have_attribute("aria-valuetext", "epoch 1")
    page.keyboard.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "epoch 3")
    site.call("POST", f"/v1/jobs/{job_id}/cancel", json={})


def test_an_image_is_shown_large_and_the_arrow_keys_lead_to_the_others(opened: Open, contents: Contents) -> None:
    page = opened(f"/jobs/{contents.succeeded}")
    page.get_by_role("button", name="val/image 0.jpg").click()
    large = page.get_by_role("dialog")
    expect(large.get_by_role("heading")).to_have_text("val/image 0.jpg")
    expect(large).to_contain_text("cat 96 %")
    page.keyboard.press("ArrowRight")
    expect(large.get_by_role("heading")).to_have_text("val/image 1.jpg")
    page.keyboard.press("ArrowDown")
    expect(large).to_contain_text("Epoch 20;")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(large.get_by_role("heading")).to_have_text("val/image 5.jpg")

    assert violations(page) == []
    page.keyboard.press("Escape")
    expect(large).to_have_count(0)
    expect(page.get_by_role("button", name="val/image 0.jpg")).to_be_focused()


def test_a_wrong_class_is_told_by_word_and_shape(opened: Open, classified: str) -> None:
    samples = section(opened(f"/jobs/{classified}"), "Samples").get_by_role("listitem")

    expect(samples.filter(has_text="image 1.jpg").first).to_contain_text("wrong: dog")
    expect(samples.filter(has_text="image 1.jpg").first).to_contain_text("cat 55 %")
    expect(samples.filter(has_text="image 0.jpg").first).to_contain_text("right: cat")
    shapes = [one.get_attribute("d") for one in samples.locator(".verdict path").all()]
    assert len(set(shapes)) == 2


def test_the_confusion_matrix_is_read_by_the_keyboard_and_shows_counts_or_shares(
    opened: Open, contents: Contents
) -> None:
    page = opened(f"/jobs/{contents.succeeded}")
    matrix = page.get_by_role("grid")
    expect(matrix.get_by_role("row")).to_have_count(len(results.CLASSES) + 2)
    matrix.get_by_label("cat predicted as cat").focus()
    page.keyboard.press("ArrowRight")
    expect(matrix.get_by_label("cat predicted as dog: 27 %")).to_be_focused()
    expect(section(page, "Evaluation")).to_contain_text("cat predicted as dog: 17, 27 % of the row")

    page.get_by_label("As shares of each row").uncheck()
    expect(matrix.get_by_label("cat predicted as dog: 17")).to_have_text("17")


def test_a_matrix_of_many_classes_is_cut_and_the_most_confused_are_listed(opened: Open, classified: str) -> None:
    page = opened(f"/jobs/{classified}")

    expect(page.get_by_text("The 30 of 61 classes that are confused most.")).to_be_visible()
    expect(page.get_by_role("grid").get_by_role("row")).to_have_count(31)
    expect(page.locator("table.pairs tbody tr").first).to_have_text(re.compile("class 0 *class 1 *17"))


def test_classes_are_sorted_and_those_without_a_value_are_last(opened: Open, contents: Contents) -> None:
    page = opened(f"/jobs/{contents.succeeded}")
    table = page.get_by_role("region", name="Results by class")
    names = table.get_by_role("rowheader")
    expect(names).to_have_text(["cat", "dog", "<b>bird</b>"])
    table.get_by_role("button", name="F1").click()
    expect(table.get_by_role("columnheader", name="F1")).to_have_attribute("aria-sort", "descending")
    expect(names).to_have_text(["cat", "<b>bird</b>", "dog"])
    table.get_by_role("button", name="F1").click()
    expect(names).to_have_text(["<b>bird</b>", "cat", "dog"])


def test_curves_by_confidence_and_by_recall_have_tables_and_the_report_is_linked(
    opened: Open, contents: Contents
) -> None:
    page = opened(f"/jobs/{contents.succeeded}")
    chart = page.get_by_role("figure").filter(has=page.get_by_role("heading", name="Precision, recall and F1"))
    chart.get_by_text("Table").click()

    expect(chart.get_by_role("columnheader")).to_have_text(["Confidence", "Precision", "Recall", "F1"])
    expect(chart.get_by_role("row")).to_have_count(102)
    expect(page.get_by_role("heading", name="Precision by recall")).to_be_visible()
    expect(page.get_by_text("The highest F1 is")).to_be_visible()
    expect(page.get_by_role("link", name="Report as one page")).to_have_attribute("href", re.compile("report.html"))


def test_a_job_that_has_stored_nothing_of_it_shows_nothing_of_it(opened: Open, contents: Contents) -> None:
    page = opened(f"/jobs/{contents.running}")
    settled(page)

    for heading in ("Samples", "Evaluation", "Machine", "Predict"):
        expect(page.get_by_role("heading", name=heading, exact=True)).to_have_count(0)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_an_expired_link_is_renewed(opened: Open, contents: Contents) -> None:
    page = opened("/")
    refused: list[str] = []

    def refuse_once(route: Route) -> None:
        if not refused:
            refused.append(route.request.url)
            route.fulfill(status=403, headers={"Access-Control-Allow-Origin": "*"}, body="<Error/>")
        else:
            route.continue_()

    page.route("**/report.json?*", refuse_once)
    page.goto(page.url.rstrip("/") + f"/jobs/{contents.succeeded}")
    expect(page.get_by_role("heading", name="By class")).to_be_visible()
    assert len(refused) == 1


def test_the_load_of_the_machine_has_charts_of_its_own(opened: Open, contents: Contents) -> None:
    page = opened(f"/jobs/{contents.succeeded}")
    machine = section(page, "Machine")

    expect(machine.get_by_role("heading", level=3)).to_have_text(
        ["GPU", "GPU memory", "CPU", "Memory", "Waits for data"]
    )
    expect(machine.get_by_role("figure").first).to_contain_text(re.compile(r"GPU 0\s*\d+ %"))
    expect(section(page, "Training")).not_to_contain_text("system")
    expect(section(page, "Training")).not_to_contain_text("percent")


def test_dropped_images_are_predicted_on_and_shown_with_the_predictions(
    opened: Open, contents: Contents, site: Site, tmp_path: Path
) -> None:
    images = [content for name, content in results.detection() if name.endswith(".jpg")][:2]
    for number, content in enumerate(images):
        (tmp_path / f"Bild {number}.jpg").write_bytes(content)
    page = opened(f"/jobs/{contents.succeeded}")
    page.locator("input[type=file]").set_input_files([tmp_path / f"Bild {number}.jpg" for number in range(2)])
    page.get_by_role("button", name="Predict on 2 images").click()

    expect(page.get_by_text("With the best weights of")).to_be_visible()
    expect(page.locator("p.facts")).to_contain_text("Succeeded", timeout=180_000)
    expect(section(page, "Predictions").locator(".mark.prediction")).to_have_count(2)
    drawn = section(page, "Predictions").locator("image").first
    expect(drawn).to_have_attribute("href", re.compile("^blob:"))
    job = site.call("GET", f"/v1/jobs/{page.url.rpartition('/')[2]}")
    assert (job["task"], job["spec"]["checkpoint_key"]) == ("predict", f"checkpoints/job-{contents.succeeded}/best.pt")


def test_images_that_a_prediction_has_stored_are_shown_in_any_tab(opened: Open, contents: Contents, site: Site) -> None:
    weights = f"checkpoints/job-{contents.succeeded}/best.pt"
    job_id = site.submit(spec={"task": "predict", "checkpoint_key": weights})
    site.wait_for(job_id, "SUCCEEDED")
    likely = [{"class": "cat", "probability": 0.9}, {"class": "dog", "probability": 0.1}]
    stored = [content for name, content in results.detection() if name.endswith(".jpg")][:2]
    keys = [f"results/job-{job_id}/images/{number:06}.jpg" for number in range(len(stored))]
    for key, content in zip(keys, stored, strict=True):
        site.put(key, content)
    rows = [{"file": f"{number}.jpg", "image": key, "top": likely} for number, key in enumerate(keys)]
    site.put(f"results/job-{job_id}/predictions.jsonl", "\n".join(map(json.dumps, rows)).encode())
    page = opened(f"/jobs/{job_id}")

    shown = section(page, "Predictions").locator("image")
    expect(shown).to_have_count(2)
    expect(shown.first).to_have_attribute("href", re.compile(re.escape(keys[0])))
    expect(section(page, "Predictions")).to_contain_text("cat")
    expect(page.get_by_role("heading", name="Images", exact=True)).to_have_count(0)


def test_what_is_no_image_is_refused_before_an_upload(opened: Open, contents: Contents, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    page = opened(f"/jobs/{contents.succeeded}")
    page.locator("input[type=file]").set_input_files(tmp_path / "notes.txt")

    expect(page.get_by_role("alert")).to_contain_text("None of these is an image")


def test_the_same_images_of_compared_jobs_are_side_by_side(opened: Open, contents: Contents) -> None:
    page = opened(f"/compare?ids={contents.succeeded},{contents.other}")
    samples = page.get_by_role("region", name="Samples")
    expect(samples.get_by_role("row")).to_have_count(results.IMAGES + 1)
    expect(samples.get_by_role("columnheader")).to_have_text([re.compile("epoch 60"), re.compile("epoch 40")])
    section(page, "Samples").get_by_label("Epoch").fill("1")
    expect(samples.get_by_role("columnheader")).to_have_text([re.compile("epoch 20"), re.compile("epoch 20")])
    page.get_by_role("button", name="val/image 0.jpg").click()
    expect(page.get_by_role("dialog").get_by_role("img")).to_have_count(2)
    page.keyboard.press("Escape")

    classes = page.get_by_role("region", name="AP by class")
    expect(classes.get_by_role("row", name=re.compile("^cat")).get_by_role("cell").first).to_have_class("best")


@pytest.mark.parametrize("theme", THEMES)
def test_many_classes_are_accessible_and_fit_a_narrow_screen(opened: Open, classified: str, theme: str) -> None:
    page = opened(f"/jobs/{classified}", color_scheme=theme, viewport=NARROW)
    expect(page.get_by_role("grid")).to_be_visible()

    assert page.evaluate("document.documentElement.scrollWidth") == NARROW["width"]
    assert violations(page) == []


def test_keys_lead_through_the_rows_to_the_search_and_to_their_help(opened: Open, contents: Contents) -> None:
    del contents
    page = opened("/")
    expect(page.get_by_role("table")).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(page.locator(".jobs tbody tr").first.get_by_role("link").first).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox").first).to_be_focused()
    page.keyboard.type("j?")
    expect(page.get_by_role("searchbox").first).to_have_value("j?")

    page.get_by_role("heading", level=1).click()
    page.keyboard.press("?")
    assert violations(page) == []
    page.get_by_label("Use these keys").uncheck()
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox").first).not_to_be_focused()


def test_the_place_in_the_queue_is_shown_while_a_job_waits(opened: Open, site: Site) -> None:
    running = [site.submit(planned=1, of=2, wait=True) for _ in range(4)]  # LOCAL_JOB_LIMIT
    waiting = [site.submit(planned=0) for _ in range(2)]
    page = opened(f"/jobs/{waiting[1]}")
    banner = page.locator(".banner")

    expect(banner).to_have_text(re.compile(r"\d+(st|nd|rd|th) of \d+ in the queue\. Waits for a free slot"))
    for job_id in [*running, *waiting]:
        site.call("POST", f"/v1/jobs/{job_id}/cancel", json={})
    expect(page.locator("p.facts")).to_contain_text("Cancelled")


def test_what_differs_from_the_defaults_is_marked(opened: Open, contents: Contents, site: Site) -> None:
    del contents
    page = opened(f"/jobs/{site.submit(spec={'framework': 'preset', 'epochs': 7}, planned=0)}")
    row = page.get_by_role("region", name="Settings").get_by_role("row").filter(has_text="epochs")

    expect(row.get_by_role("cell")).to_have_text(["7 (differs)", "100"])
