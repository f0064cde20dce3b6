"""Output of the command line."""

from typing import Any

import pytest

from client import show, watch
from client.follow import Update

AT = "2026-01-01T00:00:00Z"


def a_job(**fields: Any) -> dict[str, Any]:
    return {
        "id": "a1", "state": "RUNNING", "reason": None, "message": None, "liveness": "live", "framework": "ultralytics",
        "task": "train", "dataset_id": "cats", "model_name": "yolo11n.yaml", "spec": {}, "epoch": 3, "epochs": 12,
        "metrics": {}, "eta_seconds": None, "created_at": AT, "started_at": AT, "finished_at": None,
    } | fields  # fmt: skip


def an_event(kind: str, **fields: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "type": kind,
        "epoch": None,
        "step": None,
        "metrics": None,
        "message": None,
        "at": AT,
    } | fields


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"metrics/mAP50(B)": 0.91934, "metrics/mAP50-95(B)": 0.8, "lr/pg0": 0.1}, "mAP50 0.919  mAP50-95 0.800"),
        ({"train/box_loss": 1.25, "train/cls_loss": 2.0}, "loss 3.250"),
        ({"train/loss": 0.5, "train/aux_loss": 9.0, "val/top1": 0.75}, "loss 0.500  top-1 0.750"),
        ({"images": 300, "objects": 625}, "images 300  objects 625"),
        ({}, ""),
    ],
)
def test_the_main_metrics_are_shown_or_else_all(values: dict[str, float], expected: str) -> None:
    assert show.metrics(values) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, ""),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (42.4, "42 s"),
        (59.7, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7620, "2 h 07 min"),
    ],
)
def test_durations_are_in_the_units_that_suit_them(seconds: float | None, expected: str) -> None:
    assert show.duration(seconds) == expected


@pytest.mark.parametrize(("count", "expected"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5418330, "5.2 MiB")])
def test_sizes_are_in_the_units_that_suit_them(count: int, expected: str) -> None:
    assert show.size(count) == expected


def test_a_failed_job_shows_its_reason_and_a_silent_one_its_silence() -> None:
    assert show.state(a_job(state="FAILED", reason="dataset_invalid")) == "FAILED (dataset_invalid)"
    assert show.state(a_job(liveness="silent")) == "RUNNING (silent)"
    assert show.state(a_job()) == "RUNNING"


def test_a_table_is_aligned_and_has_no_trailing_spaces() -> None:
    assert show.table(("ID", "STATE"), [("long-id", "RUNNING"), ("b", "")]) == [
        "ID       STATE",
        "long-id  RUNNING",
        "b",
    ]


def test_untrusted_text_cannot_control_the_terminal() -> None:
    line = show.event_line(an_event("event", type="warning", message="bad\x1b[2Jfile\nSUCCEEDED"))

    assert "\x1b" not in line
    assert "\n" not in line


def test_the_last_line_has_the_duration_and_the_reason() -> None:
    job = a_job(
        state="FAILED", reason="oom_gpu", message="use a smaller BATCH_SIZE", finished_at="2026-01-01T00:01:16Z"
    )

    assert show.end(job) == "a1 FAILED (oom_gpu)  after 1 min 16 s  use a smaller BATCH_SIZE"


def test_an_epoch_is_printed_once_when_its_heartbeat_is_repeated() -> None:
    printed = watch.Printed()
    heartbeat = an_event("heartbeat", epoch=2, metrics={"loss": 0.5})

    first = list(watch.lines(Update(a_job(), [heartbeat, heartbeat]), printed))
    again = list(watch.lines(Update(a_job(), [heartbeat]), printed))

    assert first == ["epoch 2/12  loss 0.500"]
    assert again == []


def test_another_attempt_prints_its_epochs_again() -> None:
    printed = watch.Printed(epoch=5)
    events = [an_event("event", type="started"), an_event("heartbeat", epoch=1, metrics={"loss": 1.5})]

    assert list(watch.lines(Update(a_job(), events), printed)) == ["epoch 1/12  loss 1.500"]


def test_an_outage_is_printed_once() -> None:
    printed = watch.Printed()
    outage = Update(a_job(), [], "no response")

    assert [*watch.lines(outage, printed), *watch.lines(outage, printed)] == ["no response; waiting"]


def test_the_bar_shows_epoch_metrics_and_time_left() -> None:
    job = a_job(metrics={"loss": 1.5, "mAP50": 0.25, "mAP50-95": 0.1}, eta_seconds=61.0)

    assert watch.numbers(job) == "epoch 3/12  loss 1.500  mAP50 0.250  1 min 01 s left"
    assert (
        watch.numbers(a_job(state="QUEUED", message="waits for a free slot (LOCAL_JOB_LIMIT=1)"))
        == "waits for a free slot (LOCAL_JOB_LIMIT=1)"
    )
