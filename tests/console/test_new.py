"""From zero in the browser: a dataset by drag and drop, and a job by the form."""

import re
import tarfile
from pathlib import Path

import pytest
from playwright.sync_api import expect

from infra.local import digits
from tests.console.conftest import Open
from tests.console.contents import Contents
from tests.console.site import Site

expect.set_options(timeout=60_000)

#: drops a file of a size: a zip with one image, or nothing but zeros
DROP = """
([name, size]) => {
  const transfer = new DataTransfer();
  const bytes = new Uint8Array(size);
  if (name.endsWith(".zip")) {
    const view = new DataView(bytes.buffer);
    const end = size - 22, entry = end - 51;
    view.setUint32(entry, 0x02014b50, true);
    view.setUint16(entry + 28, 5, true);
    bytes.set(new TextEncoder().encode("a.png"), entry + 46);
    view.setUint32(end, 0x06054b50, true);
    view.setUint32(end + 12, 51, true);
    view.setUint32(end + 16, entry, true);
  }
  transfer.items.add(new File([bytes], name));
  const zone = document.querySelector(".drop");
  zone.dispatchEvent(new DragEvent("dragover", { dataTransfer: transfer, bubbles: true }));
  zone.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
}
"""


def test_a_dropped_dataset_is_trained_on_by_the_form(opened: Open, site: Site, tmp_path: Path) -> None:
    file = tmp_path / "digits (2).zip"
    digits.write_classes(file)
    page = opened("/")
    page.get_by_role("link", name="New job").click()
    expect(page.get_by_label("Framework")).to_have_value("")
    expect(page.get_by_role("region", name="The same as a command")).to_contain_text("Choose a dataset and a model")
    expect(page.get_by_text("stoker submit")).to_have_count(0)
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_label("Name of a dataset in the bucket")).to_have_value("digits (2)")
    page.get_by_label("Framework").select_option("softmax")
    page.get_by_label("Model").fill("softmax")
    page.get_by_label("epochs").fill("5")
    expect(page.get_by_text("stoker submit")).to_have_text(
        "stoker submit 'digits (2)' \\\n  --model softmax \\\n  --framework softmax \\\n  --set epochs=5"
    )
    page.get_by_role("button", name="Start the job").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("digits (2) · softmax")
    expect(page.locator("p.facts")).to_contain_text("Succeeded", timeout=180_000)
    jobs = site.call("GET", "/v1/jobs", params={"dataset_id": "digits (2)"})["jobs"]
    assert [job["id"] for job in jobs] == [page.url.rpartition("/")[2]]  # the upload made no job


def test_a_job_is_trained_again_with_changes(opened: Open, contents: Contents, site: Site) -> None:
    page = opened(f"/jobs/{contents.other}")
    page.get_by_role("link", name="Train again").click()
    expect(page.get_by_label("batch_size")).to_have_value("64")
    page.get_by_role("textbox", name="What the job is called in lists").fill("Dogs")
    page.get_by_label("batch_size").fill("1.5")
    expect(page.get_by_role("alert")).to_have_text("batch_size: use a whole number")
    expect(page.get_by_role("button", name="Start the job")).to_be_disabled()
    page.get_by_label("batch_size").fill("32")
    page.get_by_label("Hyperparameter").first.fill("planned")
    page.get_by_label("Value").first.fill("2")
    page.get_by_role("button", name="Start the job").click()
    expect(page.get_by_role("button", name="Edit")).to_be_visible()

    job = site.call("GET", f"/v1/jobs/{page.url.rpartition('/')[2]}")
    assert (job["spec"]["batch_size"], job["spec"]["hyperparameters"]["planned"]) == (32, 2)
    assert (job["cloned_from"], job["name"]) == (contents.other, "Dogs")


@pytest.mark.usefixtures("contents")
def test_the_framework_that_succeeded_on_the_dataset_is_chosen_and_any_other_stays(opened: Open) -> None:
    page = opened("/new?dataset=digits")
    expect(page.get_by_label("Framework")).to_have_value(re.compile("planned|preset"))
    page.get_by_label("Framework").select_option("softmax")
    page.get_by_label("Model", exact=True).fill("yolo11n.pt")

    expect(page.get_by_label("Framework")).to_have_value("softmax")


def test_a_model_that_one_framework_has_chooses_it(opened: Open) -> None:
    page = opened("/new")
    page.get_by_label("Model", exact=True).fill("yolo11n.pt")

    expect(page.get_by_role("combobox", name="Framework")).to_have_value("ultralytics")


def test_what_the_functions_refuse_is_shown_and_nothing_typed_is_lost(opened: Open, contents: Contents) -> None:
    page = opened(f"/new?from={contents.other}")
    page.get_by_label("Name of a dataset in the bucket").fill("nobody has this")
    page.get_by_role("button", name="Start the job").click()

    expect(page.get_by_role("alert")).to_contain_text("nobody has this")
    expect(page.get_by_label("batch_size")).to_have_value("64")


def test_a_large_dataset_is_dropped_and_stored_in_parts(opened: Open, site: Site) -> None:
    size = 33 * 1024 * 1024
    page = opened("/datasets")
    page.evaluate(DROP, ["large.zip", size])
    page.get_by_label("Name of the dataset").fill("Große Daten")
    page.get_by_role("button", name="Upload 33.0 MiB").click()

    expect(page.get_by_role("row").filter(has_text="Große Daten")).to_contain_text("33.0 MiB", timeout=180_000)
    (stored,) = [one for one in site.call("GET", "/v1/datasets")["datasets"] if one["name"] == "Große Daten"]
    assert stored["bytes"] == size


def test_a_name_that_cannot_be_used_is_explained(opened: Open) -> None:
    page = opened("/datasets")
    page.evaluate(DROP, ["a.zip", 100])
    page.get_by_label("Name of the dataset").fill("a/b")
    page.get_by_role("button", name="Upload 100 B").click()

    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Name of the dataset")).to_have_value("a/b")


def test_a_file_that_can_be_no_dataset_is_refused_at_once_with_what_is_accepted(opened: Open) -> None:
    page = opened("/datasets")
    page.evaluate(DROP, ["Letter.docx", 1000])
    expect(page.get_by_role("alert")).to_have_text(
        "Letter.docx is no archive: use a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz with images in it."
    )
    expect(page.get_by_role("button", name="Upload")).to_have_count(0)

    page.evaluate(DROP, ["cats.zip", 1000])
    expect(page.get_by_role("button", name="Upload 1000 B")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_tar_is_stored_under_its_own_name(opened: Open, site: Site, tmp_path: Path) -> None:
    file = tmp_path / "small digits.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        archive.add(__file__, "a/1.png")
    page = opened("/datasets")
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Upload").click()

    expect(page.get_by_role("row").filter(has_text="small digits")).to_be_visible()
    listed = {one["name"]: one["key"] for one in site.call("GET", "/v1/datasets")["datasets"]}
    assert listed["small digits"] == "datasets/small digits.zip"


@pytest.mark.usefixtures("contents")
def test_a_dataset_is_checked_by_a_trainer(opened: Open) -> None:
    page = opened("/datasets/digits")
    page.get_by_role("button", name="Check").click()
    page.get_by_role("dialog").get_by_label("Framework").select_option("preset")
    page.get_by_role("dialog").get_by_role("button", name="Check it").click()

    expect(page.locator("p.facts")).to_contain_text("check · preset")
    expect(page.locator("p.facts")).to_contain_text("Succeeded")


@pytest.mark.usefixtures("contents")
def test_the_nearest_model_is_offered(opened: Open, site: Site) -> None:
    framework = site.call("GET", "/v1/frameworks")["frameworks"]
    (names,) = [one["models"] for one in framework if one["framework"] == "timm"]
    model = next(name for name in names if not set(name) & set("*?["))
    page = opened("/new?dataset=digits")
    page.get_by_label("Framework").select_option("timm")
    page.get_by_label("Model", exact=True).fill(f"{model}x"[1:])
    page.get_by_text("Did you mean").get_by_role("button", name=model, exact=True).click()

    expect(page.get_by_label("Model", exact=True)).to_have_value(model)


@pytest.mark.usefixtures("contents")
def test_a_reader_is_offered_no_upload_and_no_job(opened: Open, reader: str) -> None:
    page = opened("/datasets", token=reader)
    expect(page.get_by_role("row").filter(has_text="digits").first).to_be_visible()

    expect(page.get_by_role("button", name="choose a file")).to_have_count(0)
    expect(page.get_by_role("link", name="New job")).to_have_count(0)
