"""Whole trainings, each a real process with a real model."""

import csv
import io
import json
import socket
from pathlib import Path

import pytest
from fixtures_storage import SECRET_KEY
from fixtures_trainer import ROOT, TOKEN, Trainer
from small_datasets import dataset, draw

PHASES = [
    "fetching the weights",
    "downloading and unpacking the dataset",
    "checking the dataset",
    "loading the model",
]


def rows(trainer: Trainer) -> list[dict[str, str]]:
    content = trainer.stored("results/job-{id}/metrics.csv")
    assert content is not None
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_a_training_reports_each_epoch_and_leaves_its_results(trainer: Trainer) -> None:
    trainer.upload(dataset())

    assert trainer.run() == 0, trainer.output

    calls = trainer.functions.calls
    assert calls[0].name == "event"
    assert calls[0].body == {"type": "started"}
    phases = [body["data"]["phase"] for body in trainer.functions.bodies("event") if "phase" in body.get("data", {})]
    assert phases == PHASES
    beats = trainer.functions.bodies("heartbeat")
    assert [beat["epoch"] for beat in beats if "epoch" in beat][-1] == 2
    last = trainer.functions.bodies("heartbeat", epoch=2)[0]
    assert {"train/box_loss", "metrics/mAP50(B)"} <= last["metrics"].keys()
    assert last["attempt"] == 1
    done = calls[-1]
    assert (done.name, done.body["status"]) == ("done", "SUCCEEDED")
    assert "metrics/mAP50(B)" in done.body["metrics"]
    assert [row["epoch"].strip() for row in rows(trainer)] == ["1", "2"]
    for key in done.body["artifacts"]:
        assert trainer.stored(key), key
    expected = {"checkpoints/job-{id}/best.pt", "checkpoints/job-{id}/last.pt", "results/job-{id}/args.yaml"}
    assert {key.format(id=trainer.job_id) for key in expected} <= set(done.body["artifacts"])


def test_every_line_has_trace_and_job_and_no_secret(trainer: Trainer) -> None:
    trainer.upload(dataset())

    assert trainer.run(EPOCHS="1") == 0, trainer.output

    log = trainer.stored("logs/job-{id}/attempt-1.log")
    assert log is not None
    for text in (trainer.output, log.decode()):
        for one in text.splitlines():
            assert f"[TRACE:{trainer.trace_id}] job_id={trainer.job_id} " in one
        assert not any(secret in text for secret in (TOKEN, SECRET_KEY, "X-Amz-Signature=", "X-Amz-Credential="))
    assert len(trainer.output) < 40_000  # progress bars are one line each
    assert not list((trainer.folder / "scratch").iterdir())


def test_without_credentials_all_goes_through_presigned_links(trainer: Trainer) -> None:
    trainer.upload(dataset())
    none: dict[str, str | None] = {"MINIO_ENDPOINT": None, "MINIO_ACCESS_KEY": None, "MINIO_SECRET_KEY": None}

    assert trainer.run(none, EPOCHS="1", STORAGE_TYPE="presigned") == 0, trainer.output

    assert trainer.stored("checkpoints/job-{id}/best.pt")
    assert trainer.stored("logs/job-{id}/attempt-1.log")
    assert {body["method"] for body in trainer.functions.bodies("presign")} == {"GET", "PUT"}


@pytest.mark.parametrize(
    ("task", "model", "metric"),
    [
        ("segment", "yolo11n-seg.yaml", "metrics/mAP50(M)"),
        ("pose", "yolo11n-pose.yaml", "metrics/mAP50(P)"),
        ("obb", "yolo11n-obb.yaml", "metrics/mAP50(B)"),
        ("classify", "yolo11n-cls.yaml", "metrics/accuracy_top1"),
    ],
)
def test_other_tasks_train_too(trainer: Trainer, task: str, model: str, metric: str) -> None:
    trainer.upload(dataset("segment" if task == "obb" else task))  # a polygon of four points is a rotated box

    assert trainer.run(EPOCHS="1", MODEL_NAME=model) == 0, trainer.output

    assert metric in trainer.functions.calls[-1].body["metrics"]


def test_a_training_can_start_from_weights_in_storage(trainer: Trainer) -> None:
    trainer.upload(dataset())
    assert trainer.run(EPOCHS="1") == 0, trainer.output
    weights = trainer.stored("checkpoints/job-{id}/best.pt")
    assert weights
    trainer.bucket.put("models/mine.pt", weights)
    trainer.job_id += "-2"
    trainer.upload(dataset())

    assert trainer.run(EPOCHS="1", MODEL_NAME="mine.pt") == 0, trainer.output

    assert "Transferred" in trainer.output


def test_mlflow_gets_params_metrics_and_artifacts(trainer: Trainer, mlflow_server: str) -> None:
    trainer.upload(dataset())

    assert trainer.run(MLFLOW_TRACKING_URI=mlflow_server) == 0, trainer.output

    from mlflow.tracking import MlflowClient

    client = MlflowClient(mlflow_server)
    experiment = client.get_experiment_by_name(trainer.job_id)
    assert experiment
    (kept,) = client.search_runs([experiment.experiment_id])
    assert kept.info.status == "FINISHED"
    assert kept.data.params["epochs"] == "2"
    assert [one.step for one in client.get_metric_history(kept.info.run_id, "metrics/mAP50_B")] == [1, 2]
    assert {"best.pt", "metrics.csv"} <= {one.path for one in client.list_artifacts(kept.info.run_id)}


def test_an_mlflow_that_hangs_or_refuses_does_not_affect_the_training(trainer: Trainer) -> None:
    trainer.upload(dataset())
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never responds
        assert trainer.run(EPOCHS="1", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{silent.getsockname()[1]}") == 0

    assert trainer.functions.bodies("done", status="SUCCEEDED")


def test_predictions_are_written_a_line_an_image(trainer: Trainer) -> None:
    trainer.upload(dataset(train=40))
    options = '{"mosaic": 0.0, "plots": false, "optimizer": "AdamW", "warmup_epochs": 0, "nbs": 4}'
    assert trainer.run(EPOCHS="6", LEARNING_RATE="0.003", HYPERPARAMETERS=options) == 0, trainer.output
    trainer.upload({"a b/ü (1).png": draw(1)[0], "deep/er/2.png": draw(2)[0], "notes.md": b"#"})
    weights = f"checkpoints/job-{trainer.job_id}/best.pt"
    variables = {"TASK": "predict", "CHECKPOINT_KEY": weights, "HYPERPARAMETERS": '{"conf": 0.001}'}

    assert trainer.run(variables, script="predict.py") == 0, trainer.output

    table = trainer.stored("results/job-{id}/predictions.jsonl")
    assert table is not None
    lines = [json.loads(line) for line in table.decode().splitlines()]
    assert [line["file"] for line in lines] == ["a b/ü (1).png", "deep/er/2.png"]
    assert all(trainer.stored(line["image"]) for line in lines)
    assert {"class", "name", "confidence", "xyxy"} == lines[0]["boxes"][0].keys()
    assert lines[0]["boxes"][0]["name"] in {"tall", "wide"}
    done = trainer.functions.calls[-1].body
    assert done["metrics"]["images"] == 2
    assert f"results/job-{trainer.job_id}/predictions.jsonl" in done["artifacts"]


def test_a_prediction_without_weights_says_what_is_missing(trainer: Trainer) -> None:
    trainer.upload(dataset())

    assert trainer.run(TASK="predict", script="predict.py", HYPERPARAMETERS="{}") == 78

    assert "CHECKPOINT_KEY" in trainer.functions.bodies("done")[0]["error"]["message"]


def test_a_training_reports_its_machine_between_its_epochs_and_apart_from_its_results(
    trainer: Trainer, tmp_path: Path
) -> None:
    script = tmp_path / "often.py"
    script.write_text(
        "import runpy, system_metrics\n"
        "system_metrics.PERIOD_SECONDS = 0.1\n"
        f"runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
    )
    trainer.upload(dataset())

    assert trainer.run(script=str(script), PYTHONPATH=str(ROOT), HEARTBEAT_SECONDS="0.2") == 0, trainer.output

    beats = [beat for beat in trainer.functions.bodies("heartbeat") if "metrics" in beat]
    assert [beat for beat in beats if "epoch" not in beat and "system/cpu_percent" in beat["metrics"]]
    assert [beat for beat in beats if beat.get("epoch") == 1 and not {"train/box_loss"} & beat["metrics"].keys()]
    values: dict[str, list[float]] = {}
    for beat in beats:
        for name, value in beat["metrics"].items():
            values.setdefault(name, []).append(value)
    system = {name: column for name, column in values.items() if name.startswith("system/")}
    assert {"system/cpu_percent", "system/ram_bytes", "system/data_wait_percent"} == system.keys()
    assert 0 < max(system["system/cpu_percent"]) <= 100
    assert max(system["system/ram_bytes"]) > 100_000_000
    assert all(0 <= percent <= 100 for percent in system["system/data_wait_percent"])
    assert not [name for name in trainer.functions.bodies("done")[0]["metrics"] if name.startswith("system/")]
