"""The command `stoker` against a real local stack: jobs, servers, and what it prints."""

import json
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import httpx
import pytest

from client import api
from client.home import read_environment
from tests.fixtures.laptop import Laptop

pytestmark = pytest.mark.timeout(600)


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
    assert laptop.stoker("events", "A Name of its own").code == 0
    assert "did you mean a name of its own?" in laptop.stoker("watch", "a name of his own").err
    several = laptop.stoker("watch", job["id"][:3])
    assert several.code == 1
    assert "is not unique" in several.err


def test_of_several_jobs_with_a_name_the_newest_is_used_and_printed(laptop: Laptop) -> None:
    old = laptop.submitted("--name", "twice")
    laptop.stoker("watch", old["id"])
    new = laptop.submitted("--name", "twice", "--set", "seconds=600")
    ran = laptop.stoker("events", "twice", "--json")

    assert f"2 jobs have the name twice; this is the newest: {new['id']}" in ran.err
    unsure = laptop.stoker("rm", "twice", "--yes")
    assert unsure.code == 1
    assert "twice is not unique" in unsure.err
    assert f"job {new['id']} is CANCELLED" in laptop.stoker("cancel", "twice").out, "the only one that is open"


def test_an_interrupted_watch_prints_how_to_resume_it_and_the_job_continues(laptop: Laptop) -> None:
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


def test_a_link_reads_one_job(laptop: Laptop) -> None:
    job_id = laptop.submitted()["id"]
    ran = laptop.stoker("share", job_id, "--days", "1")
    address, _, token = ran.out.strip().partition("#token=")
    server = address.removesuffix(f"/jobs/{job_id}")
    headers = {"Authorization": f"Bearer {token}"}

    assert address == f"{server}/jobs/{job_id}"
    assert "anyone with this link can view the job until 20" in ran.err
    assert httpx.get(f"{server}/v1/jobs/{job_id}", headers=headers).json()["id"] == job_id
    assert httpx.get(f"{server}/v1/jobs", headers=headers).status_code == 403

    assert laptop.stoker("share", job_id, "--revoke").out == f"all links to job {job_id} are revoked\n"
    assert httpx.get(f"{server}/v1/jobs/{job_id}", headers=headers).status_code == 401


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
    requests: ClassVar[list[dict[str, str]]] = []

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        address = f"http://{self.headers['Host']}"
        self.answer({"device_authorization_endpoint": f"{address}/device", "token_endpoint": f"{address}/token"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        fields = dict(parse_qsl(body))
        self.requests.append(fields)
        if self.path == "/device":
            page = {"user_code": "ABCD-EFGH", "verification_uri": "https://login.example.com/device"}
            self.answer(page | {"device_code": "d", "expires_in": 60, "interval": 0})
        elif fields["grant_type"] == "refresh_token":
            self.answer({"access_token": self.token, "expires_in": 3600})
        elif len(self.requests) < 4:
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
        assert [fields["client_id"] for fields in Issuer.requests] == ["me"] * 4
        assert laptop.stoker("jobs", **other).code == 0
        assert Issuer.requests[-1] == {"grant_type": "refresh_token", "refresh_token": "r", "client_id": "me"}
        issuer.shutdown()


def test_open_prints_the_console_s_address_with_the_token_only_where_no_browser_can_be_opened(laptop: Laptop) -> None:
    variables = laptop.stoker("env", "--json").json
    ran = laptop.stoker("open", "--print")

    assert (ran.code, ran.out.strip()) == (0, f"{variables['STOKER_URL']}/")

    here = laptop.stoker("open")
    assert (here.code, here.out.strip()) == (0, f"{variables['STOKER_URL']}/#token={variables['STOKER_TOKEN']}")
    assert "there is no browser here" in here.err


def test_a_server_without_a_console_is_named(laptop: Laptop) -> None:
    storage = read_environment(Path(laptop.environment["STOKER_HOME"]))["MINIO_ENDPOINT"]
    ran = laptop.stoker("open", "--print", STOKER_URL=storage, STOKER_TOKEN="any")

    assert ran.code == 1
    assert "has no web console" in ran.err


def test_a_dry_run_prints_the_request_and_sends_nothing(laptop: Laptop) -> None:
    (laptop.folder / "job.yaml").write_text("model: stub-1\nframework: stub\nepochs: 3\n")
    before = laptop.newest()
    ran = laptop.stoker("submit", "cats", "-f", "job.yaml", "--epochs", "4", "--dry-run")

    assert ran.json == {"dataset_id": "cats", "epochs": 4, "framework": "stub", "model_name": "stub-1"}
    assert laptop.newest() == before


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
    clone = laptop.stoker("clone", job["id"], "--epochs", "5", "--batch-size", "4", "--model", "stub-2", "--json")
    assert clone.code == 0, clone
    assert (clone.json["cloned_from"], clone.json["model_name"]) == (job["id"], "stub-2")
    assert (clone.json["spec"]["epochs"], clone.json["spec"]["batch_size"]) == (5, 4)
    assert laptop.stoker("clone", job["id"], "--epochs", "6", "--set", "x1=1", "--dry-run").json == {
        "epochs": 6, "hyperparameters": {"x1": 1},
    }  # fmt: skip

    words = ("--unset", "epochs", "-u", "batch-size", "--unset", "x1", "--set", "x2=2", "--epochs", "4", "--name", "b")
    again = laptop.stoker(
        "clone", laptop.stoker("clone", clone.json["id"], "--set", "x1=1", "--json").json["id"], *words, "--json"
    )
    assert again.code == 0, again
    assert again.json["spec"].get("batch_size") is None
    assert again.json["spec"]["epochs"] == 4
    assert again.json["spec"]["hyperparameters"] == clone.json["spec"].get("hyperparameters", {}) | {"x2": 2}
    assert "did you mean epochs?" in laptop.stoker("clone", job["id"], "--unset", "epoch").err

    stopped = laptop.submitted("--set", "seconds=600")
    assert laptop.stoker("resume", stopped["id"]).code == 1
    laptop.stoker("cancel", stopped["id"])
    (laptop.folder / "last").write_bytes(b"checkpoint")
    laptop.put(laptop.folder / "last", f"checkpoints/job-{stopped['id']}/last.pt")
    resumed = laptop.stoker("resume", stopped["id"], "--epochs", "9", "--json")
    assert resumed.code == 0, resumed
    assert (resumed.json["resumed_from"], resumed.json["spec"]["epochs"]) == (stopped["id"], 9)
    laptop.stoker("cancel", resumed.json["id"])
    assert access.server is not None


def test_an_ended_job_is_deleted_after_a_confirmation(laptop: Laptop) -> None:
    job = laptop.submitted()
    laptop.stoker("watch", job["id"])
    unsure = laptop.stoker("rm", job["id"])
    assert unsure.code == 2
    assert "add --yes" in unsure.err

    assert laptop.stoker("rm", job["id"], "--yes").code == 0
    assert laptop.stoker("events", job["id"]).code == 1


def test_several_jobs_are_deleted_and_each_is_printed(laptop: Laptop) -> None:
    jobs = [laptop.submitted() for _ in range(2)]
    for job in jobs:
        laptop.stoker("watch", job["id"])
    running = laptop.submitted("--set", "seconds=600")
    ran = laptop.stoker("rm", "--yes", jobs[0]["id"], running["id"], jobs[0]["id"], jobs[1]["id"])

    assert ran.code == 1
    assert ran.out == "".join(f"job {job['id']} is deleted\n" for job in jobs)
    assert f"job {running['id']} is not deleted: " in ran.err
    laptop.stoker("cancel", running["id"])


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
    option = laptop.stoker("models", "ultralytics", "mosaic")
    assert (option.code, option.out.splitlines()[1].split()[0]) == (0, "mosaic")
    assert option.err == "no model of ultralytics, but an option: --set mosaic=VALUE\n"
    neither = laptop.stoker("models", "ultralytics", "mosaik")
    assert (neither.code, "there is no model or option of ultralytics mosaik" in neither.err) == (2, True)
