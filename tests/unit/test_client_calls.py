"""What the command sends, how it reports errors, its configuration, and the stack's files."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from client import api, contexts, errors, fields, home, job_files, references, requests, task_aliases
from client.errors import CallError
from client.job_options import Chosen
from client.running import run
from infra import job_schema
from infra.local import minting, ports


@pytest.fixture(autouse=True)
def stoker_home(tmp_path: Path, environment: pytest.MonkeyPatch) -> Path:
    environment.setenv("STOKER_HOME", str(tmp_path / "a home"))
    environment.setenv("STOKER_CONFIG", str(tmp_path / "configuration"))
    for name in ("STOKER_URL", "STOKER_TOKEN", "STOKER_CONTEXT"):
        environment.delenv(name, raising=False)
    return tmp_path / "a home"


def test_fields_are_sent_in_the_types_of_the_api() -> None:
    settings = ["epochs=12", "LEARNING_RATE=0.005", "device=0", "batch-size=16", 'hyperparameters={"nbs": 16}']

    assert fields.from_settings(settings) == {
        "epochs": 12, "learning_rate": 0.005, "device": "0", "batch_size": 16, "hyperparameters": {"nbs": 16},
    }  # fmt: skip


def test_the_names_of_other_tools_are_understood() -> None:
    assert fields.from_settings(["lr=0.1", "batch=8", "imgsz=320"]) == {
        "learning_rate": 0.1, "batch_size": 8, "image_size": 320,
    }  # fmt: skip


def test_what_is_no_field_is_an_option_of_the_trainer() -> None:
    settings = ["mosaic=0.5", "optimizer=AdamW", "cos_lr=true", "freeze=[0, 1]"]

    assert fields.from_settings(settings) == {
        "hyperparameters": {"mosaic": 0.5, "optimizer": "AdamW", "cos_lr": True, "freeze": [0, 1]}
    }


@pytest.mark.parametrize(
    ("names", "changes"),
    [
        (["epochs", "image-size", "lr"], {"epochs": None, "image_size": None, "learning_rate": None}),
        (["lr0"], {"learning_rate": None}),
        (["mosaic", "seed"], {"seed": None, "hyperparameters": {"mosaic": None}}),
        (["hyperparameters"], {"hyperparameters": {"mosaic": None, "of an older trainer": None}}),
        (["options", "mosaic"], {"hyperparameters": {"mosaic": None, "of an older trainer": None}}),
        (["of an older trainer"], {"hyperparameters": {"of an older trainer": None}}),
        (["mixup"], {}),
    ],
)
def test_a_setting_of_an_earlier_job_is_left_to_its_default(names: list[str], changes: dict[str, Any]) -> None:
    own = {"mosaic": 0.5, "of an older trainer": 1}

    assert fields.unset(names, own, {"mosaic": "", "mixup": "", "lr0": "learning_rate"}) == changes


def test_a_setting_that_an_earlier_job_cannot_have_is_answered_with_the_nearest() -> None:
    with pytest.raises(CallError, match="there is no setting of this job mosiac; did you mean mosaic"):
        fields.unset(["mosiac"], {"mosaic": 0.5})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs", "epochs: write NAME=VALUE, such as epochs=20"),
        ("epoch=3", "there is no field epoch; did you mean epochs?"),
        ("batchsize=3", "there is no field batchsize; did you mean batch_size?"),
        ("learningrate=3", "there is no field learningrate; did you mean learning_rate?"),
        ("epochs=many", "epochs: write a whole number, not many"),
        ("hyperparameters=[1]", "hyperparameters: write one JSON object, not [1]"),
        ("hyperparameters={", "hyperparameters: write one JSON object, not {"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_with_what_to_write(setting: str, message: str) -> None:
    with pytest.raises(CallError) as refused:
        fields.from_settings([setting])

    assert str(refused.value) == message
    assert refused.value.exit_code == 2


def test_an_option_that_the_trainer_does_not_have_is_refused_with_the_nearest() -> None:
    options = {"mosaic": "", "patience": "", "lr0": "learning_rate"}

    with pytest.raises(CallError, match="there is no field or option of the trainer mosiac; did you mean mosaic"):
        fields.from_settings(["mosiac=1"], options)
    assert fields.from_settings(["lr0=0.1", "patience=3"], options) == {
        "learning_rate": 0.1,
        "hyperparameters": {"patience": 3},
    }


def test_of_many_names_only_the_nearest_are_listed() -> None:
    options = {f"option_{number}": "" for number in range(100)} | {"lr0": "learning_rate", "lrf": ""}

    with pytest.raises(CallError, match=r"of the trainer lr00; did you mean lr0\?$"):
        fields.from_settings(["lr00=3"], options)
    with pytest.raises(CallError, match=r"of the trainer lry; the nearest are lrf, lr0$"):
        fields.from_settings(["lry=3"], options)
    with pytest.raises(CallError, match=r"of the trainer qqq; stoker models TRAINER lists them$"):
        fields.from_settings(["qqq=3"], options)


def test_a_job_file_has_the_fields_of_the_schema(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(
        "dataset: cats\nmodel: yolo11n.pt\nepochs: 3\noptions: {mosaic: 0}\n".replace("options", "hyperparameters")
    )

    assert job_files.read(file) == {
        "dataset_id": "cats", "model_name": "yolo11n.pt", "epochs": 3, "hyperparameters": {"mosaic": 0},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "there is no field epoch; did you mean epochs?"),
        ("epochs: [", "line 1: not YAML"),
        ("just text", "write the fields of a job"),
    ],
)
def test_a_job_file_that_cannot_be_used_names_the_line_or_the_field(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(text)

    with pytest.raises(CallError) as refused:
        job_files.read(file)
    assert message in str(refused.value)


def test_options_win_over_settings_and_settings_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("model: a\nepochs: 1\nseed: 1\nhyperparameters: {x1: 1, y1: 1}\n")

    chosen = Chosen({"model_name": "c", "seed": None}, ["epochs=2", "y1=2"], file, from_job="", is_dry_run=False)

    assert requests.body(chosen, None) == {
        "model_name": "c", "epochs": 2, "seed": 1, "hyperparameters": {"x1": 1, "y1": 2},
    }  # fmt: skip


def test_the_schema_of_job_files_is_the_one_of_the_functions() -> None:
    assert json.loads(fields.SCHEMA_FILE.read_text()) == job_schema.schema()


def test_the_only_trainer_that_names_a_model_is_its_trainer() -> None:
    known: list[dict[str, Any]] = [
        {"framework": "ultralytics", "models": ["yolo*", "*.pt"]},
        {"framework": "timm", "models": ["*"]},
    ]

    assert requests.framework_of(known, "yolo11n.pt") == "ultralytics"
    assert requests.framework_of(known, "resnet18") == "timm"
    assert requests.framework_of([{"framework": "timm", "models": ["resnet18"]}], "ResNet18") == "timm"
    assert requests.framework_of([*known, {"framework": "mine", "models": ["yolo11*"]}], "yolo11n.pt") is None


def test_a_model_that_no_trainer_knows_is_answered_with_the_nearest() -> None:
    known: list[dict[str, Any]] = [
        {"framework": "timm", "models": ["resnet18"]},
        {"framework": "mine", "models": ["my*"]},
    ]

    assert requests._no_trainer(known, "resnt18") == "no trainer knows the model resnt18; did you mean resnet18?"
    assert requests._no_trainer(known, "RESNT18") == "no trainer knows the model RESNT18; did you mean resnet18?"
    assert "stoker models lists some" in requests._no_trainer(known, "x")
    assert "choose --framework: mine, mine" in requests._no_trainer([*known, known[1]], "my1")


def test_a_refusal_is_one_line_with_field_fix_and_trace() -> None:
    problem = {"title": "t", "detail": "d", "trace_id": "abc", "errors": [{"field": "epochs", "detail": "at least 1"}]}

    assert str(api.error_from(422, problem)) == "epochs: at least 1 [HTTP 422, trace abc]"


@pytest.mark.parametrize(
    ("status", "is_temporary"), [(429, True), (503, True), (502, True), (500, False), (409, False)]
)
def test_only_errors_that_a_retry_can_fix_are_temporary(status: int, is_temporary: bool) -> None:  # noqa: FBT001
    assert isinstance(api.error_from(status, {}), api.UnavailableError) is is_temporary


def test_without_a_stack_or_an_address_the_message_names_the_fix(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["jobs"]) == 1

    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "./taskw up" in error
    assert "stoker login URL" in error


def test_an_address_without_an_answer_is_a_message_of_one_line(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("STOKER_URL", f"http://127.0.0.1:{ports.free()}")
    environment.setenv("STOKER_TOKEN", "x")

    assert run(["jobs", "--json"]) == 69
    printed = capsys.readouterr()
    assert json.loads(printed.out)["title"] == "no response"
    assert printed.err == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["submit", "cats", "--epoch", "3"], "did you mean --epochs"),
        (["submit", "cats", "--epochs", "three"], "three"),
        (
            ["submit", "cats", "--lr", "3"],
            "there is no option --lr; did you mean --learning-rate? See stoker submit --help",
        ),
        (["submit", "cats", "--imgsz", "3"], "did you mean --image-size?"),
        (
            ["jobs", "--context", "far"],
            "--context belongs before the command: stoker --context … jobs; see stoker jobs",
        ),
        (["submit", "cats", "--mosaic", "3"], "options of the trainer are written --set NAME=VALUE; see stoker submit"),
        (["submit", "cats", "--epochs", "0"], "epochs: use a whole number from 1 to 100,000, not 0"),
        (["submit", "cats", "--set", "lr=0"], "learning_rate: use a number above 0 and up to 1,000, not 0.0"),
        (["check", "nowhere.zip"], "nowhere.zip: there is no such folder or file"),
        (["sumbit", "cats"], "no such command 'sumbit'. Did you mean 'submit'? See stoker --help"),
        (["jobs", "--state", "runing"], "there is no state runing; did you mean running?"),
        (["jobs", "--since", "yesterday"], "--since yesterday: write 2d, 12h, 30min"),
        (["submit", "cats", "-m", "x", "--set", "epochs=three"], "epochs: write a whole number, not three"),
        (["train", "no such folder", "-m", "x"], "no such folder: there is no such folder or file"),
    ],
)
def test_wrong_usage_is_one_line_that_names_what_to_write(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    home.write_environment({"STOKER_URL": "http://127.0.0.1:1", "STOKER_TOKEN": "x"})

    assert run(words) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert message in printed.err

    assert run([*words, "--json"]) == 2
    assert message in json.loads(capsys.readouterr().out)["detail"]


def test_a_server_that_was_chosen_wins_over_the_local_stack(environment: pytest.MonkeyPatch) -> None:
    home.write_environment({"STOKER_URL": "http://local", "STOKER_TOKEN": "l"})
    assert contexts.select().url == "http://local"

    far = contexts.Context("https://far", "f")
    contexts.write(contexts.Configuration({"far": far}, current="far"))
    assert (contexts.select().url, contexts.select().token) == ("https://far", "f")
    assert contexts.select("local").url == "http://local"

    environment.setenv("STOKER_URL", "https://far/")
    assert contexts.select().token == "f"
    environment.setenv("STOKER_TOKEN", "other")
    assert contexts.select().token == "other"
    environment.setenv("STOKER_URL", "far:8080")
    with pytest.raises(CallError, match="STOKER_URL is far:8080: write it with http:// or https://"):
        contexts.select()


def test_the_stack_is_found_from_a_folder_below_it_or_by_the_last_start(
    tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    environment.delenv("STOKER_HOME")
    environment.setattr(home, "ROOT", tmp_path / "an installed package")
    stack = tmp_path / "checkout/.stoker"
    stack.mkdir(parents=True)
    (stack / "local.env").write_text("STOKER_URL=http://local\n")
    (stack.parent / "data/cats").mkdir(parents=True)

    environment.chdir(stack.parent / "data/cats")
    assert home.find() == stack
    environment.chdir(tmp_path)
    assert home.find() is None
    assert home.find(last=str(stack)) == stack


def test_the_configuration_is_readable_by_its_owner_only() -> None:
    contexts.write(contexts.Configuration({"far": contexts.Context("https://far", "secret")}, current="far"))

    assert contexts.read().contexts["far"].token == "secret"
    assert stat.S_IMODE((contexts.folder() / "config.json").stat().st_mode) == 0o600


def test_a_broken_configuration_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    contexts.folder().mkdir()
    (contexts.folder() / "config.json").write_text("{")

    assert run(["jobs"]) == 2
    assert "config.json cannot be read" in capsys.readouterr().err


def test_an_unknown_context_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--context", "far", "jobs"]) == 2
    assert "there is no context far; use one of local" in capsys.readouterr().err


def test_the_environment_file_preserves_any_value_and_only_its_owner_can_read_it(stoker_home: Path) -> None:
    variables = {"A": "with 'quotes' and \"more\"", "B": "a b=c#d", "C": ""}
    home.write_environment(variables)
    home.write_environment(home.read_environment())

    assert home.read_environment() == variables
    assert stat.S_IMODE((stoker_home / "local.env").stat().st_mode) == 0o600


def test_a_token_is_signed_with_the_secret_of_the_stack() -> None:
    secret = "local:0123456789abcdef0123456789abcdef"

    assert minting.mint(secret, "me", minting.every_scope(), 60).count(".") == 2
    with pytest.raises(ValueError, match="jobs:nothing"):
        minting.mint(secret, "me", "jobs:nothing", 60)


def test_chosen_ports_are_free_and_not_chosen_twice() -> None:
    first = ports.free()

    assert ports.is_free(first)
    assert ports.free({first}) != first


@pytest.mark.parametrize(
    ("task", "words", "line"),
    [
        ("submit", ["DATASET=cats", "MODEL=m", "EPOCHS=3", "LEARNING_RATE=", "JSON=1"],
         ["submit", "--model", "m", "--set", "epochs=3", "--json", "--", "cats"]),
        ("logs", ["ID=3f2a", "FOLLOW=1"], ["logs", "--follow", "--", "3f2a"]),
        ("clone", ["ID=3f2a", "FROM_JOB=3f2a"], ["clone", "--from-job", "3f2a", "--", "3f2a"]),
        ("predict", ["IMAGES=new images", "ID=3f2a"], ["predict", "--", "3f2a", "new images"]),
        ("jobs", ["STATE=running"], ["jobs", "--state", "running", "--"]),
    ],
)  # fmt: skip
def test_a_task_is_an_alias_of_the_command(task: str, words: list[str], line: list[str]) -> None:
    assert task_aliases.command_line(task, words) == line


@pytest.mark.parametrize(
    ("task", "word", "message"),
    [
        ("submit", "EPOCH=3", "there is no variable EPOCH; did you mean EPOCHS?"),
        ("submit", "epochs=5", "there is no variable epochs; did you mean EPOCHS?"),
        ("submit", "LR=0.1", "there is no variable LR; did you mean LEARNING_RATE?"),
        ("submit", "BATCH=8", "there is no variable BATCH; did you mean BATCH_SIZE?"),
        ("submit", "cats", "cats: write NAME=value"),
        ("jobs", "state=succeeded", "there is no variable state; did you mean STATE?"),
        ("watch", "id=3f2a", "there is no variable id; did you mean ID?"),
        ("watch", "ID=", "ID is missing: ./taskw watch ID=…"),
    ],
)
def test_a_variable_that_an_alias_does_not_know_is_refused(task: str, word: str, message: str) -> None:
    with pytest.raises(CallError) as refused:
        task_aliases.command_line(task, ["DATASET=cats", word] if task == "submit" else [word])

    assert message in str(refused.value)


def test_a_short_id_is_never_taken_for_a_path() -> None:
    with pytest.raises(CallError, match="no response"):
        references.job(api.Api("http://127.0.0.1:1", "x"), "../../x")


def test_a_file_that_cannot_be_written_is_named_in_one_line(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), "one.jpg/checkpoints")

    environment.setattr("client.running.app", refuse)

    assert run(["download", "last"]) == 2
    assert capsys.readouterr().err == "stoker: one.jpg/checkpoints: Not a directory\n"


def test_a_full_disk_is_named_with_the_file_and_told_beside_an_output_that_is_full_too(
    tmp_path: Path, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill(*_: object, **__: object) -> None:
        with errors.writing(tmp_path / "best.pt"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    environment.setattr("client.running.app", fill)

    for words in (["download", "last"], ["download", "last", "--json"]):
        assert run(words) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err == (
            f"stoker: {tmp_path / 'best.pt'}: No space left on device; make room, and run the command again\n"
        )


def test_a_job_is_kept_unless_the_user_agrees(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {
        "id": "1" * 20,
        "state": "FAILED",
        "reason": "lost",
        "liveness": None,
        "dataset_id": "cats",
        "model_name": "m",
        "epoch": 3,
        "epochs": 9,
    }
    environment.setattr("client.commands.jobs.connect", lambda: api.Api("http://127.0.0.1:1", "x"))
    environment.setattr("client.references.job", lambda *_, **__: row)
    environment.setattr("sys.stdin.isatty", lambda: True)
    environment.setattr("typer.confirm", lambda _question: False)

    assert run(["rm", "1111"]) == 1
    assert capsys.readouterr().out == f"{row['id']}  FAILED (lost)  cats  m  3/9\nnothing is deleted\n"
