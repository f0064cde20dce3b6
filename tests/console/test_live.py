"""The console while things happen: trainings, changes, an outage, a token that ends."""

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from infra.local import digits
from tests.console.conftest import Open
from tests.console.contents import Contents
from tests.console.screenshots import settled
from tests.console.site import Site

expect.set_options(timeout=60_000)


def dismissed(page: Page, button: str) -> None:
    """Close a dialog by a button, and wait until it is gone: a click before that would not open the next one."""
    page.get_by_role("dialog").get_by_role("button", name=button).click()
    expect(page.locator("dialog")).to_have_count(0)


def epoch(page: Page) -> int:
    """Return the epoch that a job's page shows."""
    text = page.locator("dl.figures dd").first.inner_text()
    return int(re.findall(r"\d+", text)[0]) if re.match(r"\d", text) else 0


def test_a_training_is_watched_from_its_upload_to_its_end(opened: Open, site: Site, tmp_path: Path) -> None:
    page = opened("/?dataset_id=live")
    expect(page.get_by_text("No job matches.")).to_be_visible()
    digits.write_classes(tmp_path / "live.zip")
    metadata = {"framework": "softmax", "model": "softmax", "epochs": "300", "batch-size": "16"}
    stored = {f"stoker-{name}": value for name, value in metadata.items()}
    site.put("datasets/live.zip", (tmp_path / "live.zip").read_bytes(), stored)

    page.get_by_role("link", name="live · softmax").click()
    accuracy = page.get_by_role("figure").filter(has=page.get_by_role("heading", name="accuracy"))
    expect(accuracy.get_by_role("status")).to_have_text(re.compile(r"0\.\d"))
    expect(page.get_by_label("Epochs")).to_be_visible()
    expect(page.locator("p.facts")).to_contain_text("Succeeded", timeout=180_000)
    assert epoch(page) == 300
    expect(page.get_by_role("link", name=re.compile("best.pt"))).to_be_visible()


def test_curves_grow_and_a_zoom_survives_it(opened: Open, site: Site) -> None:
    job_id = site.submit(planned=2000, of=2000, apart=0.2)
    site.wait_for(job_id, "RUNNING", epoch=10)
    page = opened(f"/jobs/{job_id}")
    settled(page)  # what loads later would move the charts
    plot = page.locator(".plot .u-over").first
    box = plot.bounding_box()
    assert box
    page.mouse.move(box["x"] + 20, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 60, steps=5)
    page.mouse.up()
    expect(page.get_by_role("button", name="Show all")).to_be_visible()
    table = page.get_by_role("figure").first
    table.get_by_text("Table").click()
    rows = table.get_by_role("row")
    expect(rows).not_to_have_count(0)
    before, labels = rows.count(), page.locator(".plot canvas").first.evaluate("canvas => canvas.width")

    expect(rows).not_to_have_count(before)
    expect(page.get_by_role("button", name="Show all")).to_be_visible()
    assert page.locator(".plot canvas").first.evaluate("canvas => canvas.width") == labels
    site.call("POST", f"/v1/jobs/{job_id}/cancel", json={})


def test_a_running_job_is_cancelled(opened: Open, site: Site) -> None:
    job_id = site.submit(planned=1, of=5, wait=True)
    site.wait_for(job_id, "RUNNING", epoch=1)
    page = opened(f"/jobs/{job_id}")
    page.get_by_role("button", name="Cancel").click()
    dismissed(page, "Keep it")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the job").click()

    expect(page.locator("p.facts")).to_contain_text("Cancelled")
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    assert site.call("GET", f"/v1/jobs/{job_id}")["state"] == "CANCELLED"


def test_several_jobs_are_cancelled_together(opened: Open, site: Site) -> None:
    ids = [site.submit(spec={"tags": ["together"]}, planned=1, of=5, wait=True) for _ in range(2)]
    page = opened("/?tag=together")
    page.get_by_label("Select all jobs").check()
    page.get_by_role("button", name="Cancel 2 jobs").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel 2 jobs").click()

    expect(page.get_by_role("row").filter(has_text="Cancelled")).to_have_count(2)
    assert {site.call("GET", f"/v1/jobs/{job_id}")["state"] for job_id in ids} == {"CANCELLED"}


def test_a_cancelled_job_is_resumed_from_its_checkpoint_with_more_epochs(opened: Open, site: Site) -> None:
    job_id = site.submit(spec={"epochs": 5}, planned=2, of=5, wait=True)
    site.wait_for(job_id, "RUNNING", epoch=2)
    site.put(f"checkpoints/job-{job_id}/last.pt", b"weights")
    site.call("POST", f"/v1/jobs/{job_id}/cancel", json={})
    page = opened(f"/jobs/{job_id}")
    page.get_by_role("button", name="Resume").click()
    page.get_by_label("Epochs in all").fill("8")
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()

    expect(page.get_by_text(f"continues {job_id}")).to_be_visible()
    resumed = site.call("GET", f"/v1/jobs/{page.url.rpartition('/')[2]}")
    assert (resumed["resumed_from"], resumed["spec"]["epochs"]) == (job_id, 8)
    site.call("POST", f"/v1/jobs/{resumed['id']}/cancel", json={})


def test_a_dataset_is_deleted_once_no_open_job_uses_it(opened: Open, site: Site) -> None:
    site.put("datasets/outworn.zip", b"PK\5\6" + bytes(18), {"job": "none"})
    job_id = site.submit("outworn", planned=1, of=5, wait=True)
    page = opened("/datasets/outworn")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete the dataset").click()
    dialog = page.get_by_role("dialog", name="Delete this dataset?")
    expect(dialog.get_by_role("alert")).to_contain_text(f"open jobs use this dataset: {job_id}")
    site.call("POST", f"/v1/jobs/{job_id}/cancel", json={})
    page.get_by_role("button", name="Delete the dataset").click()

    expect(page).to_have_url(f"{site.address}/datasets")
    expect(page.get_by_role("link", name="digits", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="outworn", exact=True)).to_have_count(0)
    assert site.call("GET", f"/v1/jobs/{job_id}")["dataset_id"] == "outworn"


def test_an_ended_job_is_deleted_after_a_confirmation(opened: Open, site: Site) -> None:
    ids = [site.submit(spec={"tags": ["old"]}, planned=1) for _ in range(3)]
    for job_id in ids:
        site.wait_for(job_id, "SUCCEEDED")
    page = opened(f"/jobs/{ids[0]}")
    page.get_by_role("button", name="Delete").click()
    dismissed(page, "Keep it")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete the job").click()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()

    page.goto(f"{site.address}/?tag=old")
    page.get_by_label("Select all jobs").check()
    page.get_by_role("button", name="Delete 2 jobs").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete 2 jobs").click()
    expect(page.get_by_text("No job matches.")).to_be_visible()
    assert site.call("GET", "/v1/jobs", params={"tag": "old"})["jobs"] == []


def test_name_tags_and_notes_are_changed(opened: Open, site: Site) -> None:
    job_id = site.submit(planned=0)
    page = opened(f"/jobs/{job_id}")
    page.get_by_role("button", name="Edit").click()
    page.get_by_role("textbox", name="Name").fill("a/b")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("name: use a name")
    page.get_by_role("textbox", name="Name").fill("Käfer")
    page.get_by_role("textbox", name="Tags").fill("one, two ,")
    page.get_by_role("textbox", name="Notes").fill("first line\nsecond line")
    page.get_by_role("button", name="Save").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Käfer")
    job = site.call("GET", f"/v1/jobs/{job_id}")
    assert (job["name"], job["tags"], job["notes"]) == ("Käfer", ["one", "two"], "first line\nsecond line")


def test_while_the_functions_do_not_answer_the_page_stays_and_says_so(opened: Open, contents: Contents) -> None:
    page = opened(f"/jobs/{contents.running}")
    heading = page.get_by_role("heading", name="Cats, tonight")
    expect(heading).to_be_visible()
    page.context.set_offline(True)
    expect(page.get_by_text("The functions do not answer")).to_be_visible()
    expect(heading).to_be_visible()

    page.context.set_offline(False)
    expect(page.get_by_text("The functions do not answer")).to_have_count(0)


def test_a_token_comes_in_the_fragment_and_leaves_the_address(opened: Open, site: Site) -> None:
    page = opened("/")
    page.goto(f"{site.address}/compare#token={site.token}")
    expect(page).to_have_url(f"{site.address}/compare")

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API token")).to_be_visible()
    page.goto(f"{site.address}/")
    page.get_by_label("API token").fill("nonsense")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("the token is malformed")
    page.reload()
    expect(page.get_by_role("alert")).to_have_count(0)  # a refused token is not tried again
    page.get_by_label("API token").fill(site.token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()


def test_a_second_tab_is_signed_in_by_the_first(opened: Open, contents: Contents, site: Site) -> None:
    first = opened("/")
    expect(first.get_by_role("heading", name="Jobs")).to_be_visible()
    second = first.context.new_page()
    second.goto(f"{site.address}/jobs/{contents.succeeded}")

    expect(second.get_by_role("heading", name="Cats, larger images")).to_be_visible()


def test_a_job_is_shared_by_a_link_that_reads_it_alone(opened: Open, contents: Contents, site: Site) -> None:
    page = opened(f"/jobs/{contents.succeeded}")
    page.get_by_role("button", name="Share").click()
    dialog = page.get_by_role("dialog", name="Share this job")
    dialog.get_by_label("Valid for").select_option("30 days")
    expect(dialog.get_by_label("Link")).to_have_value(re.compile("#token="))
    expect(dialog.get_by_text("It ends on")).to_be_visible()
    address = dialog.get_by_label("Link").input_value()

    guest = opened("/", token="nobody")
    expect(guest.get_by_label("API token")).to_be_visible()
    guest.goto(address)
    expect(guest.get_by_role("heading", name="Cats, larger images")).to_be_visible()
    expect(guest).to_have_url(f"{site.address}/jobs/{contents.succeeded}")
    expect(guest.get_by_role("region", name="The end of the log")).to_contain_text("epoch 7")
    expect(guest.get_by_role("button", name="confusion_matrix.png")).to_be_visible()
    for name in ("Train again", "Edit", "Delete", "Share"):
        expect(guest.get_by_role("button", name=name).or_(guest.get_by_role("link", name=name))).to_have_count(0)
    expect(guest.get_by_role("navigation", name="Pages")).to_have_count(0)
    guest.get_by_role("link", name="Jobs", exact=True).click()
    expect(guest.get_by_text("This link is for one job.")).to_be_visible()
    guest.get_by_role("link", name="Show it").click()
    expect(guest.get_by_role("heading", name="Cats, larger images")).to_be_visible()
    guest.get_by_role("button", name="Sign in").click()
    expect(guest.get_by_label("API token")).to_be_visible()


def test_links_are_revoked_and_who_has_one_is_told(opened: Open, contents: Contents, site: Site) -> None:
    old = site.call("POST", f"/v1/jobs/{contents.other}/links", json={})["path"]
    guest = opened(old, token="nobody")
    expect(guest.get_by_role("heading", name="Cats, large batch")).to_be_visible()
    page = opened(f"/jobs/{contents.other}")
    page.get_by_role("button", name="Share").click()
    dialog = page.get_by_role("dialog", name="Share this job")
    dialog.get_by_text("Revoke links").click()
    dialog.get_by_role("button", name="Revoke all links to this job").click()
    expect(dialog.get_by_role("status")).to_have_text("All earlier links are revoked; this one is new.")
    guest.reload()

    expect(guest.get_by_role("alert")).to_contain_text("this link to the job was revoked")
    guest.goto(dialog.get_by_label("Link").input_value())
    expect(guest.get_by_role("heading", name="Cats, large batch")).to_be_visible()


def test_a_token_that_may_only_read_sees_no_action(opened: Open, site: Site, contents: Contents, reader: str) -> None:
    page = opened(f"/jobs/{contents.running}", token=reader)
    expect(page.get_by_role("heading", name="Cats, tonight")).to_be_visible()

    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    expect(page.get_by_role("button", name="Edit")).to_have_count(0)

    page.goto(f"{site.address}/datasets/digits")
    expect(page.get_by_role("heading", name="Versions")).to_be_visible()
    expect(page.get_by_role("button")).to_have_text(["Sign out"])
