"""report.html: one file that needs nothing else, shows names as text, and stays small."""

import html.parser
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_storage import Bucket
from fixtures_trainer import GOOD
from PIL import Image

import reports
from reports import Content, charts, page, previews, tables
from reports.samples import file_name, of_all_attempts
from utils import Contract, Settings

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"
VOID = {"meta", "img", "input", "br", "link"}


class Parsed(html.parser.HTMLParser):
    """The elements of a page; it fails if they are not properly nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [own for name, own in self.elements if name == tag and attributes.items() <= own.items()]


def history(epochs: int = 3) -> list[dict[str, float]]:
    return [
        {"epoch": n, "train/loss": 1 / n, "val/loss": 1.5 / n, "top1": 90.0 - 1 / n, "lr": 0.1}
        for n in range(1, epochs + 1)
    ]


def samples(folder: Path, names: list[str], *, count: int = 2, epochs: tuple[int, ...] = (1, 3)) -> list[Any]:
    """Write the images of samples, which are noise, and return their content."""
    (folder / "samples/images").mkdir(parents=True, exist_ok=True)
    noise, images = np.random.default_rng(0), []
    for number in range(count):
        file = f"samples/images/{number:03}.jpg"
        pixels = noise.integers(0, 255, (480, 640, 3), dtype=np.uint8)
        (folder / file).write_bytes(previews.jpeg(Image.fromarray(pixels)))
        truth = [{"class": number % len(names), "box": [0.1, 0.2, 0.5, 0.25]}]
        images.append({"file": file, "name": f"{number} {EVIL}.png", "width": 640, "height": 480, "truth": truth})
    predictions = [{"class": 0, "confidence": 0.93, "box": [0.1, 0.2, 0.5, 0.25], "polygon": [[0, 0], [1, 0], [1, 1]]}]
    return [
        {
            "version": 1,
            "epoch": epoch,
            "task": "segment",
            "classes": names,
            "images": [image | {"predictions": predictions} for image in images],
        }
        for epoch in epochs
    ]


def rendered(folder: Path, names: list[str]) -> str:
    settings, _ = Settings.from_environ({**GOOD, "HYPERPARAMETERS": json.dumps({"note": EVIL})})
    dataset = {
        "dataset": f"{EVIL}.zip",
        "classes": names,
        "splits": {"train": {"images": 9, "classes": dict.fromkeys(names, 3)}},
        "guesses": [{"kind": "names", "message": EVIL}],
        "problems": [{"kind": EVIL, "count": 1, "refused": False, "files": [{"file": EVIL, "reason": EVIL}]}],
    }
    steps = np.linspace(0, 1, 101).tolist()
    measured = {
        "confusion_matrix": {"labels": names, "counts": np.ones((len(names), len(names)), int).tolist()},
        "per_class": [{"name": name, "images": 3, "precision": 0.5, "recall": None, "f1": 0.4} for name in names],
        "curves": {
            **dict.fromkeys(("confidence", "precision", "recall", "f1"), steps),
            "pr": {"recall": steps, "precision": steps},
        },
    }
    metrics = {EVIL: 0.5, "top1": 90.0}
    content = Content("segment", 2, 3, names, metrics, measured, history(), dataset, versions={"torch": "2"})
    return page.render(content.as_json(settings), content, samples(folder, names), folder, settings.job_id)


def test_a_page_is_one_file_without_scripts_that_loads_nothing(tmp_path: Path) -> None:
    parsed = Parsed(rendered(tmp_path, ["cat", "dog"]))

    assert not parsed.all("script")
    assert not parsed.all("link")
    assert len(parsed.all("img")) == 2
    for tag, attributes in parsed.elements:
        for name in ("src", "href", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith("data:image/jpeg;base64,"), (tag, value)
        assert not any(name.startswith("on") for name in attributes)
    policy = parsed.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert policy is not None
    assert "default-src 'none'" in policy
    ids = [own["id"] for _, own in parsed.elements if "id" in own]
    assert len(set(ids)) == len(ids)
    assert {own["for"] for own in parsed.all("label")} <= set(ids)


def test_untrusted_names_are_shown_as_text(tmp_path: Path) -> None:
    names = [EVIL, "dog"]

    text = rendered(tmp_path, names)

    parsed = Parsed(text)
    assert "<script" not in text
    assert not [own for own in parsed.all("img") if own.get("src") == "x"]
    assert "49" not in re.findall(r"onerror=alert\(2\)&gt;(\S+)", text)
    whole = "".join(parsed.text)
    assert whole.count("{{ 7 * 7 }}") > 8  # the title, a class, a file, a metric, a setting, warnings


def test_a_page_shows_curves_matrix_classes_samples_dataset_and_settings(tmp_path: Path) -> None:
    parsed = Parsed(rendered(tmp_path, ["cat", "dog"]))

    labels = [str(own["aria-label"]) for own in parsed.all("svg", role="img")]
    assert any(re.match(r"loss by epoch: train from 1 to 0\.3333; validation from 1\.5 to 0\.5", one) for one in labels)
    assert any(one.startswith("precision, recall and F1 by confidence") for one in labels)
    regions = {own["aria-label"] for own in parsed.all("div", role="region")}
    assert regions >= {"Confusion matrix", "Results by class", "Most frequent mistakes", "Metrics of each epoch"}
    assert [own["id"] for own in parsed.all("input", type="radio")] == ["e1", "e3"]
    assert [own["id"] for own in parsed.all("input", type="radio") if "checked" in own] == ["e3"]
    assert len(parsed.all("svg", **{"class": "over of e1"})) == 2
    assert len(parsed.all("polygon")) == 4
    whole = " ".join(" ".join(parsed.text).split())
    assert "the best is epoch 2" in whole
    assert "cat 93%" in whole
    assert "9 images" in whole


def test_a_page_of_a_thousand_classes_and_epochs_and_noisy_images_stays_small(tmp_path: Path) -> None:
    names = [f"species {number}" for number in range(1_000)]
    folder = tmp_path
    settings, _ = Settings.from_environ(GOOD)
    counts = np.random.default_rng(0).integers(0, 3, (1_000, 1_000))
    rows = [{"name": name, "images": 3, "precision": 0.5, "recall": 0.5, "f1": 0.5} for name in names]
    measured = {"confusion_matrix": {"labels": names, "counts": counts.tolist()}, "per_class": rows}
    dataset = {"classes": names, "splits": {"train": {"images": 9, "classes": dict.fromkeys(names, 3)}}}
    whole = Content("segment", 1, 1_000, names, {"top1": 1.0}, measured, history(1_000), dataset)
    shown = samples(folder, names, count=16, epochs=tuple(range(1, 13)))

    text = page.render(whole.as_json(settings), whole, shown, folder, "j")

    assert len(text.encode()) < 3_000_000
    whole_text = " ".join(Parsed(text).text)
    assert "of 1000; report.json has all" in whole_text
    assert "of 1000 epochs; metrics.csv has all" in whole_text


def test_a_page_of_a_training_of_which_little_is_known_is_a_page(tmp_path: Path) -> None:
    settings, _ = Settings.from_environ(GOOD)
    content = Content("detect", 1, 1, [], {"a": math.nan}, {}, [], {})

    parsed = Parsed(page.render(content.as_json(settings), content, [], tmp_path, "j"))

    assert "Settings" in parsed.text
    assert not parsed.all("img")


def test_train_and_validation_of_one_loss_are_in_one_chart() -> None:
    names = [
        "train/box_loss",
        "val/box_loss",
        "metrics/mAP50(B)",
        "metrics/mAP50-95(B)",
        "lr/pg0",
        "top1",
        "top5",
        "time",
    ]
    rows = [{"epoch": float(n), **dict.fromkeys(names, 0.5)} for n in (1, 2)]

    drawn = {chart.title: [curve.name for curve in chart.curves] for chart in charts.of_history(rows)}

    assert drawn == {
        "box loss": ["train", "validation"],
        "mAP of boxes": ["mAP50 of boxes", "mAP50-95 of boxes"],
        "top": ["top1", "top5"],
        "learning rate": ["pg0"],
    }


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.001, 0.0011), (5, 5), (0, 0), (-3, 1e6), (1e-9, 2e-9)])
def test_ticks_are_few_and_enclose_the_values(low: float, high: float) -> None:
    ticks = charts.ticks(low, high)

    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low + 1e-12
    assert ticks[-1] >= high - 1e-12


def test_epochs_are_whole_numbers_and_a_metric_that_is_always_0_starts_there() -> None:
    (chart,) = charts.of_history([{"epoch": 1.0, "top1": 0.0}, {"epoch": 2.0, "top1": 0.0}])

    assert [tick.text for tick in chart.x_ticks] == ["1", "2"]
    assert (chart.y_ticks[0].text, chart.y_ticks[-1].text) == ("0", "1")


def test_gaps_in_a_column_are_no_points() -> None:
    rows = [{"epoch": 1.0, "top1": math.nan}, {"epoch": 2.0}, {"epoch": 3.0, "top1": 0.5}]

    (chart,) = charts.of_history(rows)

    assert len(chart.curves[0].dots) == 1


def test_mistakes_are_ordered_by_their_number() -> None:
    table = tables.mistakes({"labels": ["a", "b"], "counts": [[5, 1], [3, 1]]})

    assert table is not None
    assert [(name, cells[0].text, cells[1].text, cells[2].text) for name, cells in table.rows] == [
        ("b", "a", "3", "75%"),
        ("a", "b", "1", "17%"),
    ]


def test_samples_of_earlier_attempts_are_shown_too(contract: Contract, bucket: Bucket, tmp_path: Path) -> None:
    settings, _ = Settings.from_environ({**GOOD, "JOB_ID": tmp_path.name, "EPOCHS": "3"})
    contract.settings = settings
    earlier, later = samples(tmp_path / "bucket", ["cat"], epochs=(1, 3))
    bucket.put(contract.key("results", file_name(1)), json.dumps(earlier).encode())
    for image in earlier["images"]:
        bucket.put(contract.key("results", image["file"]), tmp_path / "bucket" / image["file"])

    assert [one["epoch"] for one in of_all_attempts(contract)] == [1]
    (contract.scratch / file_name(3)).write_text(json.dumps(later))
    assert [one["epoch"] for one in of_all_attempts(contract)] == [1, 3]
    assert len(page.figures([earlier, later], contract.scratch)) == 2


def test_a_page_that_cannot_be_made_leaves_the_report(
    contract: Contract, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, _ = Settings.from_environ({**GOOD, "JOB_ID": tmp_path.name})
    contract.settings = settings
    monkeypatch.setattr(page, "render", lambda *_: 1 / 0)

    paths = reports.write(contract, Content("detect", 1, 1, [], {}, {}, [], {}))

    assert [path.name for path in paths] == ["report.json"]
    assert bucket.get(contract.key("results", "report.json"))
    assert any("no report.html: ZeroDivisionError" in message for message in contract._warned)
