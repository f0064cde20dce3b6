"""What all trainers share: callbacks, tokens, storage, console; with a trainer that needs no framework."""

import re
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
from fixtures_functions import Response
from fixtures_storage import Bucket, eventually
from fixtures_trainer import GOOD, ROOT, TOKEN, Trainer

from console import Console, whole_lines
from storage import RefusedError
from utils import ConfigInvalidError, Contract, Settings, StorageError

PATHS = {"PYTHONPATH": str(ROOT)}


def run_tiny(trainer: Trainer, **variables: str | None) -> int:
    return trainer.run(PATHS, script="tests/tiny.py", **variables)


def test_callbacks_are_cloudevents_with_trace_and_attempt(trainer: Trainer) -> None:
    assert run_tiny(trainer) == 0, trainer.output

    for call in trainer.functions.calls:
        headers = call.headers
        assert headers["authorization"] == f"Bearer {TOKEN}"
        assert headers["ce-specversion"] == "1.0"
        assert headers["ce-type"] == f"dev.stoker.trainer.{call.name}"
        assert re.fullmatch(rf"/trainers/{trainer.job_id}/[0-9a-f-]{{36}}", headers["ce-source"])
        assert headers["ce-subject"] == trainer.job_id
        assert re.fullmatch(rf"00-{trainer.trace_id}-[0-9a-f]{{16}}-01", headers["traceparent"])
    assert len({call.headers["ce-id"] for call in trainer.functions.calls}) == len(trainer.functions.calls)
    assert all(call.body["attempt"] == 1 for call in trainer.functions.calls[1:])


def test_metrics_that_are_not_finite_are_left_out_with_one_warning(trainer: Trainer) -> None:
    assert run_tiny(trainer) == 0, trainer.output

    assert all(
        beat["metrics"].keys() == {"loss"}
        for beat in trainer.functions.bodies("heartbeat")
        if beat.keys() > {"attempt"}
    )
    assert trainer.functions.bodies("done")[0]["metrics"] == {"loss": 1.0}
    warnings = [body["message"] for body in trainer.functions.bodies("event", type="warning")]
    assert len([one for one in warnings if one.startswith("bad ")]) == 1


def test_a_trainer_without_news_still_sends_heartbeats(trainer: Trainer) -> None:
    trainer.functions.respond = lambda call, _body: (503, {}) if call == "presign" else None
    trainer.start(PATHS, script="tests/tiny.py", STORAGE_TYPE="presigned", HEARTBEAT_SECONDS="0.2", EPOCHS="1000")

    beats = eventually(lambda: len(beats := trainer.functions.bodies("heartbeat", epoch=1)) > 2 and beats)

    ids = [call.headers["ce-id"] for call in trainer.functions.calls if call.body.get("epoch") == 1]
    assert len(set(ids)) == len(ids) >= len(beats)


def test_a_new_token_in_a_heartbeats_response_is_used_from_then_on(trainer: Trainer) -> None:
    fresh = "token-number-two-that-is-secret"
    response = {"state": "RUNNING", "token": fresh}
    trainer.functions.respond = lambda call, _body: (200, response) if call == "heartbeat" else None

    assert run_tiny(trainer, EPOCHS="3") == 0, trainer.output

    assert trainer.functions.calls[-1].headers["authorization"] == f"Bearer {fresh}"


def test_a_token_file_is_read_again_after_401(trainer: Trainer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")

    def respond(_call: str, _body: dict[str, Any]) -> Response | None:
        if file.read_text() == "old":
            file.write_text("renewed")
            return 401, {}
        return None

    trainer.functions.respond = respond

    assert run_tiny(trainer, CALLBACK_TOKEN=None, CALLBACK_TOKEN_FILE=str(file)) == 0, trainer.output

    assert trainer.functions.calls[0].headers["authorization"] == "Bearer old"
    assert trainer.functions.calls[-1].headers["authorization"] == "Bearer renewed"


def test_a_retry_waits_as_long_as_the_functions_ask(trainer: Trainer) -> None:
    refusals = iter([429, 503])
    asked_seconds = 2

    def respond(_call: str, body: dict[str, Any]) -> Response | None:
        status = next(refusals, None) if body.get("type") == "started" else None
        return (status, {"retry-after": str(asked_seconds)}) if status else None

    trainer.functions.respond = respond

    assert run_tiny(trainer) == 0, trainer.output

    started = [call for call in trainer.functions.calls if call.body.get("type") == "started"]
    assert [call.status for call in started] == [429, 503, 200]
    assert all(later.at - before.at >= asked_seconds for before, later in pairwise(started))
    assert len({call.headers["ce-id"] for call in started}) == 1


def test_an_event_that_the_functions_refuse_is_dropped(trainer: Trainer) -> None:
    trainer.functions.respond = lambda _call, body: (422, {}) if body.get("type") == "checkpoint" else None

    assert run_tiny(trainer) == 0, trainer.output

    assert trainer.functions.calls[-1].name == "done"


def test_a_checkpoint_that_cannot_be_stored_is_a_warning_and_tried_again(trainer: Trainer) -> None:
    refusals = iter([422])

    def respond(call: str, body: dict[str, Any]) -> Response | None:
        status = next(refusals, None) if call == "presign" and body["method"] == "PUT" else None
        return (status, {}) if status else None

    trainer.functions.respond = respond

    assert run_tiny(trainer, STORAGE_TYPE="presigned") == 0, trainer.output

    assert [body for body in trainer.functions.bodies("event", type="warning") if "last.pt" in body["message"]]
    assert trainer.stored("checkpoints/job-{id}/last.pt") == b"weights of 2"


def test_a_storage_that_takes_its_time_holds_up_no_epoch(trainer: Trainer, tmp_path: Path) -> None:
    script = tmp_path / "unhurried.py"
    script.write_text(
        "import sys\n"
        "from utils import run\n"
        "def train(contract):\n"
        "    last = contract.scratch / 'last.pt'\n"
        "    for epoch in (1, 2, 3):\n"
        "        last.write_text(f'weights of {epoch}')\n"
        "        contract.save_checkpoint(last)\n"
        "        contract.heartbeat(epoch=epoch, epochs=3)\n"
        "    return {}\n"
        "sys.exit(run(train))\n"
    )

    def respond(call: str, body: dict[str, Any]) -> Response | None:
        if call == "presign" and body["key"].endswith("last.pt"):
            eventually(lambda: trainer.functions.bodies("heartbeat", epoch=3), within_seconds=20)
        return None

    trainer.functions.respond = respond

    assert trainer.run(script=str(script), PYTHONPATH=str(ROOT), STORAGE_TYPE="presigned") == 0, trainer.output

    assert trainer.stored("checkpoints/job-{id}/last.pt") == b"weights of 1"
    assert trainer.functions.bodies("event", type="checkpoint")
    assert not trainer.functions.bodies("event", type="warning")


@pytest.mark.parametrize("status", [503, 422])
def test_the_process_ends_eventually_if_done_is_never_accepted(trainer: Trainer, status: int) -> None:
    trainer.functions.respond = lambda call, _body: (status, {}) if call == "done" else None

    assert run_tiny(trainer, DONE_RETRY_SECONDS="1") == 1, trainer.output

    assert trainer.stored("checkpoints/job-{id}/last.pt")


def test_a_job_that_is_over_is_not_begun(trainer: Trainer) -> None:
    trainer.functions.respond = lambda _call, _body: (409, {"state": "CANCELLED"})

    assert run_tiny(trainer) == 0, trainer.output

    assert [call.name for call in trainer.functions.calls] == ["event"]
    assert trainer.stored("checkpoints/job-{id}/last.pt") is None


def test_an_exception_fails_the_job_with_a_message(trainer: Trainer, tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text("import sys\nfrom utils import run\nsys.exit(run(lambda contract: {}['missing']))\n")

    assert trainer.run(script=str(script), PYTHONPATH=str(ROOT)) == 70, trainer.output

    assert trainer.functions.calls[-1].body["error"] == {"reason": "trainer_error", "message": "KeyError: 'missing'"}
    assert b"Traceback" in (trainer.stored("logs/job-{id}/attempt-1.log") or b"")


def test_a_download_that_broke_off_goes_on_where_it_was(
    contract: Contract, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(range(256)) * 40_000
    bucket.put("models/big.pt", content)
    chunks, ranges, get = iter([None]), [], requests.Session.get

    def break_off() -> None:
        if next(chunks, 1) is None:
            raise OSError("the cable")

    def noted(session: requests.Session, url: str, **options: Any) -> requests.Response:
        ranges.append(options["headers"].get("Range"))
        return get(session, url, **options)

    monkeypatch.setattr(requests.Session, "get", noted)
    monkeypatch.setattr(contract.storage, "check", break_off)

    assert contract.download("models/big.pt", tmp_path / "big.pt")

    assert (tmp_path / "big.pt").read_bytes() == content
    assert ranges == [None, f"bytes={1 << 20}-"]
    assert [one.name for one in tmp_path.iterdir() if "big" in one.name] == ["big.pt"]


def test_permanent_failures_are_not_retried(contract: Contract) -> None:
    tries = []

    def refused() -> None:
        tries.append(1)
        raise RefusedError("403 AccessDenied")

    with pytest.raises(StorageError, match="PUT a: 403"):
        contract.storage.insist(refused, "PUT a", 60)

    assert len(tries) == 1


def test_console_lines_are_whole_prefixed_and_without_secrets(tmp_path: Path) -> None:
    path = tmp_path / "log"
    console = Console(path, "[TRACE:1] job=j", ["hunter22"])

    console.write("half ")
    console.write("line hunter22\n\n")
    bar = "".join(f"\r{percent}%" for percent in range(101))
    lines, rest = whole_lines(f"\x1b[31mred\x1b[0m\r\n{bar}\nno end")
    console.print_lines(lines)
    console.write("GET http://s3/b/k?X-Amz-Signature=abc&X-Amz-Date=1 eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2ln\n")

    lines = [line.partition("[TRACE:1] job=j ")[2] for line in path.read_text().splitlines()]
    assert lines == ["half line ***", "red", "100%", "GET http://s3/b/k?***&*** ***"]
    assert rest == "no end"


def test_output_of_children_and_c_code_is_prefixed_and_stored(trainer: Trainer, tmp_path: Path) -> None:
    script = tmp_path / "loud.py"
    script.write_text(
        "import os, subprocess, sys, utils\n"
        "def work(contract):\n"
        "    os.write(1, b'from C ' + contract.settings.callback_token.encode() + b'\\n')\n"
        "    subprocess.run([sys.executable, '-c', 'print(\"from a child\")'], check=True)\n"
        "    os.write(2, b'10%\\r50%\\r100%\\n' + b'x' * 3_000_000 + b'\\nno end')\n"
        "    return {}\n"
        "sys.exit(utils.run(work))\n"
    )

    assert trainer.run(script=str(script), PYTHONPATH=str(ROOT)) == 0

    log = (trainer.stored("logs/job-{id}/attempt-1.log") or b"").decode()
    prefix = f"[TRACE:{trainer.trace_id}] job_id={trainer.job_id} "
    for text in (trainer.output, log):
        lines = [line.partition(prefix)[2] for line in text.splitlines()]
        assert all(lines)
        assert {"from C ***", "from a child", "100%"} <= set(lines)
        assert sum(line.count("x") for line in lines if set(line) == {"x"}) == 3_000_000
    assert "no end" in trainer.output


def test_output_right_before_a_crash_is_complete_and_in_order(trainer: Trainer, tmp_path: Path) -> None:
    script = tmp_path / "crashes.py"
    script.write_text(
        "import os, sys, utils\n"
        "def work(contract):\n"
        "    if os.fork() == 0:\n"
        "        print('from a fork')\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "    os.write(2, b'from C\\n')\n"
        "    print('last words')\n"
        "    os._exit(9)\n"
        "sys.exit(utils.run(work))\n"
    )

    assert trainer.run(script=str(script), PYTHONPATH=str(ROOT)) == 9

    prefix = f"[TRACE:{trainer.trace_id}] job_id={trainer.job_id} "
    lines = [line.partition(prefix)[2] for line in trainer.output.splitlines()]
    assert lines == ["from a fork", "from C", "last words"]


@pytest.mark.parametrize("next_step", ["contract.check()", "contract.download('datasets/none.zip', path)"])
def test_sigterm_counts_even_if_a_library_catches_what_its_handler_raises(
    trainer: Trainer, tmp_path: Path, next_step: str
) -> None:
    script = tmp_path / "catches.py"
    script.write_text(
        "import sys, time, utils\n"
        "def work(contract):\n"
        "    path = contract.scratch / 'dataset.zip'\n"
        "    contract.event('log', 'working')\n"
        "    try:\n"
        "        time.sleep(60)\n"
        "    except:\n"
        "        pass\n"
        f"    {next_step}\n"
        "    time.sleep(60)\n"
        "sys.exit(utils.run(work))\n"
    )
    process = trainer.start(PATHS, script=str(script), MINIO_ENDPOINT="http://127.0.0.1:9")
    eventually(lambda: trainer.functions.bodies("event", message="working"))

    process.send_signal(signal.SIGTERM)

    assert process.wait(15) == 143, trainer.output  # the process's last resort is a timer of 25 s
    assert trainer.functions.bodies("event", type="interrupted")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JOB_ID", "../x"),
        ("BACKEND_BASE_URL", "ftp://x"),
        ("TRACE_ID", "xyz"),
        ("HEARTBEAT_SECONDS", "nan"),
        ("DATASET_ID", "../secrets"),
        ("MODEL_NAME", "/etc/passwd"),
        ("CHECKPOINT_KEY", "a/../../b"),
        ("TASK", "sleep"),
        ("EPOCHS", "0"),
        ("EPOCHS", "1.5"),
        ("BATCH_SIZE", "-1"),
        ("LEARNING_RATE", "inf"),
        ("DEVICE", "gpu"),
        ("WORKERS", "-1"),
        ("HYPERPARAMETERS", '{"a": NaN}'),
        ("STORAGE_TYPE", "floppy"),
        ("DATASET_ID", ""),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(name: str, value: str) -> None:
    try:
        _, problems = Settings.from_environ(GOOD | {name: value})
    except ConfigInvalidError as error:
        problems = str(error)

    assert problems.startswith(name)
    assert "(?" not in problems


def test_every_variable_that_cannot_be_used_is_named_at_once() -> None:
    settings, problems = Settings.from_environ(GOOD | {"EPOCHS": "many", "HEARTBEAT_SECONDS": "often", "SEED": "3"})

    assert "EPOCHS='many'" in problems
    assert "HEARTBEAT_SECONDS='often'" in problems
    assert (settings.epochs, settings.heartbeat_seconds, settings.seed) == (100, 30.0, 3)


@pytest.mark.parametrize("name", ["café", "cats (1)", "a&b", "my,data", "a'b", "कुत्ता", "🐈"])
def test_realistic_names_can_be_used(name: str) -> None:
    settings, problems = Settings.from_environ(GOOD | {"DATASET_ID": name, "MODEL_NAME": f"{name}.pt"})

    assert (settings.dataset_id, problems) == (name, "")


def test_without_a_token_the_error_is_reported_by_the_exit_code_only(trainer: Trainer) -> None:
    assert run_tiny(trainer, CALLBACK_TOKEN=None) == 78

    assert "CALLBACK_TOKEN" in trainer.output


def test_defaults_are_the_frameworks_own() -> None:
    settings, _ = Settings.from_environ(GOOD)

    assert (settings.task, settings.image_size, settings.learning_rate, settings.device) == ("train", None, None, None)
    assert len(settings.trace_id) == 32
