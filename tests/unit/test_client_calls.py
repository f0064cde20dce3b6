"""What the command line sends, how it reports errors, and the stack's files."""

import json
import stat
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from client import api, home, submit
from client.cli import app
from infra.local import ports


@pytest.fixture(autouse=True)
def stoker_home(tmp_path: Path, environment: pytest.MonkeyPatch) -> Path:
    environment.setenv("STOKER_HOME", str(tmp_path / "a home"))
    return tmp_path / "a home"


def test_fields_are_sent_in_the_types_of_the_api() -> None:
    settings = ["epochs=12", "LEARNING_RATE=0.005", "device=0", "batch-size=16", 'hyperparameters={"nbs": 16}']

    assert submit.fields(settings) == {
        "epochs": 12, "learning_rate": 0.005, "device": "0", "batch_size": 16, "hyperparameters": {"nbs": 16},
    }  # fmt: skip


@pytest.mark.parametrize("setting", ["epochs", "epoch=3", "epochs=many", "hyperparameters=[1]", "hyperparameters={"])
def test_an_unusable_field_is_refused_by_its_name(setting: str) -> None:
    with pytest.raises(typer.BadParameter, match=setting.partition("=")[0]):
        submit.fields([setting])


def test_a_prediction_takes_the_settings_and_weights_of_the_training() -> None:
    job = {"id": "a1", "task": "train", "state": "SUCCEEDED", "framework": "ultralytics", "model_name": "yolo11n.yaml",
           "spec": {"image_size": 128, "epochs": 12, "device": "cpu"}}  # fmt: skip

    assert submit.prediction(job, "cats") == {
        "task": "predict", "dataset_id": "cats", "framework": "ultralytics", "model_name": "yolo11n.yaml",
        "image_size": 128, "device": "cpu", "checkpoint_key": "checkpoints/job-a1/best.pt",
    }  # fmt: skip


@pytest.mark.parametrize("fields", [{"state": "RUNNING"}, {"state": "FAILED"}, {"task": "predict"}])
def test_a_prediction_needs_a_training_that_succeeded(fields: dict[str, str]) -> None:
    job = {"id": "a1", "task": "train", "state": "SUCCEEDED", "framework": "f", "model_name": "m", "spec": {}} | fields

    with pytest.raises(typer.BadParameter, match="a1"):
        submit.prediction(job, "cats")


def test_a_refusal_is_one_line_with_field_fix_and_trace() -> None:
    problem = {"title": "t", "detail": "d", "trace_id": "abc", "errors": [{"field": "epochs", "detail": "at least 1"}]}

    assert str(api.error_from(422, problem)) == "epochs: at least 1 [HTTP 422, trace abc]"


@pytest.mark.parametrize(
    ("status", "is_temporary"), [(429, True), (503, True), (502, True), (500, False), (409, False)]
)
def test_only_errors_that_a_retry_can_fix_are_temporary(status: int, is_temporary: bool) -> None:  # noqa: FBT001
    assert isinstance(api.error_from(status, {}), api.UnavailableError) is is_temporary


def test_without_a_stack_or_an_address_the_message_names_the_fix() -> None:
    result = CliRunner().invoke(app, ["jobs"])

    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "./taskw up" in result.stderr


def test_an_address_without_an_answer_is_a_message_of_one_line(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("STOKER_URL", f"http://127.0.0.1:{ports.free()}")
    environment.setenv("STOKER_TOKEN", "x")
    result = CliRunner().invoke(app, ["jobs", "--json"])

    assert result.exit_code == 1
    assert '"no response"' in result.stdout
    assert result.stderr == ""


def test_a_value_that_is_invalid_is_one_line() -> None:
    home.write_environment(
        {"STOKER_URL": "http://127.0.0.1:1", "JWT_SECRETS": "local:0123456789abcdef0123456789abcdef"}
    )
    command = ["submit", "cats", "--set", "epochs=three"]

    result = CliRunner().invoke(app, command)
    assert (result.exit_code, result.stderr) == (2, "stoker: epochs: write a whole number, not 'three'\n")

    result = CliRunner().invoke(app, [*command, "--json"])
    assert (result.exit_code, result.stderr) == (2, "")
    assert json.loads(result.stdout)["detail"] == "epochs: write a whole number, not 'three'"


def test_the_environment_file_preserves_any_value_and_only_its_owner_can_read_it(stoker_home: Path) -> None:
    variables = {"A": "with 'quotes' and \"more\"", "B": "a b=c#d", "C": ""}
    home.write_environment(variables)
    home.write_environment(home.read_environment())

    assert home.read_environment() == variables
    assert stat.S_IMODE((stoker_home / "local.env").stat().st_mode) == 0o600


def test_a_token_is_signed_with_the_secret_of_the_stack() -> None:
    home.write_environment({"JWT_SECRETS": "local:0123456789abcdef0123456789abcdef"})
    runner = CliRunner()

    assert runner.invoke(app, ["token"]).stdout.count(".") == 2
    assert "jobs:nothing" in runner.invoke(app, ["token", "--scope", "jobs:nothing"]).stderr


def test_chosen_ports_are_free_and_not_chosen_twice() -> None:
    first = ports.free()

    assert ports.is_free(first)
    assert ports.free({first}) != first
