"""TASK=check, and check.py on this machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures_trainer import ROOT, Trainer
from small_datasets import dataset, zipped


def check(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "check.py"), str(path), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=path.parent)


def bad() -> dict[str, bytes]:
    """Return a dataset with a class that names lacks, in every label."""
    return {name: b"7 0.5 0.5 0.1 0.1\n" if name.endswith(".txt") else content for name, content in dataset().items()}


def test_a_check_stores_the_report_and_nothing_else_and_succeeds(trainer: Trainer) -> None:
    trainer.upload(dataset())

    assert trainer.run(script="check.py", TASK="check", DEVICE=None) == 0, trainer.output

    done = trainer.functions.calls[-1]
    assert (done.name, done.body["status"]) == ("done", "SUCCEEDED")
    assert done.body["metrics"] == {"images/train": 8, "images/val": 4}
    assert done.body["artifacts"] == [f"results/job-{trainer.job_id}/dataset.json"]
    report = json.loads(trainer.stored("results/job-{id}/dataset.json") or b"")
    assert (report["usable"], report["task"], report["classes"]) == (True, "detect", ["tall", "wide"])
    assert trainer.bucket.keys(f"checkpoints/job-{trainer.job_id}/") == []


def test_a_check_of_a_dataset_that_cannot_be_used_fails_with_the_report(trainer: Trainer) -> None:
    trainer.upload(bad())

    assert trainer.run(script="check.py", TASK="check", MODEL_NAME="yolo11n-seg.pt", MODEL_DOWNLOAD="false") == 65

    error = trainer.functions.calls[-1].body["error"]
    assert error["reason"] == "dataset_invalid"
    report = json.loads(trainer.stored("results/job-{id}/dataset.json") or b"")
    assert (report["usable"], report["task"], report["message"]) == (False, "segment", error["message"])


def test_a_file_of_this_machine_is_checked_without_a_job(tmp_path: Path) -> None:
    file = zipped(dataset(), tmp_path / "my cats.zip")

    result = check(file, "--json")

    assert (result.returncode, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert (report["dataset"], report["usable"], report["splits"]["train"]["images"]) == ("my cats.zip", True, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["my cats.zip"]
    assert check(file).stdout.startswith("my cats.zip can be used\n  train: 8 images, ")


def test_an_unusable_dataset_exits_with_65_and_a_message(tmp_path: Path) -> None:
    result = check(zipped(bad(), tmp_path / "cats.zip"))

    assert result.returncode == 65
    assert result.stdout.startswith("cats.zip CANNOT BE USED: ")
    assert "class 7" in result.stdout


def test_a_folder_is_checked_as_if_it_was_uploaded_and_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "cats"
    for name, content in dataset("classify").items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    before = sorted(folder.rglob("*"))

    result = check(folder, "--json")

    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    # Images in folders of classes, and nothing else.
    assert (report["dataset"], report["task"], report["usable"]) == ("cats", "classify", True)
    assert sorted(folder.rglob("*")) == before
    assert check(folder, "--task", "detect").returncode == 65


@pytest.mark.parametrize(("name", "content", "code"), [("none.zip", None, 64), ("a.zip", b"no archive", 65)])
def test_archives_that_are_no_datasets_are_named(tmp_path: Path, name: str, content: bytes | None, code: int) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    result = check(tmp_path / name)

    assert result.returncode == code
    assert name in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
