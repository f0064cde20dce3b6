"""The command `stoker` against a real local stack: uploads, jobs, downloads, and what it says."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qsl

import httpx
import pytest

from client import api, downloads, uploads
from client.artifacts import artifacts_of
from client.home import read_environment
from infra.local import bucket
from tests.conftest import ROOT, eventually

pytestmark = pytest.mark.timeout(600)
MIB = 1 << 20


class Ran(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Laptop(NamedTuple):
    """A user's machine with a running stack."""

    folder: Path
    environment: dict[str, str]

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "client", *words]

    def stoker(self, *words: str, **environment: str) -> Ran:
        ended = subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Ran(ended.returncode, ended.stdout, ended.stderr)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*words),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def submitted(self, *words: str) -> dict[str, Any]:
        """Return a new job on the dataset cats."""
        ran = self.stoker("submit", "cats", "--model", "stub-1", "--framework", "stub", "--json", *words)
        assert ran.code == 0, ran
        job: dict[str, Any] = ran.json
        return job


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    folder = tmp_path_factory.mktemp("a laptop")
    stub = [sys.executable, str(ROOT / "tests/integration/stub_trainer.py")]
    registry = folder / "trainers.json"
    registry.write_text(json.dumps({"stub": {"command": {"train": stub, "predict": stub}, "models": ["stub*"]}}))
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "STOKER_PORTS") if name in os.environ}
    environment = kept | {
        "STOKER_HOME": str(folder / "home"),
        "STOKER_CONFIG": str(folder / "configuration"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "TRAINERS": str(registry),
        "STOP_GRACE_SECONDS": "5",
        "LOCAL_JOB_LIMIT": "8",
        "PYTHONPATH": str(ROOT),
    }
    stack = [sys.executable, "-m", "infra.local.stack"]
    subprocess.run([*stack, "start"], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    machine = Laptop(folder, environment)
    images(folder / "cats")
    ran = machine.stoker("upload", "cats")
    assert ran.code == 0, ran
    yield machine
    subprocess.run([*stack, "stop"], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def access(laptop: Laptop, environment: pytest.MonkeyPatch) -> api.Api:
    """Let this process use the stack, as the command does."""
    for name in ("STOKER_HOME", "STOKER_CONFIG"):
        environment.setenv(name, laptop.environment[name])
    return api.connect()


def images(folder: Path, bytes_of_each: int = 100) -> None:
    """Write a folder of two classes; the trainer does not look at its images."""
    noise = random.Random(1)
    for name in ("tabby/1.jpg", "tabby/2.jpg", "siamese/1.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(noise.randbytes(bytes_of_each))


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
    archive = uploads._zipped(laptop.folder / "zipped", "0" * 32, is_quiet=True)

    with zipfile.ZipFile(archive) as opened:
        assert opened.namelist() == ["siamese/1.jpg", "tabby/1.jpg", "tabby/2.jpg", "tabby/link.jpg"]
        assert opened.testzip() is None
    archive.unlink()
    assert access.server is not None


def test_an_upload_that_was_killed_continues_where_it_stopped(laptop: Laptop, access: api.Api) -> None:
    archive = laptop.folder / "large.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("tabby/1.jpg", random.Random(2).randbytes(70 * MIB))
    state = uploads.State(uploads._fingerprint(archive, uploads.NO_JOB))
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
        ("broken.zip", None, "this is no complete zip file"),
        ("cats.tar.gz", None, "this is no zip file: unpack it, and name the folder"),
    ],
)
def test_what_can_never_be_trained_on_is_refused_before_the_upload(
    laptop: Laptop, name: str, content: dict[str, bytes] | None, message: str
) -> None:
    path = laptop.folder / name
    if content is None:
        path.write_bytes(b"PK\3\4 and no more")
    else:
        with zipfile.ZipFile(path, "w") as target:
            for member, data in content.items():
                target.writestr(member, data)
    ran = laptop.stoker("train", name, "--model", "stub-1", "--framework", "stub")

    assert ran.code == 65
    assert ran.err.count("\n") == 1
    assert message in ran.err
    assert "Traceback" not in ran.err


def test_a_job_is_found_by_the_beginning_of_its_id_by_its_name_and_as_the_last_one(laptop: Laptop) -> None:
    laptop.submitted()
    job = laptop.submitted("--name", "a name of its own")

    for reference in (job["id"], job["id"][:16], "a name of its own"):
        assert laptop.stoker("events", reference, "--json").json["events"][0]["type"] == "PENDING"
    missing = laptop.stoker("watch", "no such job")
    assert (missing.code, missing.err) == (
        1,
        "stoker: no job has the id or the name no such job; stoker jobs lists them\n",
    )
    several = laptop.stoker("watch", job["id"][:3])
    assert several.code == 1
    assert "is not unique" in several.err


def test_a_watcher_that_is_interrupted_says_how_to_come_back_and_the_job_goes_on(laptop: Laptop) -> None:
    job = laptop.submitted("--set", "seconds=600")
    watching = laptop.start("watch", job["id"])
    assert watching.stdout is not None
    while "RUNNING" not in watching.stdout.readline():
        assert watching.poll() is None
    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=60)

    assert watching.returncode == 130
    assert f"detached; job {job['id']} continues. To come back: stoker watch {job['id']}" in errors
    cancelled = laptop.stoker("cancel", job["id"], "--message", "enough")
    assert f"job {job['id']} is CANCELLED" in cancelled.out


def test_names_tags_and_notes_are_changed(laptop: Laptop) -> None:
    job = laptop.submitted()

    assert laptop.stoker("label", job["id"], "--name", "baseline", "--tag", "a", "--tag", "b").code == 0
    (named,) = laptop.stoker("jobs", "--name", "BASEL", "--json").json["jobs"]
    assert (named["id"], named["tags"]) == (job["id"], ["a", "b"])
    assert laptop.stoker("label", job["id"]).code == 2


def test_files_are_downloaded_once_and_continued(laptop: Laptop, access: api.Api) -> None:
    job = laptop.submitted()
    laptop.stoker("watch", job["id"])
    content = random.Random(4).randbytes(3 * MIB)
    (laptop.folder / "stored").write_bytes(content)
    for key in ("checkpoints/job-{}/best.pt", "results/job-{}/plots/a.png", "logs/job-{}/attempt-1.log"):
        bucket.upload(laptop.folder / "stored", key.format(job["id"]), {})
    to = laptop.folder / "out"
    ran = laptop.stoker("download", job["id"], "best.pt", "results", "--to", str(to), "--json")

    assert ran.code == 0, ran
    assert sorted(ran.json["files"]) == [str(to / "checkpoints/best.pt"), str(to / "results/plots/a.png")]
    assert (to / "checkpoints/best.pt").read_bytes() == content

    best = to / "checkpoints/best.pt"
    written = best.stat().st_mtime_ns
    assert laptop.stoker("download", job["id"], "--to", str(to)).code == 0
    assert best.stat().st_mtime_ns == written
    assert (to / "logs/attempt-1.log").exists()

    newer = random.Random(5).randbytes(3 * MIB)  # of the same size, as a running job's next best.pt
    (laptop.folder / "stored").write_bytes(newer)
    bucket.upload(laptop.folder / "stored", f"checkpoints/job-{job['id']}/best.pt", {})
    url = next(row["url"] for row in artifacts_of(access, job["id"]) if row["key"].endswith("best.pt"))
    part = downloads.part_path(best, httpx.get(url).headers["ETag"])
    part.write_bytes(newer[:MIB])  # as far as a killed download had come
    assert laptop.stoker("download", job["id"], "best.pt", "--to", str(to)).code == 0
    assert best.read_bytes() == newer
    assert not part.exists()

    wrong = laptop.stoker("download", job["id"], "last.pt", "--to", str(to))
    assert wrong.code == 2
    assert "has stored no last.pt; it has a.png, attempt-1.log, best.pt" in wrong.err
    assert access.server is not None


def test_a_prediction_takes_the_settings_and_weights_of_the_training(laptop: Laptop, access: api.Api) -> None:
    training = laptop.submitted("--image-size", "128", "--device", "cpu", "--epochs", "7")
    laptop.stoker("watch", training["id"])
    refused = laptop.stoker("predict", training["id"], "cats")
    assert refused.code == 2
    assert "has stored no best.pt" in refused.err

    (laptop.folder / "weights").write_bytes(b"weights")
    bucket.upload(laptop.folder / "weights", f"checkpoints/job-{training['id']}/best.pt", {})
    ran = laptop.stoker("predict", training["id"], "cats", "--json")
    assert ran.code == 0, ran
    job = json.loads(ran.out.splitlines()[-1])
    wanted = {"image_size": 128, "device": "cpu", "checkpoint_key": f"checkpoints/job-{training['id']}/best.pt"}
    assert job["task"] == "predict"
    assert {name: job["spec"].get(name) for name in wanted} == wanted
    assert "epochs" not in job["spec"]
    assert access.server is not None


def test_comparing_jobs_shows_what_differs(laptop: Laptop) -> None:
    first = laptop.submitted("--epochs", "2", "--batch-size", "8")
    second = laptop.submitted("--epochs", "5", "--batch-size", "8", "--set", "x1=0.5")
    for job in (first, second):
        laptop.stoker("watch", job["id"])
    rows = laptop.stoker("compare", first["id"], second["id"], "--json").json["rows"]

    assert rows["epochs"] == ["2", "5"]
    assert rows["x1"] == ["", "0.5"]
    assert "batch_size" not in rows
    assert rows["score"] == ["1", "1"]


def test_variables_for_other_clients_work(laptop: Laptop) -> None:
    variables = laptop.stoker("env", "--json").json
    headers = {"Authorization": f"Bearer {variables['STOKER_TOKEN']}"}

    assert httpx.get(f"{variables['STOKER_URL']}/v1/jobs", headers=headers).status_code == 200
    assert laptop.stoker("env").out.startswith(f"export STOKER_URL={variables['STOKER_URL']}\n")
    assert laptop.stoker("env", "--shell", "powershell").out.startswith("$Env:STOKER_URL = 'http://")
    elsewhere = laptop.stoker("jobs", "--json", STOKER_HOME="/nowhere", **variables)
    assert elsewhere.code == 0, elsewhere


def test_signing_in_checks_the_token_and_the_server_is_used_from_then_on(laptop: Laptop, tmp_path: Path) -> None:
    variables = laptop.stoker("env", "--json").json
    other = {"STOKER_HOME": str(tmp_path / "none"), "STOKER_CONFIG": str(tmp_path / "configuration")}
    url = variables["STOKER_URL"]
    refused = laptop.stoker("login", url, "--token", "wrong", **other)
    assert refused.code == 77
    assert laptop.stoker("jobs", **other).code == 1

    assert laptop.stoker("login", url, "--name", "far", "--token", variables["STOKER_TOKEN"], **other).code == 0
    assert laptop.stoker("jobs", "--json", **other).code == 0
    listed = laptop.stoker("contexts", "--json", **other).json
    assert listed == {"current": "far", "contexts": {"far": url}}
    assert laptop.stoker("contexts", "rm", "far", **other).code == 0
    assert laptop.stoker("jobs", **other).code == 1


class Issuer(BaseHTTPRequestHandler):
    """An OpenID Connect issuer with the device flow: the user confirms at the third question."""

    token = ""
    asked: ClassVar[list[dict[str, str]]] = []

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        address = f"http://{self.headers['Host']}"
        self.answer({"device_authorization_endpoint": f"{address}/device", "token_endpoint": f"{address}/token"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        fields = dict(parse_qsl(body))
        self.asked.append(fields)
        if self.path == "/device":
            page = {"user_code": "ABCD-EFGH", "verification_uri": "https://login.example.com/device"}
            self.answer(page | {"device_code": "d", "expires_in": 60, "interval": 0})
        elif fields["grant_type"] == "refresh_token":
            self.answer({"access_token": self.token, "expires_in": 3600})
        elif len(self.asked) < 4:
            self.answer({"error": "authorization_pending"}, 400)
        else:
            self.answer({"access_token": self.token, "expires_in": 1, "refresh_token": "r"})

    def answer(self, content: dict[str, Any], status: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def test_signing_in_with_a_browser_waits_for_the_user_and_renews_the_token(laptop: Laptop, tmp_path: Path) -> None:
    other = {"STOKER_HOME": str(tmp_path / "none"), "STOKER_CONFIG": str(tmp_path / "configuration")}
    variables = laptop.stoker("env", "--json").json
    Issuer.token = variables["STOKER_TOKEN"]
    with ThreadingHTTPServer(("127.0.0.1", 0), Issuer) as issuer:
        threading.Thread(target=issuer.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{issuer.server_address[1]}"
        ran = laptop.stoker("login", variables["STOKER_URL"], "--issuer", address, "--client-id", "me", **other)

        assert ran.code == 0, ran
        assert "open https://login.example.com/device and confirm the code ABCD-EFGH" in ran.err
        assert [fields["client_id"] for fields in Issuer.asked] == ["me"] * 4
        assert laptop.stoker("jobs", **other).code == 0
        assert Issuer.asked[-1] == {"grant_type": "refresh_token", "refresh_token": "r", "client_id": "me"}
        issuer.shutdown()


def test_open_prints_the_console_s_address_without_the_token(laptop: Laptop) -> None:
    variables = laptop.stoker("env", "--json").json
    ran = laptop.stoker("open", "--print")

    assert (ran.code, ran.out.strip()) == (0, f"{variables['STOKER_URL']}/")


def test_a_server_without_a_console_is_named(laptop: Laptop) -> None:
    storage = read_environment(Path(laptop.environment["STOKER_HOME"]))["MINIO_ENDPOINT"]
    ran = laptop.stoker("open", "--print", STOKER_URL=storage, STOKER_TOKEN="any")

    assert ran.code == 1
    assert "has no web console" in ran.err


def test_a_dry_run_prints_the_request_and_sends_nothing(laptop: Laptop) -> None:
    (laptop.folder / "job.yaml").write_text("model: stub-1\nframework: stub\nepochs: 3\n")
    before = laptop.stoker("jobs", "--limit", "1", "--json").json
    ran = laptop.stoker("submit", "cats", "-f", "job.yaml", "--epochs", "4", "--dry-run")

    assert ran.json == {"dataset_id": "cats", "epochs": 4, "framework": "stub", "model_name": "stub-1"}
    assert laptop.stoker("jobs", "--limit", "1", "--json").json == before


def test_the_log_of_a_trainer_that_stores_none_is_printed_from_where_it_is(laptop: Laptop) -> None:
    job = laptop.submitted()
    laptop.stoker("watch", job["id"])
    ran = laptop.stoker("logs", job["id"])

    assert ran.code == 0, ran
    assert '"CALLBACK_TOKEN"' in ran.out
    assert laptop.stoker("logs", job["id"], "--json").json["lines"] == ran.out.splitlines()
    assert laptop.stoker("logs", job["id"], "--attempt", "7").code == 1


def test_a_followed_log_ends_with_the_job(laptop: Laptop) -> None:
    job = laptop.submitted("--set", "seconds=600")
    following = laptop.start("logs", job["id"], "--follow")
    assert following.stdout is not None
    assert "CALLBACK_TOKEN" in following.stdout.readline()
    laptop.stoker("cancel", job["id"])

    assert following.wait(timeout=60) == 0
    following.communicate()


def test_a_job_is_cloned_with_changes_and_resumed_from_its_checkpoint(laptop: Laptop, access: api.Api) -> None:
    job = laptop.submitted("--epochs", "3")
    laptop.stoker("watch", job["id"])
    clone = laptop.stoker("clone", job["id"], "--set", "epochs=5", "--json")
    assert clone.code == 0, clone
    assert (clone.json["cloned_from"], clone.json["spec"]["epochs"]) == (job["id"], 5)

    stopped = laptop.submitted("--set", "seconds=600")
    assert laptop.stoker("resume", stopped["id"]).code == 1
    laptop.stoker("cancel", stopped["id"])
    (laptop.folder / "last").write_bytes(b"checkpoint")
    bucket.upload(laptop.folder / "last", f"checkpoints/job-{stopped['id']}/last.pt", {})
    resumed = laptop.stoker("resume", stopped["id"], "--set", "epochs=9", "--json")
    assert resumed.code == 0, resumed
    assert (resumed.json["resumed_from"], resumed.json["spec"]["epochs"]) == (stopped["id"], 9)
    laptop.stoker("cancel", resumed.json["id"])
    assert access.server is not None


def test_an_ended_job_is_deleted_after_a_question(laptop: Laptop) -> None:
    job = laptop.submitted()
    laptop.stoker("watch", job["id"])
    unsure = laptop.stoker("rm", job["id"])
    assert unsure.code == 2
    assert "add --yes" in unsure.err

    assert laptop.stoker("rm", job["id"], "--yes").code == 0
    assert laptop.stoker("events", job["id"]).code == 1


def test_an_option_that_the_trainer_does_not_have_is_refused_before_anything_is_sent(laptop: Laptop) -> None:
    frameworks = {each["framework"] for each in laptop.stoker("models", "--json").json["frameworks"]}
    assert {"stub", "timm", "ultralytics"} <= frameworks

    words = ("submit", "cats", "--framework", "ultralytics", "--model", "yolo11n.yaml")
    ran = laptop.stoker(*words, "--set", "mosiac=0", "--dry-run")
    assert ran.code == 2
    assert "did you mean mosaic?" in ran.err
    assert laptop.stoker(*words, "--set", "lr0=0.1", "--dry-run").json["learning_rate"] == 0.1
    assert "mosaic" in laptop.stoker("models", "ultralytics").out
    assert "resnet18" in laptop.stoker("models", "timm", "resnet").out


def test_the_trainer_is_known_before_gigabytes_are_uploaded(laptop: Laptop) -> None:
    ran = laptop.stoker("train", "cats", "--model", "no-such-model", "--dataset", "never")

    assert ran.code == 2
    assert "no trainer" in ran.err
    names = [row["name"] for row in laptop.stoker("datasets", "--json").json["datasets"]]
    assert "never" not in names
