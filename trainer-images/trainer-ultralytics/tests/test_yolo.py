"""What of HYPERPARAMETERS and MODEL_NAME reaches ultralytics."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import yolo
from utils import ConfigInvalidError, Settings


@pytest.fixture(scope="module", autouse=True)
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = dict(os.environ)
    yolo.prepare(tmp_path_factory.mktemp("scratch"))
    yield
    os.environ.clear()
    os.environ.update(before)


def settings(**variables: str) -> Settings:
    env = {"JOB_ID": "j", "BACKEND_BASE_URL": "http://api", "CALLBACK_TOKEN": "t", "STORAGE_TYPE": "presigned"}
    settings, problems = Settings.from_environ(env | {"DATASET_ID": "d", "MODEL_NAME": "yolo11n.yaml"} | variables)
    assert not problems
    return settings


def test_settings_reach_ultralytics_by_its_own_names() -> None:
    chosen = yolo.options(
        settings(EPOCHS="3", BATCH_SIZE="8", SEED="7", DEVICE="0,1", HYPERPARAMETERS='{"mosaic": 0.5}')
    )

    assert chosen == {"epochs": 3, "batch": 8, "imgsz": 640, "seed": 7, "workers": 2, "device": "0,1", "mosaic": 0.5}


def test_a_learning_rate_is_not_left_to_ultralytics_own_choice() -> None:
    chosen = yolo.options(settings(LEARNING_RATE="0.002"))

    assert (chosen["lr0"], chosen["optimizer"]) == (0.002, "AdamW")


@pytest.mark.parametrize(
    ("hyperparameters", "named"),
    [
        ('{"mosaik": 1}', "mosaic?"),
        ('{"mosaic": "much"}', "mosaic"),
        ('{"mosaic": 7}', "mosaic"),
        ('{"patience": 1.5}', "patience"),
        ('{"cos_lr": "yes"}', "cos_lr"),
        ('{"optimizer": "magic"}', "magic"),
        ('{"optimizer": "auto"}', "LEARNING_RATE"),
        ('{"epochs": 3}', "EPOCHS"),
        ('{"save_dir": "/"}', "save_dir"),
        ('{"pretrained": "/etc/passwd"}', "pretrained"),
        ('{"resume": true}', "resume"),
    ],
)
def test_hyperparameters_that_cannot_be_used_are_named(hyperparameters: str, named: str) -> None:
    with pytest.raises(ConfigInvalidError) as refusal:
        yolo.options(settings(LEARNING_RATE="0.01", HYPERPARAMETERS=hyperparameters))

    assert named in str(refusal.value)


@pytest.mark.parametrize(
    "name", ["nothing.yaml", "yolo11n-obb.yaml", "rtdetr-l.yaml", "yolo11n", "models/yolo11n.yaml"]
)
def test_models_that_are_not_trained_here_are_named(name: str) -> None:
    contract: Any = SimpleNamespace(settings=settings(MODEL_NAME=name))

    with pytest.raises(ConfigInvalidError, match=re.escape(name)):
        yolo.model(contract)


def test_weights_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    def download(_key: str, path: Path) -> bool:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no weights")
        return True

    contract: Any = SimpleNamespace(
        settings=settings(MODEL_NAME="bad.pt"), scratch=tmp_path, download=download, event=lambda *_a, **_k: None
    )

    with pytest.raises(ConfigInvalidError, match=r"models/bad\.pt"):
        yolo.model(contract)


def test_weights_that_would_run_code_are_refused(tmp_path: Path) -> None:
    import torch

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "owned"),)

    def download(_key: str, path: Path) -> bool:
        path.parent.mkdir(exist_ok=True)
        torch.save({"epoch": 1, "model": Hostile()}, path)
        return True

    contract: Any = SimpleNamespace(
        settings=settings(MODEL_NAME="bad.pt"), scratch=tmp_path, download=download, event=lambda *_a, **_k: None
    )

    with pytest.raises(ConfigInvalidError, match=r"models/bad\.pt"):
        yolo.model(contract)
    assert not (tmp_path / "owned").exists()
