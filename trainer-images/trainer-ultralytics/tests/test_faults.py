"""A trainer with killed processes, refusals, and unreachable functions or storage."""

import csv
import io
import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures_functions import Response
from fixtures_storage import eventually
from fixtures_trainer import ROOT, Trainer
from small_datasets import dataset

UNHURRIED: dict[str, str | None] = {"EPOCHS": "500", "HEARTBEAT_SECONDS": "1"}


def reported_epochs(trainer: Trainer) -> list[int]:
    return [beat["epoch"] for beat in trainer.functions.bodies("heartbeat") if "epoch" in beat]


def test_after_sigkill_a_second_process_goes_on_from_the_last_checkpoint(trainer: Trainer) -> None:
    trainer.upload(dataset())
    first = trainer.start(EPOCHS="3")
    eventually(lambda: trainer.stored("checkpoints/job-{id}/last.pt"))
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = len(trainer.functions.calls)

    assert trainer.run(EPOCHS="3") == 0, trainer.output

    assert "Resuming training" in trainer.output
    later = [call.body["epoch"] for call in trainer.functions.calls[before:] if "epoch" in call.body]
    assert later[0] > 1
    assert later[-1] == 3
    table = trainer.stored("results/job-{id}/metrics.csv")
    assert table is not None
    assert [int(row["epoch"]) for row in csv.DictReader(io.StringIO(table.decode()))] == [1, 2, 3]


def test_a_job_whose_epochs_are_all_done_only_ends(trainer: Trainer) -> None:
    trainer.upload(dataset())
    assert trainer.run() == 0, trainer.output
    before = len(trainer.functions.calls)

    assert trainer.run() == 0, trainer.output

    done = trainer.functions.calls[-1]
    assert (done.name, done.body["status"]) == ("done", "SUCCEEDED")
    assert "metrics/mAP50(B)" in done.body["metrics"]
    assert not any(call.body.get("epoch") == 1 for call in trainer.functions.calls[before:] if call.name == "heartbeat")


def test_sigterm_while_a_checkpoint_is_written_stores_the_one_before(trainer: Trainer, tmp_path: Path) -> None:
    script = tmp_path / "cut.py"
    script.write_text(f"""
import os, pathlib, runpy, signal
write_bytes, written = pathlib.Path.write_bytes, []
def cut(path, content):
    written.append(path.name)
    if written.count("last.pt") < 3:
        return write_bytes(path, content)
    with path.open("wb") as file:
        file.write(content[: len(content) // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGTERM)
pathlib.Path.write_bytes = cut
runpy.run_path({str(ROOT / "train.py")!r}, run_name="__main__")
""")
    trainer.upload(dataset())

    assert trainer.run(UNHURRIED, script=str(script), PYTHONPATH=str(ROOT)) == 143, trainer.output

    assert reported_epochs(trainer)[-1] == 2
    content = trainer.stored("checkpoints/job-{id}/last.pt")
    assert content is not None
    assert torch.load(io.BytesIO(content), weights_only=False)["epoch"] == 1  # counted from 0
    assert trainer.stored("checkpoints/job-{id}/best.pt")


def test_sigterm_within_an_epoch_stores_the_checkpoint_and_sends_interrupted(trainer: Trainer) -> None:
    trainer.upload(dataset())
    process = trainer.start(UNHURRIED)
    eventually(lambda: 2 in reported_epochs(trainer))

    process.send_signal(signal.SIGTERM)

    assert process.wait(60) == 143  # the contract kit holds the 30 seconds, on a machine with nothing else to do
    assert trainer.functions.bodies("event", type="interrupted")
    assert not trainer.functions.bodies("done")
    assert trainer.stored("checkpoints/job-{id}/last.pt")
    log = trainer.stored("logs/job-{id}/attempt-1.log")
    assert log is not None
    assert b"exit code 143" in log


def test_sigterm_before_the_training_ends_it_as_well(trainer: Trainer) -> None:
    process = trainer.start(STORAGE_RETRY_SECONDS="60", MINIO_ENDPOINT="http://127.0.0.1:9")
    eventually(lambda: trainer.functions.bodies("event", type="started"))

    process.send_signal(signal.SIGTERM)

    assert process.wait(60) == 143  # the contract kit holds the 30 seconds, on a machine with nothing else to do


def test_an_outage_of_the_functions_loses_no_important_callback(trainer: Trainer) -> None:
    trainer.upload(dataset())
    away = threading.Event()
    responses: list[Response] = [(500, {}), (503, {}), (0, {}), (429, {})]
    trainer.functions.respond = lambda _call, _body: (
        responses[len(trainer.functions.calls) % 4] if away.is_set() else None
    )
    process = trainer.start(EPOCHS="4")
    eventually(lambda: trainer.functions.bodies("event", type="started"))
    away.set()
    eventually(lambda: sum(call.status != 200 for call in trainer.functions.calls) >= 4)
    away.clear()

    assert process.wait(90) == 0, trainer.output

    assert trainer.functions.bodies("event", type="checkpoint")
    assert reported_epochs(trainer)[-1] == 4
    assert trainer.functions.bodies("done", status="SUCCEEDED")
    ids: dict[str, set[str]] = {}
    for call in trainer.functions.calls:
        ids.setdefault(call.headers["ce-id"], set()).add(str(call.body))
    assert all(len(bodies) == 1 for bodies in ids.values())  # tried again with the same id, it is the same call


@pytest.mark.parametrize("status", [409, 404])
def test_a_refused_heartbeat_stops_the_training_without_done(trainer: Trainer, status: int) -> None:
    trainer.upload(dataset())

    def refuse(call: str, body: dict[str, Any]) -> Response | None:
        return (status, {"state": "CANCELLED"}) if call == "heartbeat" and body.get("epoch") else None

    trainer.functions.respond = refuse

    assert trainer.run(UNHURRIED) == 0, trainer.output

    assert not trainer.functions.bodies("done")


def test_a_storage_that_is_away_at_the_start_is_no_fault_of_the_job(trainer: Trainer) -> None:
    assert trainer.run(STORAGE_RETRY_SECONDS="2", MINIO_ENDPOINT="http://127.0.0.1:9") == 74, trainer.output

    assert not trainer.functions.bodies("done")


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"EPOCHS": "many"}, "EPOCHS"),
        ({"LEARNING_RATE": "900"}, "LEARNING_RATE"),
        ({"HEARTBEAT_SECONDS": "often"}, "HEARTBEAT_SECONDS"),
        ({"SCRATCH_DIR": "/dev/null/here", "TRACE_ID": "mine"}, "TRACE_ID"),
        ({"MINIO_SECRET_KEY": None}, "MINIO_SECRET_KEY"),
        ({"TASK": "predict"}, "predict.py"),
        ({"MODEL_NAME": "yolo11n.pt"}, "models/yolo11n.pt"),
        ({"MODEL_NAME": "nothing.yaml"}, "nothing.yaml"),
    ],
)
def test_settings_that_cannot_be_used_are_named(trainer: Trainer, variables: dict[str, str | None], named: str) -> None:
    assert trainer.run(variables) == 78, trainer.output

    done = trainer.functions.bodies("done", status="FAILED")[0]
    assert done["error"]["reason"] == "config_invalid"
    assert named in done["error"]["message"]


def test_without_a_job_the_error_is_reported_by_the_exit_code_only(trainer: Trainer) -> None:
    assert trainer.run(JOB_ID=None) == 78

    assert "JOB_ID" in trainer.output
    assert not trainer.functions.calls


@pytest.mark.parametrize(
    "names",
    [
        ["../outside.txt"],
        # One is left out. ultralytics, once imported, changes how Pillow says that it is no image.
        ["images/train/0.png", "images/train/1.png"],
    ],
)
def test_a_hostile_dataset_fails_the_job_with_the_names_of_its_files(trainer: Trainer, names: list[str]) -> None:
    trainer.upload(dataset() | dict.fromkeys(names, b"no image"))

    assert trainer.run() == 65, trainer.output

    done = trainer.functions.bodies("done", status="FAILED")[0]
    assert done["error"]["reason"] == "dataset_invalid"
    assert all(name in done["error"]["message"] for name in names)
    assert json.loads(trainer.stored("results/job-{id}/dataset.json") or b"")["usable"] is False


def test_a_missing_dataset_is_named(trainer: Trainer) -> None:
    assert trainer.run() == 65, trainer.output

    assert f"datasets/{trainer.job_id}.zip" in trainer.functions.bodies("done")[0]["error"]["message"]


@pytest.mark.timeout(300)
def test_a_resumed_training_goes_on_to_more_epochs_than_it_began_with(trainer: Trainer) -> None:
    trainer.upload(dataset())
    first = trainer.start(EPOCHS="3")
    eventually(lambda: trainer.stored("checkpoints/job-{id}/last.pt"), within_seconds=120)
    first.send_signal(signal.SIGKILL)
    first.wait()

    assert trainer.start(EPOCHS="4").wait(150) == 0, trainer.output

    assert reported_epochs(trainer)[-1] == 4
