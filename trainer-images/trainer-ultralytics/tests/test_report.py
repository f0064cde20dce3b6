"""report.json and samples of real trainings of each task, in this process."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures_storage import Bucket
from fixtures_trainer import GOOD
from PIL import Image
from small_datasets import dataset, zipped

import train
import validation
import yolo
from mlflow_tracking import Tracking
from utils import Contract, Settings

LEARNS = '{"mosaic": 0.0, "plots": false, "optimizer": "AdamW", "warmup_epochs": 0, "nbs": 4}'
Learn = Callable[..., "Learned"]


class Learned:
    """A training that has ended, and what it stored."""

    def __init__(self, contract: Contract, bucket: Bucket, metrics: Any) -> None:
        self.contract, self.bucket, self.metrics = contract, bucket, metrics

    def bytes_of(self, name: str) -> bytes:
        content = self.bucket.get(self.contract.key("results", name))
        assert content is not None, name
        return content

    def json(self, name: str) -> Any:
        return json.loads(self.bytes_of(name), parse_constant=pytest.fail)


@pytest.fixture
def learn(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Learn:
    """Train in this process, where ultralytics is prepared already."""
    monkeypatch.setattr(yolo, "prepare", lambda _scratch: None)

    def run(files: dict[str, bytes], **variables: str) -> Learned:
        bucket.put("datasets/d.zip", zipped(files, tmp_path / "d.zip"))
        quick = {"IMAGE_SIZE": "64", "BATCH_SIZE": "4", "WORKERS": "0", "DEVICE": "cpu", "LEARNING_RATE": "0.003"}
        settings, problems = Settings.from_environ(
            {**GOOD, **quick, "JOB_ID": tmp_path.name, "HYPERPARAMETERS": LEARNS, **variables}
        )
        assert not problems
        contract = Contract(settings, Path(mkdtemp(dir=tmp_path)))
        monkeypatch.setattr(contract.storage, "presign", bucket.links)
        return Learned(contract, bucket, train.train(contract))

    return run


@pytest.mark.parametrize(
    ("task", "model", "shape"),
    [
        ("detect", "yolo11n.yaml", None),
        ("segment", "yolo11n-seg.yaml", "polygon"),
        ("pose", "yolo11n-pose.yaml", "keypoints"),
        ("obb", "yolo11n-obb.yaml", "polygon"),
    ],
)
def test_a_training_on_objects_leaves_samples_and_a_report(
    learn: Learn, task: str, model: str, shape: str | None
) -> None:
    learned = learn(dataset("segment" if task == "obb" else task, train=40), MODEL_NAME=model, EPOCHS="6")

    assert not learned.contract._warned
    report = learned.json("report.json")
    assert (report["version"], report["task"], report["model"], report["epochs"]) == (1, task, model, 6)
    assert report["classes"] == ["tall", "wide"]
    assert report["confusion_matrix"]["labels"] == ["tall", "wide", "background"]
    counts = np.array(report["confusion_matrix"]["counts"])
    assert counts[:2].sum(axis=1).tolist() == [2, 2]
    assert counts[2, 2] == 0
    rows = [(row["name"], row["images"], row["instances"]) for row in report["per_class"]]
    assert rows == [("tall", 2, 2), ("wide", 2, 2)]
    assert {"precision", "recall", "f1", "ap50", "ap"} < report["per_class"][0].keys()
    suffix = {"segment": "(M)", "pose": "(P)"}.get(task, "(B)")
    mean = np.mean([row["ap50"] for row in report["per_class"]])
    assert mean == pytest.approx(report["metrics"][f"metrics/mAP50{suffix}"], abs=1e-4)
    assert all(len(report["curves"][name]) == 101 for name in ("confidence", "precision", "recall", "f1"))
    assert all(len(values) == 101 for values in report["curves"]["pr"].values())

    for epoch in (1, 6):
        samples = learned.json(f"samples/epoch-{epoch:04}.json")
        assert (samples["epoch"], samples["task"], samples["classes"]) == (epoch, task, ["tall", "wide"])
        assert [image["name"] for image in samples["images"]] == [f"images/val/{n}.png" for n in range(1000, 1004)]
    for image in samples["images"]:
        content = learned.bytes_of(image["file"])
        assert Image.open(io.BytesIO(content)).size == (image["width"], image["height"]) == (64, 64)
        objects = [*image["truth"], *image["predictions"]]
        assert len(image["truth"]) == 1
        assert all(-0.05 <= number <= 1.05 for one in objects for number in one["box"])
        assert all(shape in one for one in objects) if shape else True
        assert all(0.25 <= one["confidence"] <= 1 for one in image["predictions"])
    page = learned.bytes_of("report.html").decode()
    assert page.count("<img") == 4
    assert 'id="e1"' in page
    assert 'id="e6"' in page
    assert "Confusion matrix" in page


def test_a_training_on_classes_leaves_samples_and_a_report(learn: Learn) -> None:
    learned = learn(dataset("classify", train=40, val=6), MODEL_NAME="yolo11n-cls.yaml", EPOCHS="3")

    assert not learned.contract._warned
    report = learned.json("report.json")
    counts = np.array(report["confusion_matrix"]["counts"])
    assert report["confusion_matrix"]["labels"] == report["classes"] == ["tall", "wide"]
    assert counts.sum(axis=1).tolist() == [3, 3]
    assert 100 * counts.trace() / 6 == pytest.approx(100 * report["metrics"]["metrics/accuracy_top1"], abs=1e-3)
    assert [row["images"] for row in report["per_class"]] == [3, 3]
    assert len(report["curves"]["f1"]) == 101
    samples = learned.json("samples/epoch-0003.json")
    assert len(samples["images"]) == 6
    for image in samples["images"]:
        name = samples["classes"][image["truth"][0]["class"]]
        assert image["name"].startswith(f"val/{name}/")
        first, second = image["predictions"]
        assert first["confidence"] >= second["confidence"]
        assert first["confidence"] + second["confidence"] == pytest.approx(1, abs=1e-3)


def test_an_attempt_after_the_last_epoch_still_leaves_the_whole_report(
    learn: Learn, bucket: Bucket, tmp_path: Path
) -> None:
    files = dataset(train=12)
    first = learn(files, MODEL_NAME="yolo11n.yaml", EPOCHS="2").json("report.json")
    bucket.client.delete_object(Bucket="stoker", Key=f"results/job-{tmp_path.name}/report.json")

    second = learn(files, MODEL_NAME="yolo11n.yaml", EPOCHS="2").json("report.json")

    assert second.keys() == first.keys()
    for name in ("epoch", "epochs", "classes", "per_class", "confusion_matrix"):
        assert second[name] == first[name]


def test_the_best_epoch_is_the_one_whose_metrics_the_best_model_has() -> None:
    rows = [
        {"epoch": str(n), "metrics/mAP50(B)": value, "lr": "1"} for n, value in enumerate(("0.1", "0.25", "0.2"), 1)
    ]

    assert train.epoch_of({"metrics/mAP50(B)": 0.25, "fitness": 7.0}, rows) == 2
    assert train.epoch_of({"metrics/mAP50(B)": 0.4}, rows) == 3


def test_rows_of_a_confusion_matrix_are_labels_and_the_last_one_is_background() -> None:
    import torch
    from ultralytics.utils.metrics import ConfusionMatrix

    matrix = ConfusionMatrix(names={0: "cat", 1: "dog"})
    left, right, far = [0.0, 0.0, 10.0, 10.0], [50.0, 0.0, 60.0, 10.0], [0.0, 50.0, 10.0, 60.0]
    truth = {"cls": torch.tensor([0.0, 0.0, 1.0]), "bboxes": torch.tensor([left, right, far])}
    predictions = {  # a cat that is taken for a dog, a missed cat, a dog, and a dog that is not there
        "cls": torch.tensor([1.0, 1.0, 1.0]),
        "conf": torch.tensor([0.9, 0.8, 0.7]),
        "bboxes": torch.tensor([left, far, [80.0, 80.0, 90.0, 90.0]]),
    }

    matrix.process_batch(predictions, truth, conf=0.25)

    shown = validation.confusion_matrix(matrix.matrix, ["cat", "dog"])["confusion_matrix"]
    assert shown == {"labels": ["cat", "dog", "background"], "counts": [[0, 1, 1], [0, 1, 0], [0, 1, 0]]}


def test_hidden_keypoints_are_left_out() -> None:
    label = {
        "cls": np.array([[0.0]]),
        "bboxes": np.array([[0.5, 0.5, 0.2, 0.4]]),
        "keypoints": np.array([[[0.4, 0.4, 2.0], [0.0, 0.0, 0.0]]]),
    }

    (one,) = validation._truth(label, "pose")

    assert one["keypoints"] == [[0.4, 0.4]]
    assert one["box"] == pytest.approx([0.4, 0.3, 0.2, 0.4])


def test_a_validation_that_cannot_be_read_is_a_warning(contract: Contract) -> None:
    validator = SimpleNamespace(training=False, update_metrics=lambda *_: None, args=SimpleNamespace(task="detect"))
    measured = validation.Measured()

    measured._start(validator)
    validator.update_metrics(["no predictions"], {})

    run = train.Run(contract, Tracking(None, experiment="e", job_id="j"), contract.scratch)
    assert train.results_of(run, measured) == {}
    assert any("lacks the best model's validation" in message for message in contract._warned)


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
def test_predictions_become_shares_of_the_original_image(task: str) -> None:
    import torch

    # an image of 200 x 100, scaled by 0.32 and centred in 64 x 64: 16 rows above and below it are empty
    batch = {"img": torch.zeros(1, 3, 64, 64), "ori_shape": [(100, 200)], "ratio_pad": [((0.32, 0.32), (0, 16))]}
    box, unsure = (
        ([32.0, 32, 32, 16, 0], [10.0, 30, 5, 5, 0]) if task == "obb" else ([16.0, 24, 48, 40], [1.0, 20, 9, 30])
    )
    output = {
        "bboxes": torch.tensor([box, unsure]),
        "conf": torch.tensor([0.9, 0.1]),
        "cls": torch.tensor([1.0, 0.0]),
    }
    if task == "segment":
        masks = torch.zeros(2, 16, 16, dtype=torch.uint8)
        masks[0, 6:11, 4:13] = 1
        output["masks"] = masks
    if task == "pose":
        output["keypoints"] = torch.tensor([[[16.0, 24, 0.9], [48, 40, 0.1]]] * 2)

    (one,) = validation._objects(output, batch, task)

    assert (one["class"], one["confidence"]) == (1, pytest.approx(0.9))
    assert one["box"] == pytest.approx([0.25, 0.25, 0.5, 0.5], abs=0.01)
    if task in {"segment", "obb"}:
        points = np.array(one["polygon"])
        assert len(points) == 4
        assert points.min(axis=0) == pytest.approx([0.25, 0.25], abs=0.01)
        assert points.max(axis=0) == pytest.approx([0.75, 0.75], abs=0.01)
    if task == "pose":
        assert np.ravel(one["keypoints"]) == pytest.approx([0.25, 0.25], abs=0.01)
