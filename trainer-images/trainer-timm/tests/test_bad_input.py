"""Settings and datasets that cannot be used: the exit code, the reason, and a message that names what to change."""

import io
import json
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from fixtures_trainer import Trainer
from small_datasets import dataset as good
from small_datasets import draw, zipped

import dataset
import options
from utils import ConfigInvalidError, DatasetInvalidError

Files = dict[str, bytes]


@pytest.mark.parametrize(
    ("hyperparameters", "message"),
    [
        ({"weight_decy": 0.1}, "weight_decay?"),
        ({"opt": "adamwx"}, "opt: timm has no adamwx; adamw?"),
        ({"smoothing": 1.5}, "smoothing"),
        ({"mixup": "much"}, "mixup"),
        ({"sched": "zigzag"}, "sched"),
        ({"lr": 0.1}, "LEARNING_RATE"),
        ({"batch_size": 3}, "BATCH_SIZE"),
        ({"scale": [1]}, "scale"),
        ({"amp": 1}, "amp"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_used_is_named(hyperparameters: dict[str, Any], message: str) -> None:
    settings: Any = SimpleNamespace(hyperparameters=hyperparameters)

    with pytest.raises(ConfigInvalidError) as refused:
        options.read(settings)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"MODEL_NAME": "resnt18"}, "resnet18?"),
        ({"MODEL_NAME": "test_resnet.nothing"}, "no weights 'nothing'"),
        ({"DEVICE": "7"}, "there is no GPU 7"),
        ({"CHECKPOINT_KEY": "models/none.pt"}, "there is no object models/none.pt"),
        ({"TASK": "predict"}, "predict.py"),
        ({"HYPERPARAMETERS": '{"pretrained": false, "model_kwargs": {"colour": 1}}'}, "colour"),
        ({"HYPERPARAMETERS": '{"pretrained": false, "warmup_epochs": 2}'}, "warmup_epochs"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_used_ends_with_78_and_its_name(
    trainer: Trainer, variables: dict[str, str], message: str
) -> None:
    trainer.upload(good())

    assert trainer.run(variables) == 78, trainer.output

    error = trainer.functions.calls[-1].body["error"]
    assert error["reason"] == "config_invalid"
    assert message in error["message"]


def test_a_pickle_that_would_run_code_is_refused(trainer: Trainer) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, ("touch /tmp/stoker-was-here",)

    trainer.upload(good())
    trainer.bucket.put("models/evil.pt", pickle.dumps({"state_dict": Evil()}))

    assert trainer.run(CHECKPOINT_KEY="models/evil.pt") == 78, trainer.output
    assert not Path("/tmp/stoker-was-here").exists()


DATASETS: dict[str, tuple[Callable[[], Files], str]] = {
    "nothing in it": (dict, "the archive holds no files"),
    "no folders": (lambda: {"a.png": draw(1, 0)}, "no class folders with images"),
    "one class": (lambda: {f"cats/{n}.png": draw(n, 0) for n in range(4)}, "only one class folder, cats/"),
    "two broken images": (
        lambda: good() | {"train/tall/x.png": draw(1, 0)[:200], "val/wide/y.png": b"hello"},
        "2 broken images (train/tall/x.png: broken or truncated",
    ),
}


class Quiet:
    """A contract with a local dataset."""

    def __init__(self, folder: Path, archive: Path) -> None:
        self.scratch, self.archive, self.storage = folder, archive, self
        self.settings = SimpleNamespace(dataset_id="d", dataset_etag="", seed=0)
        self.report: dict[str, Any] = {}

    def phase(self, _name: str) -> None:
        pass

    def check(self) -> None:
        pass

    def event(self, *_said: Any, **_data: Any) -> None:
        pass

    def warn_once(self, _message: str) -> None:
        pass

    def save_result(self, path: Path) -> None:
        self.report = json.loads(path.read_text())

    def insist(self, action: Callable[..., Any], *_what: str, **_options: Any) -> Any:
        return action()

    def get(self, _key: str, _etag: str = "", first: int = 0, last: int | None = None) -> requests.Response:
        content, response = self.archive.read_bytes(), requests.Response()
        part = content[first:] if last is None else content[first : last + 1]
        response.status_code, response.raw = 200 if last is None else 206, io.BytesIO(part)
        response.headers["Content-Length"] = str(len(part))
        return response


def fetch(folder: Path, archive: Path) -> dataset.Data:
    contract: Any = Quiet(folder, archive)
    return dataset.fetch(contract, val_share=0.2)[0]


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_that_cannot_be_used_names_the_file(tmp_path: Path, name: str) -> None:
    files, message = DATASETS[name]

    with pytest.raises(DatasetInvalidError) as refused:
        fetch(tmp_path, zipped(files(), tmp_path / "upload.zip"))
    assert message in str(refused.value)


def entry(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr, info.create_system = mode << 16, 3
    return info


@pytest.mark.parametrize(
    ("info", "content"),
    [
        (entry("../../evil.png"), b"x"),
        (entry("/etc/evil.png"), b"x"),
        (entry("train/tall/../../../evil.png"), b"x"),
        (entry("C:\\evil.png"), b"x"),
        (entry("train/tall/link.png", stat.S_IFLNK | 0o777), b"/etc/passwd"),
        (entry("train/tall/bomb.png"), b"\0" * 50_000_000),
        (entry("train/tall/a\nb.png"), b"x"),
    ],
    ids=lambda value: getattr(value, "filename", None),
)
def test_a_hostile_archive_is_refused_before_anything_is_written(
    tmp_path: Path, info: zipfile.ZipInfo, content: bytes
) -> None:
    archive = zipped(good(), tmp_path / "upload.zip")
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as more:
        more.writestr(info, content, zipfile.ZIP_DEFLATED)
    (tmp_path / "scratch").mkdir()

    with pytest.raises(DatasetInvalidError):
        fetch(tmp_path / "scratch", archive)
    assert not (tmp_path / "evil.png").exists()


def test_too_many_files_or_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(good(), tmp_path / "upload.zip")
    for name, limit in (("DATASET_FILE_LIMIT", "5"), ("DATASET_BYTES_LIMIT", "1000")):
        monkeypatch.setenv(name, limit)
        with pytest.raises(DatasetInvalidError):
            fetch(tmp_path, archive)
        monkeypatch.delenv(name)


def test_names_in_any_writing_are_classes_and_a_zip_in_the_zip_is_left_out(tmp_path: Path) -> None:
    files = {f"{name}/{n}.png": draw(n, 0) for name in ("猫", "собака", "$x^2$") for n in range(3)}
    files["nested.zip"] = zipped(good(), tmp_path / "inner.zip").read_bytes()

    assert set(fetch(tmp_path, zipped(files, tmp_path / "upload.zip")).classes) == {"猫", "собака", "$x^2$"}


def test_a_bad_dataset_ends_with_65_and_leaves_no_scratch(trainer: Trainer) -> None:
    trainer.upload(DATASETS["two broken images"][0]())

    assert trainer.run() == 65, trainer.output

    error = trainer.functions.calls[-1].body["error"]
    assert (error["reason"], "train/tall/x.png" in error["message"]) == ("dataset_invalid", True)
    assert not list((trainer.folder / "scratch").iterdir())
    report = json.loads(trainer.stored("results/job-{id}/dataset.json") or b"{}")
    assert (report["usable"], report["message"]) == (False, error["message"])
