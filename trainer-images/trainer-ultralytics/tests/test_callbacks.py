"""Callbacks to which a gateway responds, and values that a framework passes."""

import sys
import threading
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fixtures_functions import Response
from fixtures_trainer import ROOT, Trainer

from callbacks import pause_seconds
from console import Console

PATHS = {"PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize(
    ("status", "content_type"),
    [(404, "text/html"), (404, "application/json; charset=utf-8")]
    + [(status, "application/json") for status in (400, 401, 403, 404, 405, 409, 413, 415, 422, 451)],
)
def test_a_response_of_a_gateway_ends_no_training_and_loses_nothing(
    trainer: Trainer, status: int, content_type: str
) -> None:
    is_gateways = cycle([True, False])

    def respond(_call: str, _body: dict[str, Any]) -> Response | None:
        refusal = {"content-type": content_type, "message": "no Route matched with those values"}
        return (status, refusal) if next(is_gateways) else None

    trainer.functions.respond = respond

    assert trainer.run(PATHS, script="tests/tiny.py") == 0, trainer.output

    assert [body["type"] for body in trainer.functions.bodies("event")].count("started") == 1
    assert trainer.functions.bodies("event", type="checkpoint")
    assert trainer.functions.bodies("done", status="SUCCEEDED")


def test_a_trainer_that_outlives_its_test_calls_no_other_test(trainer: Trainer) -> None:
    """Its port may be this test's by then."""
    port = urlsplit(trainer.functions.url).port
    stray = {"BACKEND_BASE_URL": f"http://127.0.0.1:{port}"}

    assert trainer.run(PATHS | stray, script="tests/tiny.py") == 0, trainer.output  # refused, so that it stops

    assert not trainer.functions.calls
    assert "another test" in trainer.output


def script_of(folder: Path, *lines: str) -> str:
    """Return a trainer that runs these lines."""
    script = folder / "script.py"
    head = ("import math, sys", "import numpy as np", "from utils import run", "def train(contract):")
    script.write_text("\n".join((*head, *(f"    {line}" for line in lines), "sys.exit(run(train))")))
    return str(script)


def test_a_heartbeat_holds_500_metrics_and_one_warning_names_the_rest(trainer: Trainer, tmp_path: Path) -> None:
    script = script_of(
        tmp_path,
        "metrics = {f'AP/{number}': 0.5 for number in range(1203)}",
        "for epoch in (1, 2, 3):",
        "    contract.heartbeat(epoch=epoch, metrics=metrics)",
        "return metrics",
    )

    assert trainer.run(PATHS, script=script) == 0, trainer.output

    assert [len(body["metrics"]) for body in trainer.functions.bodies("heartbeat", epoch=3)] == [500]
    assert len(trainer.functions.bodies("done")[0]["metrics"]) == 500
    warnings = [body["message"] for body in trainer.functions.bodies("event", type="warning")]
    assert len([message for message in warnings if "500" in message and "1203" in message]) == 1


def test_numbers_of_numpy_are_numbers(trainer: Trainer, tmp_path: Path) -> None:
    script = script_of(
        tmp_path,
        "contract.progress(np.int64(7))",
        "contract.heartbeat(epoch=np.int64(1), epochs=np.int32(2), step=np.float64(3),"
        " metrics={'loss': np.float32(0.5)}, eta_seconds=np.float64(1.5))",
        "contract.event('log', 'numbers', count=np.int64(4), share=np.float32(0.5))",
        "return {'loss': np.float32(0.25)}",
    )

    assert trainer.run(PATHS, script=script) == 0, trainer.output

    beat = {"epoch": 1, "epochs": 2, "step": 3, "metrics": {"loss": 0.5}, "eta_seconds": 1.5}
    body = trainer.functions.bodies("heartbeat", epoch=1)[0]
    assert beat.items() <= body.items()
    assert isinstance(body["step"], int)  # the functions take no float
    assert trainer.functions.bodies("event", type="log")[0]["data"] == {"count": 4, "share": 0.5}
    assert trainer.functions.bodies("done")[0]["metrics"] == {"loss": 0.25}


def test_a_step_that_is_no_number_is_left_out_with_a_warning(trainer: Trainer, tmp_path: Path) -> None:
    script = script_of(tmp_path, "contract.heartbeat(epoch=1, step=math.nan, eta_seconds=math.inf)", "return {}")

    assert trainer.run(PATHS, script=script) == 0, trainer.output

    assert "step" not in trainer.functions.bodies("heartbeat", epoch=1)[0]
    warnings = [body["message"] for body in trainer.functions.bodies("event", type="warning")]
    assert [message for message in warnings if message.startswith("step ")]


def test_the_pause_between_two_tries_stays_at_half_a_minute_however_long_the_outage() -> None:
    pauses = [pause_seconds(failures) for failures in (0, 1, 2, 8, 5_000)]

    assert pauses == [0, 0.5, 1, 30, 30]


def test_printing_while_a_token_is_renewed_raises_nothing(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    console = Console(tmp_path / "log", "[TRACE:1]", ["a", "b"])

    def print_lines() -> None:
        try:
            for _ in range(500):
                console.write("line\n")
        except RuntimeError as error:
            failures.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        printing = threading.Thread(target=print_lines)
        printing.start()
        for number in range(2_000):
            console.hide(f"secret {number}")
        printing.join()
    finally:
        sys.setswitchinterval(before)

    assert failures == []
    assert (tmp_path / "log").read_text().count("line") == 500
