"""``stoker check``: which trainer checks a dataset, and how its report is printed."""

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from client import dataset_check, local_check
from client.running import run

REPORT: dict[str, Any] = {
    "dataset": "cats.zip", "usable": False, "message": "cats.zip: data.yaml: names is missing", "classes": ["a", "b"],
    "splits": {"train": {"images": 1200, "objects": 3000, "background": 7}},
    "guesses": [{"kind": "val", "message": "there is no val: 240 of the 1200 images, chosen by SEED, validate"}],
    "problems": [
        {"kind": "names", "count": 1, "refused": True, "files": [{"file": "data.yaml", "reason": "names is missing"}]},
        {"kind": "broken images", "count": 2, "refused": False, "files": [{"file": "a.jpg", "reason": "truncated"}]},
    ],
}  # fmt: skip


@pytest.fixture(autouse=True)
def trainer(tmp_path: Path, environment: pytest.MonkeyPatch) -> Path:
    """A checkout with one trainer, whose check prints the report, and without a stack."""
    for name in ("STOKER_URL", "STOKER_TOKEN", "STOKER_CONTEXT"):
        environment.delenv(name, raising=False)
    environment.setenv("STOKER_HOME", str(tmp_path / "home"))
    environment.setenv("STOKER_CONFIG", str(tmp_path / "configuration"))
    environment.setattr("client.home.ROOT", tmp_path)
    script = tmp_path / "check.py"
    script.write_text(f"import sys; print({json.dumps(REPORT)!r}); sys.exit(65)")
    registry = tmp_path / "infra/local/trainers.json"
    registry.parent.mkdir(parents=True)
    command = {"check": [sys.executable, "../../check.py"]}
    registry.write_text(json.dumps({"ultralytics": {"command": command}, "timm": {"command": {"check": ["./none"]}}}))
    return script


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return path


def test_a_report_is_printed_without_a_stack_and_exits_with_65(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = zipped(tmp_path / "cats.zip", "train/a.jpg", "annotations.json")

    assert run(["check", str(file)]) == 65
    assert capsys.readouterr().out.splitlines() == [
        "cats.zip CANNOT BE USED: data.yaml: names is missing",
        "  train: 1,200 images, 3,000 objects, 7 without objects",
        "  2 classes: a, b",
        "  assumed: there is no val: 240 of the 1200 images, chosen by SEED, validate",
        "  2 broken images (left out)",
        "    a.jpg: truncated",
    ]
    assert run(["check", str(file), "--json"]) == 65
    assert json.loads(capsys.readouterr().out) == REPORT


def test_one_file_is_counted_in_the_singular() -> None:
    problem = {"kind": "label files with words: write numbers", "count": 1, "refused": False, "files": []}
    report = REPORT | {"splits": {"val": {"images": 1, "objects": 1}}, "problems": [problem]}

    lines = list(dataset_check.lines(report))

    assert "  val: 1 image, 1 object" in lines
    assert lines[-1] == "  1 label file with words: write numbers (left out)"


def test_no_line_is_wider_than_the_terminal() -> None:
    lines = list(dataset_check.wrapped(REPORT, 40))

    assert max(map(len, lines)) <= 40
    assert " ".join(line.strip() for line in lines) == " ".join(line.strip() for line in dataset_check.lines(REPORT))


def test_a_trainer_that_is_not_set_up_is_named_with_the_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(zipped(tmp_path / "cats.zip", "cat/a.jpg")), "--framework", "timm"]) == 1

    assert "run ./taskw setup" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "framework"),
    [
        (["cat/a.jpg", "dog/b.jpg"], "timm"),
        (["cat/a.jpg", "dog/b.jpg", "README.dataset.txt", "__MACOSX/cat/._a.txt"], "timm"),
        (["images/a.jpg", "labels/a.txt", "data.yaml"], "ultralytics"),
        (["train/a.jpg", "train/_annotations.coco.json"], "ultralytics"),
        (["JPEGImages/a.jpg", "Annotations/a.xml"], "ultralytics"),
        (["a.jpg", "a.txt", "classes.txt"], "ultralytics"),
    ],
)
def test_images_in_folders_and_nothing_else_are_classes(tmp_path: Path, names: list[str], framework: str) -> None:
    assert local_check.framework_of(zipped(tmp_path / "d.zip", *names)) == framework
