"""The parts of a report that need no training."""

import json
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures_storage import Bucket
from fixtures_trainer import GOOD
from PIL import Image

from reports import Content, SampleImage, Samples, classification, content, previews
from reports.samples import chosen, due_epochs, unchanged_randomness
from utils import Contract, Settings, StorageError


def test_rows_of_a_confusion_matrix_are_labels_and_its_columns_are_predictions() -> None:
    measured = classification.measured([0.9, 0.8, 0.7], [1, 1, 0], [0, 1, 0], ["cat", "dog"])

    assert measured["confusion_matrix"] == {"labels": ["cat", "dog"], "counts": [[1, 1], [0, 1]]}
    assert measured["per_class"] == [
        {"name": "cat", "images": 2, "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)},
        {"name": "dog", "images": 1, "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3)},
    ]


def test_a_class_without_images_and_predictions_has_no_scores() -> None:
    measured = classification.measured([0.9], [0], [0], ["cat", "dog"])

    assert measured["per_class"][1] == {"name": "dog", "images": 0, "precision": None, "recall": None, "f1": None}


def test_curves_are_those_of_the_answers_of_at_least_a_confidence() -> None:
    # one class: right at 0.9, wrong at 0.6, right at 0.3; another class is always right
    curves = classification.measured(
        [0.9, 0.6, 0.3, 0.5, 0.5], [0, 0, 0, 1, 1], [0, 1, 0, 1, 1], ["a", "b"]
    )["curves"]  # fmt: skip
    at = {confidence: index for index, confidence in enumerate(np.round(curves["confidence"], 2))}

    assert curves["precision"][at[0.0]] == pytest.approx((2 / 3 + 1) / 2)
    assert curves["recall"][at[0.0]] == pytest.approx((1 + 2 / 3) / 2)
    assert curves["precision"][at[0.55]] == pytest.approx((1 / 2 + 1) / 2)
    assert curves["recall"][at[0.55]] == pytest.approx((1 / 2 + 0) / 2)
    assert curves["precision"][at[0.7]] == 1
    assert (curves["precision"][-1], curves["recall"][-1], curves["f1"][-1]) == (1, 0, 0)
    assert curves["pr"]["precision"][0] == 1
    assert curves["pr"]["precision"][100] == pytest.approx(2 / 3 / 2)


def test_each_class_gives_a_sample_in_turn_and_images_without_objects_come_last() -> None:
    classes = [[0]] * 50 + [[1]] * 50 + [[2]] + [[]] * 50

    picked = chosen(classes, seed=3)

    assert picked == sorted(picked)
    assert len(picked) == 16
    of_class = [sum(number in classes[index] for index in picked) for number in range(3)]
    assert of_class in ([8, 7, 1], [7, 8, 1])
    assert picked == chosen(classes, seed=3)
    assert picked != chosen(classes, seed=4)
    assert chosen([[]] * 3 + [[0]], seed=0) == [0, 1, 2, 3]
    assert chosen([], seed=0) == []


@pytest.mark.parametrize("epochs", [1, 2, 9, 10, 11, 15, 19, 99, 100, 300])
def test_samples_are_of_the_first_and_the_last_epoch_and_of_at_most_twelve(epochs: int) -> None:
    due = due_epochs(epochs)

    assert {1, epochs} <= due <= set(range(1, epochs + 1))
    assert len(due) <= 12
    assert len(due) >= min(epochs, 6)


class Noted:
    """The contract's side of samples, in memory."""

    def __init__(self, scratch: Path, error: Exception | None = None) -> None:
        self.scratch, self.error = scratch, error
        self.is_stopped = False
        self.stored: list[str] = []
        self.warnings: list[str] = []

    def save_result(self, _path: Path, name: str) -> None:
        if self.error:
            raise self.error
        self.stored.append(name)

    def warn_once(self, message: str) -> None:
        self.warnings.append(message)

    def check(self) -> None:
        pass


class Dice:
    """A source that draws random numbers, and fails if the test says so."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def images(self) -> list[SampleImage]:
        return [SampleImage(f"val/{n}.png", Image.new("RGB", (2000, 1000)), [{"class": n}]) for n in range(2)]

    def predictions(self) -> list[list[dict[str, Any]]]:
        if self.error:
            raise self.error
        random.random()
        np.random.rand()  # noqa: NPY002 -- as frameworks do
        torch.rand(1)
        return [[{"class": 0, "confidence": np.float32(0.5)}], []]


def samples_of(contract: Any, source: Dice) -> Samples:
    return Samples(contract, lambda: source, task="classify", classes=["a", "b"], epochs=2)


def test_images_are_stored_once_and_before_the_predictions(tmp_path: Path) -> None:
    contract = Noted(tmp_path)
    samples = samples_of(contract, Dice())

    for epoch in (1, 2):
        samples.take(epoch, is_last=epoch == 2)
    samples.finish()

    images = ["samples/images/000.jpg", "samples/images/001.jpg"]
    assert contract.stored == [*images, "samples/epoch-0001.json", "samples/epoch-0002.json"]
    stored = json.loads((tmp_path / contract.stored[-1]).read_text())
    assert stored["images"][0] == {
        "file": images[0], "name": "val/0.png", "width": 640, "height": 320,
        "truth": [{"class": 0}], "predictions": [{"class": 0, "confidence": 0.5}],
    }  # fmt: skip
    assert contract.warnings == []


def test_samples_draw_no_random_number(tmp_path: Path) -> None:
    samples = samples_of(Noted(tmp_path), Dice())
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 -- as frameworks do
    torch.manual_seed(1)
    with unchanged_randomness():
        expected = (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: NPY002 -- as above

    samples.take(1, is_last=False)

    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected  # noqa: NPY002 -- as above


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyError("x")])
def test_samples_that_cannot_be_made_are_a_warning(tmp_path: Path, error: Exception) -> None:
    contract = Noted(tmp_path)
    samples = samples_of(contract, Dice(error))

    samples.take(1, is_last=False)
    samples.finish()

    assert len(contract.warnings) == 1
    assert "no samples of epoch 1" in contract.warnings[0]


def test_samples_that_cannot_be_stored_are_warnings(tmp_path: Path) -> None:
    contract = Noted(tmp_path, StorageError("PUT: 503"))
    samples = samples_of(contract, Dice())

    samples.take(1, is_last=True)
    samples.finish()

    assert [warning.partition(" ")[0] for warning in contract.warnings] == [
        "samples/images/000.jpg", "samples/images/001.jpg", "samples/epoch-0001.json",
    ]  # fmt: skip


def test_a_storage_that_hangs_holds_up_no_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contract, goes_on = Noted(tmp_path), threading.Event()
    monkeypatch.setattr(contract, "save_result", lambda _path, _name: goes_on.wait(30))
    monkeypatch.setattr("reports.samples.END_SECONDS", 0.1)
    samples = samples_of(contract, Dice())

    samples.take(1, is_last=False)
    samples.finish()

    assert "too slow" in contract.warnings[0]
    goes_on.set()


def test_samples_cost_a_small_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("reports.samples.time.monotonic", lambda: now[0])
    source = Dice()

    def slow() -> list[list[dict[str, Any]]]:
        now[0] += 3
        return [[], []]

    monkeypatch.setattr(source, "predictions", slow)
    contract: Any = Noted(tmp_path)
    samples = Samples(contract, lambda: source, task="classify", classes=["a"], epochs=10)
    for epoch in range(1, 11):
        now[0] += 40
        samples.take(epoch, is_last=epoch == 10)
    samples.finish()

    epochs = [int(name[-9:-5]) for name in contract.stored if name.endswith(".json")]
    assert epochs == [1, 4, 8, 10]


@pytest.mark.parametrize("mode", ["I;16", "L", "RGB", "P"])
def test_images_are_shown_in_8_bits_over_their_own_range(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.png"
    ramp = np.tile(np.linspace(1_000, 3_000, 256), (16, 1))
    image = Image.fromarray(ramp.astype(np.uint16)) if mode == "I;16" else Image.linear_gradient("L").convert(mode)
    image.save(path)

    pixels = np.asarray(previews.opened(path))

    assert pixels.shape[2] == 3
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_a_large_image_is_shown_at_a_moderate_size(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.new("RGB", (3_000, 1_500)).save(path)

    assert previews.opened(path).size == (640, 320)


def test_an_image_is_shown_upright(tmp_path: Path) -> None:
    path, exif = tmp_path / "image.jpg", Image.Exif()
    exif[0x0112] = 6  # turned to the right
    Image.new("RGB", (40, 20)).save(path, exif=exif)

    assert previews.opened(path).size == (20, 40)


def test_numbers_that_json_lacks_become_null_and_small_ones_stay() -> None:
    values = {"nan": np.nan, "inf": [np.inf], "small": 1.23456789e-7, "count": np.int64(3), "text": "a", "none": None}

    assert content.plain(values) == {
        "nan": None, "inf": [None], "small": 1.23457e-7, "count": 3, "text": "a", "none": None,
    }  # fmt: skip


def test_a_confusion_matrix_of_many_classes_keeps_those_with_the_most_errors() -> None:
    names = [f"class {number}" for number in range(1_000)]
    counts = np.zeros((1_000, 1_000), int)
    np.fill_diagonal(counts, 50)
    counts[700, 3] = 9
    settings, _ = Settings.from_environ(GOOD)
    whole = Content(
        "classify", 1, 1, names, {}, {"confusion_matrix": {"labels": names, "counts": counts.tolist()}}, [], {}
    )

    matrix = whole.as_json(settings)["confusion_matrix"]

    assert len(matrix["labels"]) == len(matrix["counts"]) == 200
    assert matrix["left_out"] == 800
    row, column = matrix["labels"].index("class 700"), matrix["labels"].index("class 3")
    assert matrix["counts"][row][column] == 9


def test_settings_of_a_report_hold_no_secret() -> None:
    secrets = {"CALLBACK_TOKEN": "secret-1", "MLFLOW_TRACKING_URI": "http://user:secret-2@x"}
    settings, _ = Settings.from_environ({**GOOD, **secrets, "EPOCHS": "3"})

    shown = content.chosen_settings(settings)

    assert shown["epochs"] == 3
    assert "secret" not in json.dumps(shown)


def test_a_report_that_cannot_be_stored_is_a_warning(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    import reports

    def refuse(*_: Any) -> None:
        raise StorageError("PUT: 503")

    monkeypatch.setattr(contract, "save_result", refuse)

    assert reports.write(contract, Content("classify", 1, 1, ["a"], {}, {}, [], {})) == []
    assert any("503" in message for message in contract._warned)


def test_a_report_that_cannot_be_made_is_a_warning(contract: Contract) -> None:
    import reports

    broken: Any = {"confusion_matrix": {"labels": None}}

    assert reports.write(contract, Content("classify", 1, 1, ["a"], {}, broken, [], {})) == []
    assert any("no report.json: KeyError" in message for message in contract._warned)


@pytest.mark.parametrize(
    ("name", "content_type"), [("report.html", "text/html"), ("samples/images/000.jpg", "image/jpeg")]
)
def test_a_browser_shows_what_is_stored_through_links(
    contract: Contract, bucket: Bucket, name: str, content_type: str
) -> None:
    path = contract.scratch / "content"
    path.write_bytes(b"<!doctype html>")

    contract.save_result(path, name)

    head = bucket.client.head_object(Bucket="stoker", Key=contract.key("results", name))
    assert head["ContentType"] == content_type
