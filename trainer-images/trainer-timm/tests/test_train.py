"""Whole trainings, each a real process with a real model."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures_storage import SECRET_KEY
from fixtures_trainer import ROOT, TOKEN, Trainer
from small_datasets import dataset, flat

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


def stored_json(trainer: Trainer, name: str) -> Any:
    content = trainer.stored(f"results/job-{{id}}/{name}")
    assert content is not None, name
    return json.loads(content, parse_constant=pytest.fail)


def checkpoint(trainer: Trainer, name: str = "last.pt") -> dict[str, object]:
    content = trainer.stored(f"checkpoints/job-{{id}}/{name}")
    assert content is not None
    loaded: dict[str, object] = torch.load(io.BytesIO(content), weights_only=True)
    return loaded


def test_a_training_reports_each_epoch_and_leaves_its_results(trainer: Trainer) -> None:
    trainer.upload(dataset())

    assert trainer.run() == 0, trainer.output

    calls = trainer.functions.calls
    assert (calls[0].name, calls[0].body) == ("event", {"type": "started"})
    phases = [body["data"]["phase"] for body in trainer.functions.bodies("event") if "phase" in body.get("data", {})]
    assert phases == PHASES
    beats = trainer.functions.bodies("heartbeat")
    assert [beat["epoch"] for beat in beats if "epoch" in beat] == [1, 2]
    last = trainer.functions.bodies("heartbeat", epoch=2)[0]
    assert {"train/loss", "val/loss", "top1", "top5", "lr"} <= last["metrics"].keys()
    assert last["attempt"] == 1
    done = calls[-1]
    assert (done.name, done.body["status"]) == ("done", "SUCCEEDED")
    assert {"top1", "top5"} <= done.body["metrics"].keys()
    assert [row["epoch"] for row in rows(trainer)] == ["1", "2"]
    for key in done.body["artifacts"]:
        assert trainer.stored(key), key
    stored = {key.partition(f"/job-{trainer.job_id}/")[2] for key in done.body["artifacts"]}
    assert stored == {
        "best.pt", "last.pt", "dataset.json", "metrics.csv", "curves.png", "confusion_matrix.png", "report.json",
        "report.html",
        "samples/epoch-0001.json", "samples/epoch-0002.json", *(f"samples/images/{n:03}.jpg" for n in range(6)),
    }  # fmt: skip
    page = trainer.bucket.client.head_object(Bucket="stoker", Key=f"results/job-{trainer.job_id}/report.html")
    assert page["ContentType"] == "text/html"  # a browser shows it
    assert checkpoint(trainer, "best.pt")["classes"] == ["tall", "wide"]
    assert "weights: none, from scratch" in trainer.output


def test_a_training_leaves_samples_and_a_report_of_its_best_model(trainer: Trainer) -> None:
    trainer.upload(dataset(train=24))

    assert trainer.run(EPOCHS="3") == 0, trainer.output

    report, history = stored_json(trainer, "report.json"), rows(trainer)
    best = max(history, key=lambda row: float(row["top1"]))
    assert (report["version"], report["task"], report["model"]) == (1, "classify", "test_resnet")
    assert (report["epoch"], report["epochs"]) == (int(best["epoch"]), 3)
    assert report["metrics"]["top1"] == pytest.approx(float(best["top1"]), rel=1e-4)
    assert report["confusion_matrix"]["labels"] == report["classes"] == ["tall", "wide"]
    counts = report["confusion_matrix"]["counts"]
    assert [sum(row) for row in counts] == [row["images"] for row in report["per_class"]] == [3, 3]
    assert 100 * (counts[0][0] + counts[1][1]) / 6 == pytest.approx(float(best["top1"]))
    assert {len(report["curves"][name]) for name in ("confidence", "precision", "recall", "f1")} == {101}
    assert report["dataset"]["splits"] == {"train": {"images": 24}, "val": {"images": 6}}
    samples = stored_json(trainer, "samples/epoch-0003.json")
    assert {image["name"] for image in samples["images"]} == {
        f"val/{name}/{number}.png" for name, numbers in (("tall", (1000, 1002, 1004)), ("wide", (1001, 1003, 1005)))
        for number in numbers
    }  # fmt: skip
    for image in samples["images"]:
        assert f"val/{samples['classes'][image['truth'][0]['class']]}/" in image["name"]
        assert sum(one["confidence"] for one in image["predictions"]) == pytest.approx(1, abs=1e-3)
        assert trainer.stored(f"results/job-{{id}}/{image['file']}")


def test_every_line_has_trace_and_job_and_no_secret_and_the_scratch_is_empty(trainer: Trainer) -> None:
    trainer.upload(dataset())

    assert trainer.run(EPOCHS="1") == 0, trainer.output

    log = trainer.stored("logs/job-{id}/attempt-1.log")
    assert log is not None
    for text in (trainer.output, log.decode()):
        for one in text.splitlines():
            assert f"[TRACE:{trainer.trace_id}] job_id={trainer.job_id} " in one
        assert not any(secret in text for secret in (TOKEN, SECRET_KEY, "X-Amz-Signature=", "X-Amz-Credential="))
    assert not list((trainer.folder / "scratch").iterdir())


def test_without_credentials_all_goes_through_presigned_links(trainer: Trainer) -> None:
    trainer.upload(dataset())
    none: dict[str, str | None] = {"MINIO_ENDPOINT": None, "MINIO_ACCESS_KEY": None, "MINIO_SECRET_KEY": None}

    assert trainer.run(none, EPOCHS="1", STORAGE_TYPE="presigned") == 0, trainer.output

    assert trainer.stored("checkpoints/job-{id}/best.pt")
    assert trainer.stored("results/job-{id}/samples/epoch-0001.json")
    assert trainer.stored("results/job-{id}/samples/images/000.jpg")
    assert {body["method"] for body in trainer.functions.bodies("presign")} == {"GET", "PUT"}


@pytest.mark.parametrize(
    "options",
    [
        {"opt": "adamw", "sched": "step", "decay_epochs": 1, "clip_grad": 1.0, "clip_mode": "agc", "layer_decay": 0.7},
        {"mixup": 0.2, "cutmix": 1.0, "mixup_off_epoch": 1, "aa": "rand-m3", "reprob": 0.2, "opt": "lookahead_adam"},
        {"amp": True, "amp_dtype": "bfloat16", "model_ema": True, "grad_accum_steps": 2, "channels_last": True},
        {"in_chans": 1, "bce_loss": True, "smoothing": 0.0, "sched": "plateau", "warmup_epochs": 1, "drop": 0.1},
        {"sched": "none", "no_aug": True, "sched_on_updates": True},
    ],
    ids=lambda options: "-".join(options)[:40],
)
def test_timms_options_do_what_they_say(trainer: Trainer, options: dict[str, object]) -> None:
    trainer.upload(dataset())

    assert trainer.run(HYPERPARAMETERS=json.dumps({"pretrained": False, **options})) == 0, trainer.output

    assert len(rows(trainer)) == 2


def test_a_transformer_takes_the_images_size_and_one_folder_is_split_by_the_seed(trainer: Trainer) -> None:
    trainer.upload(flat())

    assert trainer.run(MODEL_NAME="test_vit", IMAGE_SIZE="64", EPOCHS="1") == 0, trainer.output

    assert [row["images"] for row in stored_json(trainer, "report.json")["per_class"]] == [2, 2]


def test_the_same_seed_is_the_same_training_and_another_is_another(trainer: Trainer) -> None:
    trainer.upload(dataset())
    weights = []
    for seed in ("1", "1", "2"):
        assert trainer.run(SEED=seed, EPOCHS="1", HYPERPARAMETERS='{"pretrained": false, "model_ema": true}') == 0
        weights.append(checkpoint(trainer))
        trainer.bucket.client.delete_object(Bucket="stoker", Key=f"checkpoints/job-{trainer.job_id}/last.pt")

    assert differing(weights[0], weights[1]) == []
    assert differing(weights[0], weights[2])


def differing(one: dict[str, object], other: dict[str, object]) -> list[str]:
    """Return the names of tensors that differ in any bit, of the model, its average and the optimizer."""

    def tensors(content: object, name: str) -> dict[str, torch.Tensor]:
        if isinstance(content, torch.Tensor):
            return {name: content}
        if isinstance(content, dict):
            return {key: value for part in content for key, value in tensors(content[part], f"{name}/{part}").items()}
        return {}

    first, second = tensors(one, ""), tensors(other, "")
    assert first.keys() == second.keys()
    return [name for name in first if not torch.equal(first[name], second[name])]


@pytest.mark.parametrize("with_", ["SIGKILL", "SIGTERM"])
def test_a_training_that_was_killed_and_resumed_ends_with_the_same_bits(trainer: Trainer, with_: str) -> None:
    import signal

    from fixtures_storage import eventually

    options = {"pretrained": False, "opt": "adamw", "model_ema": True, "mixup": 0.2, "hflip": 0.5, "drop": 0.1}
    variables = {"EPOCHS": "4", "WORKERS": "1", "HYPERPARAMETERS": json.dumps(options)}
    trainer.upload(dataset(train=24))
    assert trainer.run(variables) == 0, trainer.output
    whole, report = checkpoint(trainer), stored_json(trainer, "report.json")
    for name in ("last.pt", "best.pt"):
        trainer.bucket.client.delete_object(Bucket="stoker", Key=f"checkpoints/job-{trainer.job_id}/{name}")
    trainer.functions.calls.clear()

    killed = trainer.start(variables)
    eventually(lambda: any(beat.get("epoch") == 2 for beat in trainer.functions.bodies("heartbeat")))
    eventually(lambda: trainer.stored("checkpoints/job-{id}/last.pt"))
    killed.send_signal(getattr(signal, with_))
    assert killed.wait(60) == (-9 if with_ == "SIGKILL" else 143)
    assert 1 <= checkpoint(trainer)["epoch"] < 4  # type: ignore[operator]  # an int
    assert trainer.run(variables) == 0, trainer.output

    assert "resuming after epoch" in trainer.output
    assert checkpoint(trainer)["epoch"] == 4
    assert differing(whole, checkpoint(trainer)) == []
    assert [row["epoch"] for row in rows(trainer)] == ["1", "2", "3", "4"]
    assert stored_json(trainer, "samples/epoch-0001.json")["epoch"] == 1
    assert stored_json(trainer, "report.json") == report
    page = trainer.stored("results/job-{id}/report.html")
    assert page
    epochs = re.findall(r'type="radio" name="epoch" id="e(\d+)"', page.decode())
    assert (epochs[0], epochs[-1]) == ("1", "4")  # the samples of both attempts


def test_two_processes_call_back_as_one(trainer: Trainer) -> None:
    trainer.upload(dataset(val=5))

    assert trainer.run(DEVICE="cpu,cpu") == 0, trainer.output

    assert [beat["epoch"] for beat in trainer.functions.bodies("heartbeat") if "epoch" in beat] == [1, 2]
    assert [call.name for call in trainer.functions.calls].count("done") == 1
    assert len(rows(trainer)) == 2
    assert sum(row["images"] for row in stored_json(trainer, "report.json")["per_class"]) == 6  # each process has 3


def test_weights_of_a_checkpoint_are_loaded_and_a_new_head_is_reported(trainer: Trainer) -> None:
    trainer.upload(dataset(kinds=3))
    assert trainer.run(EPOCHS="1") == 0, trainer.output
    first = f"checkpoints/job-{trainer.job_id}/best.pt"
    trainer.bucket.put("models/mine.pt", trainer.bucket.get(first) or b"")
    trainer.job_id += "b"
    trainer.upload(dataset())

    assert trainer.run(EPOCHS="1", CHECKPOINT_KEY="models/mine.pt") == 0, trainer.output

    assert "weights: models/mine.pt" in trainer.output
    assert "the rest is new" in trainer.output


def test_a_prediction_names_the_likeliest_classes_of_each_image_and_stores_the_first_ones(
    trainer: Trainer, tmp_path: Path
) -> None:
    script = tmp_path / "few.py"
    script.write_text("import sys, predict, utils\npredict.SHOWN = 4\nsys.exit(utils.run(predict.predict))\n")
    trainer.upload(dataset(kinds=3))
    assert trainer.run(EPOCHS="1") == 0, trainer.output
    key = f"checkpoints/job-{trainer.job_id}/best.pt"
    trainer.upload({name.replace("val/", "new/"): content for name, content in dataset(train=0).items()})

    code = trainer.run(
        {"HYPERPARAMETERS": "{}"}, script=str(script), PYTHONPATH=str(ROOT), TASK="predict", CHECKPOINT_KEY=key
    )

    assert code == 0, trainer.output

    content = trainer.stored("results/job-{id}/predictions.jsonl")
    assert content is not None
    lines = [json.loads(line) for line in content.decode().splitlines()]
    assert len(lines) == 6
    for line in lines:
        assert {one["class"] for one in line["top"]} == {"tall", "wide", "square"}
        assert sum(one["probability"] for one in line["top"]) == pytest.approx(1, abs=1e-4)
    keys = [f"results/job-{trainer.job_id}/images/{number:06}.jpg" for number in (1, 2, 3, 4)]
    assert [line.get("image") for line in lines] == [*keys, None, None]
    assert all((trainer.bucket.get(stored) or b"").startswith(b"\xff\xd8") for stored in keys)
    assert trainer.functions.calls[-1].body["metrics"] == {"images": 6}


def test_a_training_reports_its_machine_between_its_epochs_and_apart_from_its_results(
    trainer: Trainer, tmp_path: Path
) -> None:
    script = tmp_path / "often.py"
    script.write_text(
        "import runpy, system_metrics\n"
        "system_metrics.PERIOD_SECONDS = 0.1\n"
        f"runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
    )
    trainer.upload(dataset(train=240))

    assert trainer.run(script=str(script), PYTHONPATH=str(ROOT), HEARTBEAT_SECONDS="0.2") == 0, trainer.output

    beats = [beat for beat in trainer.functions.bodies("heartbeat") if "metrics" in beat]
    assert [beat for beat in beats if "epoch" not in beat and "system/cpu_percent" in beat["metrics"]]
    assert [beat for beat in beats if beat.get("epoch") == 1 and not {"train/loss"} & beat["metrics"].keys()]
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
