"""Objects in a real storage: the version that was requested, large ones in parts, and what stands in front of it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from fixtures_storage import BUCKET, Bucket
from fixtures_trainer import ROOT, Trainer
from small_datasets import dataset

import storage
import utils
from storage import RefusedError, StorageError
from utils import Contract

PATHS = {"PYTHONPATH": str(ROOT)}
MIB = 1 << 20


@pytest.mark.parametrize("storage_type", ["minio", "presigned"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_dataset_that_was_overwritten_is_not_trained_on(
    trainer: Trainer, storage_type: str, *, is_there: bool
) -> None:
    trainer.upload(dataset())
    etag = trainer.bucket.etag(f"datasets/{trainer.job_id}.zip")
    if is_there:
        trainer.upload(dataset(train=6))
    else:
        trainer.bucket.client.delete_object(Bucket=BUCKET, Key=f"datasets/{trainer.job_id}.zip")

    assert trainer.run(DATASET_ETAG=etag, STORAGE_TYPE=storage_type) == 65, trainer.output

    done = trainer.functions.bodies("done", status="FAILED")[0]
    assert done["error"]["reason"] == "dataset_invalid"
    assert ("was overwritten after this job was made" if is_there else "there is no dataset") in done["error"][
        "message"
    ]
    assert not [beat for beat in trainer.functions.bodies("heartbeat") if "epoch" in beat]


@pytest.mark.parametrize("storage_type", ["minio", "presigned"])
def test_the_version_that_the_job_was_made_for_is_downloaded(
    trainer: Trainer, tmp_path: Path, storage_type: str
) -> None:
    trainer.upload({"a.txt": b"a"})
    etag = trainer.bucket.etag(f"datasets/{trainer.job_id}.zip")
    script = tmp_path / "fetches.py"
    work = "lambda contract: {'bytes': contract.download_dataset().stat().st_size}"
    script.write_text(f"import sys\nfrom utils import run\nsys.exit(run({work}))\n")

    assert trainer.run(PATHS, script=str(script), DATASET_ETAG=etag, STORAGE_TYPE=storage_type) == 0, trainer.output

    assert trainer.functions.bodies("done", status="SUCCEEDED")[0]["metrics"]["bytes"] > 0


def test_a_storage_that_ignores_if_match_is_found_out(
    contract: Contract, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("datasets/d.zip", b"other bytes")
    get = requests.Session.get

    def without_condition(session: requests.Session, url: str, **options: Any) -> requests.Response:
        options["headers"].pop("If-Match", None)
        return get(session, url, **options)

    monkeypatch.setattr(requests.Session, "get", without_condition)

    with pytest.raises(utils.DatasetInvalidError, match="overwritten"):
        contract.download("datasets/d.zip", tmp_path / "d.zip", "0123456789abcdef")


def test_an_object_that_changes_while_it_is_downloaded_is_fetched_anew(
    contract: Contract, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = b"1" * (3 * MIB), b"2" * (2 * MIB)
    bucket.put("models/m.pt", first)
    checks = iter([None])

    def change() -> None:
        if next(checks, 1) is None:
            bucket.put("models/m.pt", second)
            raise OSError("the cable")

    monkeypatch.setattr(contract.storage, "check", change)

    assert contract.download("models/m.pt", tmp_path / "m.pt")

    assert (tmp_path / "m.pt").read_bytes() == second


class Proxy(BaseHTTPRequestHandler):
    """Responds with 404 in HTML, as a proxy that has lost its storage does."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html><h1>404 Not Found</h1></html>")

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/x"
    server.shutdown()
    server.server_close()


def test_a_proxys_404_does_not_mean_that_there_is_no_checkpoint(trainer: Trainer, proxy: str) -> None:
    trainer.functions.links = lambda **_wanted: {"url": proxy}

    assert trainer.run(STORAGE_TYPE="presigned", STORAGE_RETRY_SECONDS="1") == 74, trainer.output

    assert not trainer.functions.bodies("done")


@pytest.mark.parametrize("call", ["GET", "PUT"])
def test_a_job_that_gets_no_more_links_has_ended_and_is_not_failed(trainer: Trainer, tmp_path: Path, call: str) -> None:
    trainer.upload({"a.txt": b"a"})
    script = tmp_path / "transfers.py"
    script.write_text(
        "import sys, utils\n"
        "def train(contract):\n"
        "    contract.save_result(contract.download_dataset())\n"
        "    return {}\n"
        "sys.exit(utils.run(train))\n"
    )
    trainer.functions.respond = lambda name, body: (
        (409, {"state": "CANCELLED"}) if name == "presign" and body["method"] == call else None
    )

    assert trainer.run(PATHS, script=str(script), STORAGE_TYPE="presigned") == 0, trainer.output

    assert not trainer.functions.bodies("done")


@pytest.fixture
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PART_BYTES", 5 * MIB)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.pt"
    path.write_bytes(bytes(range(256)) * (11 * MIB // 256) + b"end")
    return path


@pytest.mark.usefixtures("_small_parts")
def test_a_large_file_is_uploaded_in_parts(contract: Contract, bucket: Bucket, large: Path) -> None:
    contract.save_result(large, kind="checkpoints")

    head = bucket.client.head_object(Bucket=BUCKET, Key="checkpoints/job-j/large.pt")
    assert head["ETag"].strip('"').endswith("-3")
    assert bucket.get("checkpoints/job-j/large.pt") == large.read_bytes()


@pytest.mark.usefixtures("_small_parts")
def test_the_links_of_an_upload_in_parts_are_renewed(
    contract: Contract, bucket: Bucket, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[dict[str, Any]] = []

    def links(**one: Any) -> dict[str, Any]:
        wanted.append(one)
        return bucket.links(**one)

    monkeypatch.setattr(storage, "LINK_SECONDS", 0.0)
    monkeypatch.setattr(contract.storage, "presign", links)

    contract.save_result(large, kind="checkpoints")

    assert len({one.get("upload_id") for one in wanted[1:]}) == 1
    assert len(wanted) == 4
    assert bucket.get("checkpoints/job-j/large.pt") == large.read_bytes()


@pytest.mark.usefixtures("_small_parts")
def test_a_part_that_fails_is_sent_again_and_an_upload_that_is_refused_is_given_up(
    contract: Contract, bucket: Bucket, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, failures = requests.Session.put, iter([requests.ConnectionError("the cable"), None])

    def broken(session: requests.Session, url: str, **options: Any) -> requests.Response:
        if error := next(failures, None):
            raise error
        return put(session, url, **options)

    monkeypatch.setattr(requests.Session, "put", broken)
    contract.save_result(large, kind="checkpoints")
    assert bucket.get("checkpoints/job-j/large.pt") == large.read_bytes()

    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise RefusedError("403 AccessDenied")

    monkeypatch.setattr(requests.Session, "put", refuse)
    with pytest.raises(StorageError, match="403"):
        contract.save_result(large, kind="checkpoints")
    assert not bucket.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_with_credentials_large_files_go_in_parts_too(trainer: Trainer, tmp_path: Path, large: Path) -> None:
    script = tmp_path / "stores.py"
    script.write_text(
        "import pathlib, storage, sys, utils\n"
        "storage.PART_BYTES = 5 << 20\n"
        "def train(contract):\n"
        f"    contract.save_result(pathlib.Path({str(large)!r}), kind='checkpoints')\n"
        "    return {}\n"
        "sys.exit(utils.run(train))\n"
    )

    assert trainer.run(PATHS, script=str(script)) == 0, trainer.output

    key = f"checkpoints/job-{trainer.job_id}/large.pt"
    assert trainer.bucket.etag(key).endswith("-3")
    assert trainer.bucket.get(key) == large.read_bytes()


@pytest.mark.parametrize("storage_type", ["minio", "presigned"])
def test_an_upload_stops_when_a_newer_file_replaces_it(
    trainer: Trainer, tmp_path: Path, large: Path, storage_type: str
) -> None:
    script = tmp_path / "replaced.py"
    script.write_text(
        "import pathlib, sys, utils\n"
        "def train(contract):\n"
        "    try:\n"
        "        key = contract.key('checkpoints', 'large.pt')\n"
        f"        contract.storage.upload(pathlib.Path({str(large)!r}), key, 1, lambda: 1)\n"
        "    except utils.StorageError as error:\n"
        "        contract.event('log', str(error))\n"
        "    return {}\n"
        "sys.exit(utils.run(train))\n"
    )

    assert trainer.run(PATHS, script=str(script), STORAGE_TYPE=storage_type) == 0, trainer.output

    assert trainer.stored("checkpoints/job-{id}/large.pt") != large.read_bytes()
    assert "a newer one replaces it" in trainer.functions.bodies("event", type="log")[0]["message"]


@pytest.mark.parametrize(("fails", "status"), [("", "SUCCEEDED"), ("raise ValueError('broken')", "FAILED")])
def test_a_marker_in_storage_says_what_done_says(trainer: Trainer, tmp_path: Path, fails: str, status: str) -> None:
    script = tmp_path / "ends.py"
    script.write_text(
        "import sys, utils\n"
        "def train(contract):\n"
        "    result = contract.scratch / 'table.csv'\n"
        "    result.write_text('x')\n"
        "    contract.save_result(result)\n"
        f"    {fails or 'pass'}\n"
        "    return {f'm{number}': number for number in range(501)}\n"
        "sys.exit(utils.run(train))\n"
    )
    trainer.functions.respond = lambda call, _body: (503, {}) if call == "done" else None

    trainer.run(PATHS, script=str(script), DONE_RETRY_SECONDS="1")

    marker = json.loads(trainer.stored("results/job-{id}/done.json") or b"{}")
    body = next(call.body for call in trainer.functions.calls if call.name == "done")
    assert marker == body
    assert (marker["status"], marker["attempt"]) == (status, 1)
    assert marker["artifacts"] == [f"results/job-{trainer.job_id}/table.csv"]


def test_a_job_that_was_cancelled_leaves_no_marker(trainer: Trainer) -> None:
    trainer.functions.respond = lambda call, body: (
        (409, {"state": "CANCELLED"}) if call == "heartbeat" and body.get("epoch") else None
    )

    assert trainer.run(PATHS, script="tests/tiny.py", EPOCHS="200") == 0, trainer.output

    assert trainer.stored("results/job-{id}/done.json") is None
