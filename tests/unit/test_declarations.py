"""A job is checked by what its trainer declares; a trainer that declares nothing is checked by its patterns."""

import json
from pathlib import Path
from typing import Any

import pytest

from functions.api import specs
from functions.domain.declarations import Option
from functions.domain.errors import ConfigurationError, Unusable
from functions.runtime.registry import trainers
from tests.conftest import ROOT, forget

STARTED: dict[str, Any] = {"command": {"train": ["true"], "predict": ["true"]}}
REGISTRY: dict[str, dict[str, Any]] = {
    "yolo": STARTED | {"declaration": str(ROOT / "trainer-images/trainer-ultralytics/trainer.json")},
    "timm": STARTED | {"declaration": str(ROOT / "trainer-images/trainer-timm/trainer.json")},
    "small": STARTED | {"declaration": {"models": ["tiny"], "options": [], "tasks": ["train"]}},
    "mine": STARTED | {"models": ["mine-*"]},
    "some": STARTED | {"models": ["some"]},
}


@pytest.fixture(autouse=True)
def registry(tmp_path: Any, environment: pytest.MonkeyPatch) -> None:
    file = tmp_path / "registry.json"
    file.write_text(json.dumps(REGISTRY))
    environment.setenv("TRAINERS", str(file))
    forget()


def refused(**requested: Any) -> dict[str, str]:
    with pytest.raises(Unusable) as error:
        specs.from_request({"dataset_id": "cats"} | requested)
    problems: Any = error.value.members["errors"]
    return {problem["field"]: problem["detail"] for problem in problems}


@pytest.mark.parametrize(
    ("model", "framework"),
    [
        ("resnet18", "timm"),
        ("resnet18.a1_in1k", "timm"),
        ("yolo11n.yaml", "yolo"),
        ("yolo11x-seg.pt", "yolo"),
        ("my own.pt", "yolo"),
        ("tiny", "small"),
        ("mine-2", "mine"),
        ("RESNET18", "timm"),
        ("YOLO11n.YAML", "yolo"),
    ],
)
def test_the_framework_is_the_only_one_that_has_the_model(model: str, framework: str) -> None:
    assert specs.from_request({"dataset_id": "cats", "model_name": model}).framework == framework


def test_a_model_that_no_framework_has_needs_the_framework() -> None:
    assert refused(model_name="unheard of") == {"framework": "it is missing; use one of mine, small, some, timm, yolo"}


def test_the_default_framework_counts_where_the_models_name_does_not_decide(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DEFAULT_FRAMEWORK", "timm")
    environment.setenv("DEFAULT_MODEL", "resnet18")
    forget()

    assert specs.from_request({"dataset_id": "cats"}).framework == "timm"
    assert specs.from_request({"dataset_id": "cats", "model_name": "yolo11n.pt"}).framework == "yolo"
    assert refused(model_name="unheard of")["model_name"].startswith("use a model of timm")


def test_the_default_model_decides_on_the_framework_if_there_is_no_default(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DEFAULT_MODEL", "resnet18")
    forget()

    assert specs.from_request({"dataset_id": "cats"}).framework == "timm"


@pytest.mark.parametrize(("launcher", "needs"), [("local", "command"), ("kubernetes", "image")])
def test_a_trainer_that_this_installation_cannot_start_is_the_operators_mistake(
    environment: pytest.MonkeyPatch, tmp_path: Path, launcher: str, needs: str
) -> None:
    entry = {"models": ["m"], "image": "i", "command": {"train": ["c"]}}
    (tmp_path / "registry.json").write_text(json.dumps({"mine": {**entry, needs: type(entry[needs])()}}))
    environment.setenv("LAUNCHER", launcher)
    forget()

    with pytest.raises(ConfigurationError, match=f"TRAINERS: the trainer mine has no {needs}"):
        specs.from_upload("cats", {"stoker-model": "m"})


@pytest.mark.parametrize(("framework", "model"), [("yolo", "resnet18"), ("", "unheard of")])
def test_a_default_that_no_trainer_takes_is_the_operators_mistake_and_rejects_no_upload(
    environment: pytest.MonkeyPatch, framework: str, model: str
) -> None:
    environment.setenv("DEFAULT_FRAMEWORK", framework)
    environment.setenv("DEFAULT_MODEL", model)
    forget()

    with pytest.raises(
        ConfigurationError, match=f"DEFAULT_MODEL: {framework or 'no trainer in TRAINERS'} has no model"
    ):
        specs.from_upload("cats", {})


@pytest.mark.parametrize(
    ("framework", "model", "detail"),
    [
        ("timm", "resnet-18", "timm has no model resnet-18; do you mean resnet18?"),
        ("timm", "resnet18.a1_in2k", "timm has no model resnet18.a1_in2k; do you mean resnet18.a1_in1k?"),
        ("yolo", "yolo11n", "yolo has no model yolo11n; do you mean yolo11n.pt?"),
        ("timm", "RESNET-18", "timm has no model RESNET-18; do you mean resnet18?"),
        ("yolo", "YOLO11N", "yolo has no model YOLO11N; do you mean yolo11n.pt?"),
        ("yolo", "zzz", "use a model of yolo: GET /v1/frameworks lists its models"),
        ("small", "zzz", "use a model of small: tiny"),
    ],
)
def test_a_model_that_its_framework_has_not_is_refused_with_the_nearest(
    framework: str, model: str, detail: str
) -> None:
    assert refused(framework=framework, model_name=model) == {"model_name": detail}


@pytest.mark.parametrize(
    ("model", "declared"),
    [
        ("ResNet18", "resnet18"),
        ("RESNET18.A1_in1k", "resnet18.a1_in1k"),
        ("YOLO11n.yaml", "yolo11n.yaml"),
        ("yolo11n.PT", "yolo11n.pt"),
        ("Some", "some"),
        ("my Own.pt", "my Own.pt"),
    ],
)
def test_a_model_in_another_case_is_the_declared_one(model: str, declared: str) -> None:
    assert specs.from_request({"dataset_id": "cats", "model_name": model}).model_name == declared


@pytest.mark.parametrize(
    ("framework", "model", "hyperparameters", "detail"),
    [
        ("yolo", "yolo11n.pt", {"mosaik": 1}, "yolo has no such hyperparameter; do you mean mosaic?"),
        ("yolo", "yolo11n.pt", {"qqqq": 1}, "yolo has no such hyperparameter; GET /v1/frameworks lists them"),
        ("yolo", "yolo11n.pt", {"lr0": 0.1}, "yolo's lr0 is set by the job's field learning_rate"),
        ("yolo", "yolo11n.pt", {"mosaic": 2}, "use a number, at least 0 and at most 1"),
        ("yolo", "yolo11n.pt", {"mosaic": "1"}, "use a number, at least 0 and at most 1"),
        ("yolo", "yolo11n.pt", {"patience": 1.5}, "use a whole number"),
        ("yolo", "yolo11n.pt", {"patience": True}, "use a whole number"),
        ("yolo", "yolo11n.pt", {"cache": 3}, "use true or false or text"),
        ("timm", "resnet18", {"sched": "cos"}, "use one of cosine, multistep, none, plateau, poly, step, tanh"),
        ("timm", "resnet18", {"lr_base": 0}, "use a number, more than 0"),
        ("timm", "resnet18", {"smoothing": 1}, "use a number, at least 0 and less than 1"),
        ("timm", "resnet18", {"scale": 0.5}, "use a list"),
        ("small", "tiny", {"x": 1}, "small has no hyperparameters for train; leave it out"),
    ],
)
def test_a_hyperparameter_that_the_trainer_would_refuse_is_refused_at_once(
    framework: str, model: str, hyperparameters: dict[str, Any], detail: str
) -> None:
    (name,) = hyperparameters
    assert refused(framework=framework, model_name=model, hyperparameters=hyperparameters) == {
        f"hyperparameters.{name}": detail
    }


def test_what_a_trainer_takes_is_taken() -> None:
    good = {"mosaic": 0.5, "scale": [0.5, 1.5], "cache": "ram", "freeze": None, "optimizer": "AdamW", "patience": 3}
    specs.from_request({"dataset_id": "cats", "model_name": "yolo11n.pt", "hyperparameters": good})
    specs.from_request({"dataset_id": "cats", "model_name": "mine-1", "hyperparameters": {"anything": {}}})


def test_options_of_another_task_are_refused() -> None:
    job = {"framework": "yolo", "model_name": "yolo11n.pt", "task": "predict", "checkpoint_key": "models/x.pt"}
    specs.from_request({"dataset_id": "cats", "hyperparameters": {"conf": 0.5}} | job)

    assert list(refused(**job, hyperparameters={"mosaic": 1})) == ["hyperparameters.mosaic"]


def test_the_registrys_patterns_narrow_what_a_trainer_declares(tmp_path: Any, environment: pytest.MonkeyPatch) -> None:
    file = tmp_path / "narrow.json"
    file.write_text(json.dumps({"timm": REGISTRY["timm"] | {"models": ["resnet1*"]}}))
    environment.setenv("TRAINERS", str(file))
    forget()

    assert "resnet18" in trainers()["timm"].declared.models
    assert "resnet50" not in trainers()["timm"].declared.models
    assert "model_name" in refused(framework="timm", model_name="resnet50")


def test_an_option_without_a_type_takes_anything() -> None:
    assert Option("x").refusal([1]) is None


def test_a_key_that_no_storage_takes_is_refused() -> None:
    key = "models/" + "\N{SNOWMAN}" * 400

    assert refused(model_name="mine-1", checkpoint_key=key) == {
        "checkpoint_key": "use a key of at most 1,024 bytes in UTF-8"
    }
