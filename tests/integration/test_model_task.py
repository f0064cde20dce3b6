"""``./taskw model``: weights on their way into models/ of the local stack's bucket."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from client.home import write_environment
from infra.local import model
from tests.fixtures.environment import BUCKET


@pytest.fixture
def bucket(s3: Any, s3_server: str, tmp_path: Path, environment: pytest.MonkeyPatch) -> Any:
    """Give the task the test's S3 server as the local stack's, and a folder that it is called from."""
    environment.setenv("STOKER_HOME", str(tmp_path / "home"))
    environment.setenv("CALLED_FROM", str(tmp_path))
    keys = {"MINIO_ACCESS_KEY": "test-key", "MINIO_SECRET_KEY": "test-secret-key", "STORAGE_BUCKET": BUCKET}
    write_environment({"MINIO_ENDPOINT": s3_server, **keys})
    return s3


def test_weights_are_put_under_their_name_and_listed(
    bucket: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "yolo11n.pt").write_bytes(b"PK\3\4" + bytes(2_000))
    bucket.put_object(Bucket=BUCKET, Key="models/job-1/model.onnx", Body=b"of a job")

    assert model.main(["--put", "yolo11n.pt"]) == 0
    assert capsys.readouterr().out == "models/yolo11n.pt (2.0 KiB)\n"
    assert bucket.head_object(Bucket=BUCKET, Key="models/yolo11n.pt")["ContentLength"] == 2_004

    assert model.main([]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["NAME", "yolo11n.pt"]
    assert model.main(["--list", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["models"]
    assert (listed["name"], listed["size_bytes"]) == ("yolo11n.pt", 2_004)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("yolo11n.pt", None, "download yolo11n.pt first"),
        ("yolo11n.onnx", b"onnx", "yolo11n.onnx is no file of weights; use .pt"),
        ("yolo11n.pt", b"", "holds no weights, but nothing"),
        ("yolo11n.pt", b"\n<!DOCTYPE html>", "holds no weights, but a page"),
    ],
)
def test_files_without_weights_are_refused(
    bucket: Any, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, words: str
) -> None:
    if content is not None:
        (Path(os.environ["CALLED_FROM"]) / name).write_bytes(content)

    assert model.main(["--put", name]) == 1

    assert words in capsys.readouterr().err
    assert "Contents" not in bucket.list_objects_v2(Bucket=BUCKET)


def test_without_a_stack_the_command_that_starts_one_is_named(
    tmp_path: Path, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("STOKER_HOME", str(tmp_path / "home"))

    assert model.main(["--list"]) == 1

    assert "./taskw up" in capsys.readouterr().err
