"""The command `stoker` against a real local stack: uploads, downloads and predictions."""

import gzip
import random
import shutil
import zipfile
from pathlib import Path

import httpx
import pytest

from client import api, downloads, uploads
from client.artifacts import artifacts_of
from tests.conftest import eventually
from tests.fixtures.laptop import Laptop, images

pytestmark = pytest.mark.timeout(600)
MIB = 1 << 20


def test_a_folder_is_trained_on_by_one_command_and_not_uploaded_twice(laptop: Laptop) -> None:
    images(laptop.folder / "data/größe (1)")
    words = (
        "train",
        "data/größe (1)",
        "--model",
        "stub-1",
        "--framework",
        "stub",
        "--epochs",
        "2",
        "--set",
        "epochs=3",
    )
    first = laptop.stoker(*words, "--name", "first try", "--tag", "night")
    again = laptop.stoker(*words)

    assert first.code == 0, first
    assert "3 images in 2 folders: siamese, tabby" in first.err
    assert "SUCCEEDED" in first.out
    assert "unchanged since its upload" not in first.err
    assert again.code == 0
    assert "dataset größe (1) is unchanged since its upload" in again.err

    rows = laptop.stoker("jobs", "--dataset", "größe (1)", "--json").json["jobs"]
    assert len(rows) == 2, "an upload by the command makes no job by itself"
    assert {row["dataset_etag"] for row in rows} == {rows[0]["dataset_etag"]}
    assert rows[1]["spec"]["epochs"] == 2
    assert rows[1]["name"] == "first try"
    (named,) = laptop.stoker("jobs", "--tag", "night", "--json").json["jobs"]
    assert named["id"] == rows[1]["id"]
    assert not list((laptop.folder / "cache").rglob("*.zip"))


def test_a_changed_folder_is_uploaded_again(laptop: Laptop) -> None:
    images(laptop.folder / "changing")
    before = laptop.stoker("upload", "changing", "--json").json
    (laptop.folder / "changing/tabby/3.jpg").write_bytes(b"new")
    after = laptop.stoker("upload", "changing", "--json").json

    assert before["dataset"] == after["dataset"] == "changing"
    assert before["etag"] != after["etag"]
    (row,) = [row for row in laptop.stoker("datasets", "--json").json["datasets"] if row["name"] == "changing"]
    assert row["etag"].strip('"') == after["etag"]


def test_the_zip_file_of_a_folder_holds_its_files_and_nothing_of_the_systems(laptop: Laptop, access: api.Api) -> None:
    images(laptop.folder / "zipped")
    (laptop.folder / "zipped/.DS_Store").write_bytes(b"x")
    (laptop.folder / "zipped/tabby/link.jpg").symlink_to(laptop.folder / "zipped/tabby/1.jpg")
    (laptop.folder / "zipped/loop").symlink_to(laptop.folder / "zipped")
    archive = uploads._zipped(uploads.source(laptop.folder / "zipped"), "0" * 32, is_quiet=True)

    with zipfile.ZipFile(archive) as opened:
        assert opened.namelist() == ["siamese/1.jpg", "tabby/1.jpg", "tabby/2.jpg", "tabby/link.jpg"]
        assert opened.testzip() is None
    archive.unlink()
    assert access.server is not None


def test_an_upload_that_was_killed_continues_where_it_stopped(laptop: Laptop, access: api.Api) -> None:
    archive = laptop.folder / "large.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("tabby/1.jpg", random.Random(2).randbytes(70 * MIB))
    state = uploads.State(uploads.fingerprint_of(uploads.source(archive)))
    plan = uploads._plan(access, "large", archive.stat().st_size, state, uploads.NO_JOB)
    with archive.open("rb") as file:
        part = file.read(plan.part_bytes)
    assert httpx.put(plan.urls[0], content=part, timeout=120).status_code == 200
    state.upload_id = plan.upload_id
    uploads._remember(uploads._state_file(access, "large"), state)  # as far as a killed command had come

    ran = laptop.stoker("upload", "large.zip")
    assert ran.code == 0, ran
    assert "continuing: 32.0 MiB of 70.0 MiB are uploaded already" in ran.err
    (row,) = [row for row in laptop.stoker("datasets", "--json").json["datasets"] if row["name"] == "large"]
    assert row["bytes"] == archive.stat().st_size


def test_a_killed_upload_is_completed_by_the_same_command(laptop: Laptop) -> None:
    archive = laptop.folder / "killed.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("tabby/1.jpg", random.Random(3).randbytes(100 * MIB))
    known = set((laptop.folder / "configuration/uploads").iterdir())
    started = laptop.start("upload", "killed.zip")
    eventually(lambda: set((laptop.folder / "configuration/uploads").iterdir()) - known or started.poll() is not None)
    started.kill()
    started.communicate()

    assert laptop.stoker("upload", "killed.zip").code == 0
    (row,) = [row for row in laptop.stoker("datasets", "--json").json["datasets"] if row["name"] == "killed"]
    assert row["bytes"] == archive.stat().st_size


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.zip", {"notes.txt": b"x"}, "there are no images in it (but files with .txt)"),
        ("nested.zip", {"cats.zip": b"x"}, "it contains only archives (cats.zip): unpack them first"),
        ("broken.zip", b"PK\3\4 and no more", "this is no complete zip file"),
        ("cats.rar", b"Rar!\x1a\x07 and more", "this is neither a zip nor a tar file: unpack it, and name the folder"),
        ("cut.tar.gz", gzip.compress(b"x" * 9000)[:40], "this is no complete tar file"),
        ("one.jpg", b"\xff\xd8\xff", "this is one image: name the folder of all images"),
        ("empty.zip", b"", "the file is empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # gzip writes the time
)
def test_files_that_cannot_be_trained_on_are_refused_before_the_upload(
    laptop: Laptop, name: str, content: dict[str, bytes] | bytes, message: str
) -> None:
    path = laptop.folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as target:
            for member, data in content.items():
                target.writestr(member, data)
    ran = laptop.stoker("train", name, "--model", "stub-1", "--framework", "stub")

    assert ran.code == 65
    assert ran.err.count("\n") == 1
    assert message in ran.err
    assert "Traceback" not in ran.err


def test_files_are_downloaded_once_and_continued(laptop: Laptop, access: api.Api) -> None:
    job = laptop.submitted()
    laptop.stoker("watch", job["id"])
    content = random.Random(4).randbytes(3 * MIB)
    (laptop.folder / "stored").write_bytes(content)
    for key in ("checkpoints/job-{}/best.pt", "results/job-{}/plots/a.png", "logs/job-{}/attempt-1.log"):
        laptop.put(laptop.folder / "stored", key.format(job["id"]))
    to = laptop.folder / "out"
    ran = laptop.stoker("download", job["id"], "best.pt", "results", "--to", str(to), "--json")

    assert ran.code == 0, ran
    assert sorted(ran.json["files"]) == [str(to / "best.pt"), str(to / "results/plots/a.png")]
    assert (to / "best.pt").read_bytes() == content

    best = to / "checkpoints/best.pt"
    assert laptop.stoker("download", job["id"], "--to", str(to)).code == 0
    written = best.stat().st_mtime_ns
    assert laptop.stoker("download", job["id"], "--to", str(to)).code == 0
    assert best.stat().st_mtime_ns == written
    assert (to / "logs/attempt-1.log").exists()

    newer = random.Random(5).randbytes(3 * MIB)  # of the same size, as a running job's next best.pt
    (laptop.folder / "stored").write_bytes(newer)
    laptop.put(laptop.folder / "stored", f"checkpoints/job-{job['id']}/best.pt")
    url = next(row["url"] for row in artifacts_of(access, job["id"]) if row["key"].endswith("best.pt"))
    part = downloads.part_path(best, httpx.get(url).headers["ETag"])
    part.write_bytes(newer[:MIB])  # as far as a killed download had come
    assert laptop.stoker("download", job["id"], "checkpoints/best.pt", "--to", str(to)).code == 0
    assert best.read_bytes() == newer
    assert not part.exists()

    wrong = laptop.stoker("download", job["id"], "last.pt", "--to", str(to))
    assert wrong.code == 2
    assert "has stored no last.pt; it has best.pt, attempt-1.log, a.png" in wrong.err
    assert access.server is not None


@pytest.fixture(scope="module")
def trained(laptop: Laptop) -> str:
    """Return a training that has stored a best.pt."""
    job = laptop.submitted("--image-size", "128", "--device", "cpu", "--epochs", "7", "--name", "trained")
    laptop.stoker("watch", job["id"])
    weights = laptop.folder / "weights"
    weights.write_bytes(b"weights")
    laptop.put(weights, f"checkpoints/job-{job['id']}/best.pt")
    return str(job["id"])


def test_a_prediction_takes_the_settings_and_weights_of_the_training(laptop: Laptop, trained: str) -> None:
    without = laptop.submitted()
    laptop.stoker("watch", without["id"])
    refused = laptop.stoker("predict", without["id"], "cats")
    assert refused.code == 2
    assert "has stored no best.pt" in refused.err

    job = laptop.stoker("predict", trained, "cats", "--json").json
    wanted = {"image_size": 128, "device": "cpu", "checkpoint_key": f"checkpoints/job-{trained}/best.pt"}
    assert job["task"] == "predict"
    assert {name: job["spec"].get(name) for name in wanted} == wanted
    assert "epochs" not in job["spec"]
    assert [row["file"] for row in job["predictions"]] == ["siamese/1.jpg", "tabby/1.jpg", "tabby/2.jpg"]


def test_a_training_starts_from_the_best_weights_of_another_one(laptop: Laptop, trained: str) -> None:
    weights = f"checkpoints/job-{trained}/best.pt"
    wanted = {"model_name": "stub-1", "framework": "stub", "image_size": 128, "epochs": 3, "checkpoint_key": weights}
    words = ("--from-job", trained, "--epochs", "3", "--json")
    for command in (("train", "cats", "--dataset", "more cats", "--no-watch"), ("submit", "cats"), ("clone", trained)):
        job = laptop.stoker(*command, *words).json
        assert {name: job["spec"].get(name) for name in wanted} == wanted
        assert job["cloned_from"] == (trained if command[0] == "clone" else None)
    changed = laptop.stoker("clone", trained, "--from-job", trained, "--image-size", "64", "--dry-run").json
    assert (changed["image_size"], changed["checkpoint_key"]) == (64, weights)


def test_weights_of_another_model_or_for_a_resumed_job_are_refused(laptop: Laptop, trained: str) -> None:
    other = laptop.stoker("train", "cats", "--from-job", trained, "--model", "stub-2", "--dataset", "never")
    assert (other.code, other.err) == (2, f"stoker: --from-job {trained} starts from its stub-1, not stub-2\n")
    resumed = laptop.stoker("resume", trained, "--from-job", trained)
    assert (resumed.code, f"stoker clone {trained} --from-job {trained}" in resumed.err) == (2, True)
    succeeded = laptop.stoker("resume", trained)
    assert (succeeded.code, f"stoker clone {trained} --from-job {trained} --epochs N" in succeeded.err) == (1, True)


def test_images_of_a_prediction_leave_the_bucket_when_it_is_shown(laptop: Laptop, trained: str) -> None:
    def of_predictions() -> list[str]:
        rows = laptop.stoker("datasets", "--json").json["datasets"]
        return [row["name"] for row in rows if row["name"].startswith("predict-")]

    (laptop.folder / "uploaded").mkdir(exist_ok=True)
    (laptop.folder / "uploaded/1.jpg").write_bytes(b"an image")
    first = laptop.stoker("predict", trained, "uploaded", "--to", "twice")
    again = laptop.stoker("predict", trained, "uploaded", "--to", "twice")
    own = laptop.stoker("upload", "uploaded", "--name", "predict-own")
    named = laptop.stoker("predict", trained, "predict-own")

    assert [ran.code for ran in (first, again, own, named)] == [0, 0, 0, 0]
    assert (laptop.folder / "twice/predictions.jsonl").exists()
    assert of_predictions() == ["predict-own"], "what was not uploaded for the prediction stays"
    assert laptop.stoker("datasets", "delete", "predict-own", "--yes").code == 0


def test_single_images_are_predicted_on_and_saved_by_their_names(laptop: Laptop, trained: str) -> None:
    for name in ("größe (1).png", "b/größe (1).png", "empty.jpg"):
        (laptop.folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (laptop.folder / "photos" / name).write_bytes(b"an image")
    words = ("photos/größe (1).png", "photos/b", "photos/empty.jpg", "--to", "seen")
    ran = laptop.stoker("predict", trained, *words)

    assert ran.code == 0, ran
    table = [line.split("  ") for line in ran.out.splitlines()[-4:]]
    assert [[word.strip() for word in line if word] for line in table] == [
        ["IMAGE", "CLASS", "CONFIDENCE", "BOX (x1, y1, x2, y2)"],
        ["b/größe (1).png", "cat", "0.875", "1, 2, 31, 40"],
        ["empty.jpg", "nothing"],
        ["größe (1).png", "cat", "0.875", "1, 2, 31, 40"],
    ]
    seen = laptop.folder / "seen"
    assert "saved in seen: 4 files" in ran.err
    assert {str(path.relative_to(seen)) for path in seen.rglob("*") if path.is_file()} == {
        "predictions.jsonl", "größe (1).jpg", "b/größe (1).jpg", "empty.jpg",
    }  # fmt: skip
    assert (seen / "b/größe (1).jpg").read_text() == "b/größe (1).png"


def test_only_the_table_is_saved_to_a_jsonl_file(laptop: Laptop, trained: str) -> None:
    ran = laptop.stoker("predict", trained, "cats/tabby/1.jpg", "--to", "a folder/seen.jsonl", "--json")

    assert ran.json["files"] == ["a folder/seen.jsonl"]
    assert '"file": "1.jpg"' in (laptop.folder / "a folder/seen.jsonl").read_text()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere.jpg"], 2, "nowhere.jpg: there is no such folder or file"),
        (["cats/taby/1.jpg"], 2, "there is no folder cats/taby"),
        (["cats/tabby/1.jpeg"], 2, "did you mean cats/tabby/1.jpg?"),
        (["cats/tabby/1.jpg", "notes.txt"], 2, "notes.txt is no image"),
        (["notes.txt"], 65, "neither a zip nor a tar file"),
        (["void.jpg"], 2, "void.jpg is empty"),
        (["catz"], 2, "catz is neither a folder or file here nor an uploaded dataset; did you mean cats?"),
    ],
)
def test_files_that_cannot_be_predicted_on_are_refused_before_the_upload(
    laptop: Laptop, trained: str, words: list[str], code: int, message: str
) -> None:
    (laptop.folder / "notes.txt").write_text("no image")
    (laptop.folder / "void.jpg").write_bytes(b"")
    before = laptop.newest()
    ran = laptop.stoker("predict", trained, *words)

    assert (ran.code, ran.err.count("\n")) == (code, 1)
    assert message in ran.err
    assert laptop.newest() == before


def test_a_prediction_overwrites_no_dataset_of_the_same_name(laptop: Laptop, trained: str) -> None:
    def etag() -> str:
        rows = laptop.stoker("datasets", "--json").json["datasets"]
        return next(str(row["etag"]) for row in rows if row["name"] == "cats")

    before = etag()
    (laptop.folder / "elsewhere/cats").mkdir(parents=True)
    (laptop.folder / "elsewhere/cats/1.jpg").write_bytes(b"another image")

    assert laptop.stoker("predict", trained, "elsewhere/cats").code == 0
    assert etag() == before


def test_a_dataset_is_deleted_unless_an_open_job_uses_it_and_uploaded_again(laptop: Laptop) -> None:
    def names() -> set[str]:
        return {row["name"] for row in laptop.stoker("datasets", "--json").json["datasets"]}

    assert laptop.stoker("upload", "cats", "--name", "kittens").code == 0
    job = laptop.stoker("submit", "kittens", "--model", "stub-1", "--set", "seconds=600", "--json").json
    unsure = laptop.stoker("datasets", "delete", "kittens")
    assert (unsure.code, "add --yes" in unsure.err) == (2, True)
    used = laptop.stoker("datasets", "delete", "kittens", "--yes")
    assert (used.code, f"open jobs use this dataset: {job['id']}" in used.err) == (1, True)
    assert "kittens" in names()

    laptop.stoker("cancel", job["id"])
    ran = laptop.stoker("datasets", "delete", "nobody", "kittens", "--yes")
    assert (ran.code, ran.out) == (1, "dataset kittens is deleted\n")
    assert "dataset nobody is not deleted: there is no dataset 'nobody'" in ran.err
    assert "kittens" not in names()
    assert laptop.stoker("upload", "cats", "--name", "kittens").code == 0
    assert laptop.stoker("datasets", "delete", "kittens", "--yes", "--json").json == {
        "deleted": ["kittens"],
        "errors": [],
    }


@pytest.mark.parametrize("kind", ["tar", "gztar", "bztar", "xztar"])
def test_a_tar_file_is_uploaded_as_it_is(laptop: Laptop, kind: str) -> None:
    path = Path(shutil.make_archive(str(laptop.folder / "packed"), kind, laptop.folder / "cats"))
    ran = laptop.stoker("upload", path.name)

    assert ran.code == 0, ran
    assert "3 images in 2 folders: siamese, tabby" in ran.err
    rows = {row["name"]: row["bytes"] for row in laptop.stoker("datasets", "--json").json["datasets"]}
    assert rows["packed"] == path.stat().st_size


def test_a_named_file_is_saved_directly_in_the_folder(laptop: Laptop, trained: str) -> None:
    ran = laptop.stoker("download", trained, "best.pt", "--to", ".")

    assert (ran.code, ran.out) == (0, "best.pt\n")
    assert (laptop.folder / "best.pt").read_bytes() == b"weights"


def test_a_dataset_that_does_not_fit_the_model_is_refused_before_the_upload(laptop: Laptop) -> None:
    ran = laptop.stoker("train", "cats", "--model", "yolo11n.pt", "--dataset", "never")

    assert ran.code == 2
    assert "use --model yolo11n-cls.pt, or a model of timm, such as resnet18" in ran.err
    assert "never" not in {row["name"] for row in laptop.stoker("datasets", "--json").json["datasets"]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--device", "cuda"), "device: use cpu, mps, or the numbers of GPUs, such as 0,1"),
        (("--gpus", "64"), "gpus: this machine has"),
        (("--tag", "a,b"), "tags"),
    ],
)
def test_a_setting_that_the_server_refuses_is_refused_before_the_upload(
    laptop: Laptop, words: tuple[str, str], message: str
) -> None:
    ran = laptop.stoker("train", "cats", "--model", "stub-1", "--framework", "stub", "--dataset", "never", *words)

    assert (ran.code, message in ran.err) == (1, True), ran
    assert "never" not in {row["name"] for row in laptop.stoker("datasets", "--json").json["datasets"]}


def test_the_trainer_is_known_before_gigabytes_are_uploaded(laptop: Laptop) -> None:
    ran = laptop.stoker("train", "cats", "--model", "no-such-model", "--dataset", "never")

    assert ran.code == 2
    assert "no trainer" in ran.err
    names = [row["name"] for row in laptop.stoker("datasets", "--json").json["datasets"]]
    assert "never" not in names
