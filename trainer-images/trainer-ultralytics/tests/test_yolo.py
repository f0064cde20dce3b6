"""What of HYPERPARAMETERS and MODEL_NAME reaches ultralytics."""

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_datasets import draw

import predict
import train
import yolo
from utils import ConfigInvalidError, Settings, StorageError, TrainerError


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
    "name", ["nothing.yaml", "yolo26n-sem.yaml", "rtdetr-l.yaml", "yolo11n", "models/yolo11n.yaml"]
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


def test_the_message_of_a_late_failure_is_short_plain_and_names_files_as_in_the_archive(tmp_path: Path) -> None:
    contract: Any = SimpleNamespace(scratch=tmp_path, settings=SimpleNamespace(dataset_id="my cats"))
    lines = "\n".join(f"\x1b[34m\x1b[1mtrain: \x1b[0m{tmp_path}/dataset/images/{n}.jpg: broken" for n in range(50))

    failure = train.failure(RuntimeError(lines), contract)

    message = str(failure)
    assert message.startswith("my cats.zip: RuntimeError: train: images/0.jpg: broken train: images/1.jpg: broken")
    assert len(message) <= 500
    assert "\x1b" not in message
    assert isinstance(failure, TrainerError)
    assert failure.reason == "trainer_error"


@pytest.mark.parametrize(
    "error", [ConfigInvalidError("EPOCHS"), StorageError("PUT last.pt")], ids=["config", "storage"]
)
def test_a_failure_of_the_contract_keeps_its_reason(tmp_path: Path, error: Exception) -> None:
    contract: Any = SimpleNamespace(scratch=tmp_path, settings=SimpleNamespace(dataset_id="d"))

    assert train.failure(error, contract) is error


def test_rotated_boxes_are_predicted_by_their_corners(tmp_path: Path) -> None:
    from ultralytics import YOLO

    (tmp_path / "1.png").write_bytes(draw(1)[0])
    (result,) = YOLO("yolo11n-obb.yaml").predict(str(tmp_path / "1.png"), imgsz=64, conf=1e-6, verbose=False)

    boxes = predict.as_json(result)["boxes"]
    assert boxes
    assert {"class", "name", "confidence", "corners"} == boxes[0].keys()
    assert [len(point) for point in boxes[0]["corners"]] == [2, 2, 2, 2]
