"""TASK=check, and check.py on this machine."""

import json
import subprocess
import sys
from pathlib import Path

from fixtures_trainer import ROOT, Trainer
from small_datasets import dataset, zipped


def check(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "check.py"), str(path), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=path.parent)


def test_a_check_stores_the_report_and_nothing_else_and_succeeds(trainer: Trainer) -> None:
    trainer.upload(dataset())

    assert trainer.run(script="check.py", TASK="check", DEVICE=None) == 0, trainer.output

    done = trainer.functions.calls[-1]
    assert (done.name, done.body["status"]) == ("done", "SUCCEEDED")
    assert done.body["metrics"] == {"images/train": 12, "images/val": 6}
    assert done.body["artifacts"] == [f"results/job-{trainer.job_id}/dataset.json"]
    report = json.loads(trainer.stored("results/job-{id}/dataset.json") or b"")
    assert (report["usable"], report["classes"]) == (True, ["tall", "wide"])


def test_a_check_finds_an_option_that_the_training_would_refuse(trainer: Trainer) -> None:
    trainer.upload(dataset())

    assert trainer.run(script="check.py", TASK="check", HYPERPARAMETERS='{"optt": "sgd"}') == 78, trainer.output

    assert "optt" in trainer.functions.calls[-1].body["error"]["message"]


def test_a_check_of_a_dataset_that_cannot_be_used_fails_with_the_report(trainer: Trainer) -> None:
    trainer.upload(dict.fromkeys(dataset(), b"no image"))

    assert trainer.run(script="check.py", TASK="check") == 65, trainer.output

    error = trainer.functions.calls[-1].body["error"]
    assert error["reason"] == "dataset_invalid"
    report = json.loads(trainer.stored("results/job-{id}/dataset.json") or b"")
    assert (report["usable"], report["message"]) == (False, error["message"])


def test_a_file_and_a_folder_of_this_machine_are_checked_without_a_job(tmp_path: Path) -> None:
    file, folder = zipped(dataset(), tmp_path / "cats.zip"), tmp_path / "cats"
    for name, content in dataset().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    for path in (file, folder):
        result = check(path, "--json")
        assert (result.returncode, result.stderr) == (0, "")
        report = json.loads(result.stdout)
        assert (report["dataset"], report["usable"], report["splits"]["val"]["images"]) == (path.name, True, 6)
    assert file.exists()


def test_an_unusable_dataset_exits_with_65_and_a_message(tmp_path: Path) -> None:
    (tmp_path / "cats.zip").write_bytes(b"no archive")

    result = check(tmp_path / "cats.zip")

    assert result.returncode == 65
    assert result.stdout.startswith("cats.zip CANNOT BE USED: ")
