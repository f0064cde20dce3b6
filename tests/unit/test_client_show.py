"""Output of the command line."""

from datetime import UTC, datetime
from typing import Any

import pytest
from rich.cells import cell_len

from client import logs, output, show, times, watch
from client.follow import Update
from client.output import Column
from client.progress import Progress, doing, speed

AT = "2026-01-01T00:00:00Z"


def a_job(**fields: Any) -> dict[str, Any]:
    return {
        "id": "a1", "state": "RUNNING", "reason": None, "message": None, "liveness": "live", "framework": "ultralytics",
        "task": "train", "dataset_id": "cats", "model_name": "yolo11n.yaml", "spec": {}, "epoch": 3, "epochs": 12,
        "metrics": {}, "eta_seconds": None, "heartbeat_at": None, "step": None, "name": None, "created_at": AT, "started_at": AT, "finished_at": None,
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
        ({"score": 1.5, "system/cpu_percent": 50.0}, "score 1.500"),
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


def test_a_metric_has_the_same_name_everywhere_unless_another_one_has_it() -> None:
    shown = {
        "metrics/mAP50-95(B)": "mAP50-95",
        "metrics/mAP50(M)": "mAP50 of masks",
        "metrics/recall(B)": "recall",
        "val/top1": "top-1",
        "val/box_loss": "val box loss",
        "train/loss": "loss",
        "score": "score",
    }

    assert {name: show.label(name, shown) for name in shown} == shown
    assert [show.label(name, ["loss", "train/loss"]) for name in ("loss", "train/loss")] == ["loss", "train/loss"]


def test_a_failed_job_shows_its_reason_and_a_silent_one_its_silence() -> None:
    assert show.state(a_job(state="FAILED", reason="dataset_invalid")) == "FAILED (dataset_invalid)"
    assert show.state(a_job(liveness="silent")) == "RUNNING (silent)"
    assert show.state(a_job()) == "RUNNING"


def test_a_table_is_aligned_and_has_no_trailing_spaces_and_no_empty_columns() -> None:
    columns = (Column("ID"), Column("NAME"), Column("STATE"))

    assert output.table(columns, [("long-id", "", "RUNNING"), ("b", "", "")]) == [
        "ID       STATE",
        "long-id  RUNNING",
        "b",
    ]


def test_a_table_fits_the_terminal_also_with_wide_characters() -> None:
    columns = (Column("ID"), Column("NAME", is_flexible=True), Column("MODEL", optional=1), Column("STATE"))
    rows = [("3f2a", "고양이와 강아지 " * 20, "yolo11n.pt", "RUNNING"), ("91bc", "x", "resnet18", "FAILED")]

    for cells in (40, 60, 80, 120):
        lines = output.table(columns, rows, cells)
        assert max(cell_len(line) for line in lines) <= cells
        assert "…" in lines[1]
        assert lines[1].endswith("RUNNING")
    assert "yolo11n.pt" in output.table(columns, rows, 60)[1]
    assert "yolo11n.pt" not in output.table(columns, rows, 30)[1]


def test_long_names_are_cut_in_the_middle_before_a_column_is_left_out() -> None:
    columns = (Column("DATASET", is_name=True), Column("METRICS", optional=1), Column("TOOK", optional=2))
    rows = [(f"street scenes of Berlin {number}", "mAP50 0.812", "27 s") for number in (1, 2)]

    assert output.table(columns, rows, 30) == [
        "DATASET      METRICS      TOOK",
        "stree…lin 1  mAP50 0.812  27 s",
        "stree…lin 2  mAP50 0.812  27 s",
    ]
    assert output.table(columns, rows, 21) == ["DATASET   METRICS", "stre…n 1  mAP50 0.812", "stre…n 2  mAP50 0.812"]
    assert cell_len(output.fit("고양이와 강아지 고양이", 9, is_name=True)) <= 9


def test_in_a_narrow_terminal_a_job_has_its_main_metric_and_shorter_times() -> None:
    job = a_job(
        metrics={"train/loss": 1.5, "val/top1": 68.0, "system/cpu_percent": 3}, finished_at="2026-11-26T12:00:00Z"
    )
    *_, metric, created, took = show.job_row(job, is_brief=True)

    assert (metric, len(created)) == ("top-1 68", len("11-26 10:00"))
    assert took == show.brief_duration(show.seconds_between(job["started_at"], job["finished_at"]))
    assert [show.brief_duration(seconds) for seconds in (None, 27.2, 200, 7_500)] == ["", "27 s", "3 min", "2.1 h"]
    assert (show.main_metric({"train/loss": 1.5}), show.main_metric({})) == ("loss 1.500", "")


def test_a_text_that_does_not_fit_goes_on_in_the_next_line_of_its_column() -> None:
    columns = (output.Column("OPTION"), output.Column("ABOUT", is_flexible=True, is_wrapped=True))
    about = "how many images a step takes; at least 1"
    rows = [("batch", about), ("epochs", "")]

    assert output.table(columns, rows, 30) == [
        "OPTION  ABOUT",
        "batch   how many images a step",
        "        takes; at least 1",
        "epochs",
    ]
    assert output.table(columns, rows)[1] == f"batch   {about}"


def test_json_has_a_stable_key_order() -> None:
    assert output.to_json({"b": 1, "a": {"d": "é", "c": 2}}) == '{"a": {"c": 2, "d": "é"}, "b": 1}'


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


def test_why_a_job_ended_is_left_to_the_line_on_its_end() -> None:
    events = [
        {"kind": "state", "type": "QUEUED", "message": "waits for a free slot"},
        {"kind": "state", "type": "FAILED", "message": "names is missing"},
    ]

    assert list(watch.lines(Update(a_job(), events), watch.Printed())) == ["QUEUED waits for a free slot", "FAILED"]


def test_a_waiting_job_says_why() -> None:
    message = "waits for a free slot (LOCAL_JOB_LIMIT=1)"

    assert doing(a_job(state="QUEUED", message=message), Progress()) == message


@pytest.mark.parametrize(
    ("number", "words"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (22, "22nd"), (113, "113th")]
)
def test_a_waiting_job_has_a_place_in_the_queue(number: int, words: str) -> None:
    job = a_job(state="QUEUED", message="waits for a free slot", queue_position=number, queue_length=120)

    assert doing(job, Progress()) == f"{words} of 120 in the queue; waits for a free slot"


def test_before_the_first_heartbeat_the_trainers_phase_is_shown() -> None:
    progress = Progress()
    progress.update(a_job(epoch=None), [an_event("event", type="log", data={"phase": "downloading"})])

    assert doing(a_job(epoch=None), progress) == "downloading"


def test_the_picture_shows_step_speed_time_left_and_the_best_metric() -> None:
    later, latest = "2026-01-01T00:00:10Z", "2026-01-01T00:00:20Z"
    job = a_job(
        spec={"batch_size": 16}, step=120, metrics={"loss": 1.5, "mAP50-95": 0.1}, eta_seconds=61.0, heartbeat_at=latest
    )
    progress = Progress()
    beats = [
        an_event("heartbeat", epoch=1, step=40, metrics={"mAP50-95": 0.2}),
        an_event("heartbeat", epoch=2, step=80, metrics={"mAP50-95": 0.3}, at=later),
        an_event("heartbeat", epoch=3, step=120, metrics={"mAP50-95": 0.1}, at=latest),
    ]
    progress._eta = (1.0, AT)  # so that it is not the first poll of an old job
    progress.update(job, beats, now=1000.0)
    lines = watch.view(job, progress, 80, now=1010.0)

    assert lines[0] == "RUNNING  cats  yolo11n.yaml  epoch 3/12  step 120"
    assert lines[1].startswith("━━━━┄┄┄")
    assert "25%" in lines[1]
    assert "51 s left" in lines[1]
    assert "best mAP50-95 0.300 (epoch 2)" in lines[2]
    assert speed(job, progress) == "64 images/s"
    assert lines[1].endswith("images/s")
    assert all(len(line) < 80 for line in lines)


def test_what_a_training_uses_of_its_machine_is_one_short_line() -> None:
    used = {"system/cpu_percent": 180.4, "system/ram_bytes": 3.5 * 2**30, "system/data_wait_percent": 12.0}
    gpus = {"system/gpu0_percent": 93.0, "system/gpu0_memory_bytes": 2.0**30, "system/gpu1_percent": 90.0}

    assert show.system(used) == "CPU 180%  RAM 3.5 GiB  waits for data 12%"
    assert show.system(gpus) == "GPU 0 93% 1.0 GiB  GPU 1 90%"
    assert show.system({"system/gpu_percent": 5.0}) == "GPU 5%"
    assert show.system({"loss": 1.0}) == ""
    assert show.metrics({"score": 1.0, **used}) == "score 1"
    assert watch.view(a_job(system_metrics=used), Progress(), 80)[-1] == show.system(used)


def test_within_an_epoch_the_bar_moves_by_steps() -> None:
    progress = Progress()
    progress.update(a_job(), [an_event("heartbeat", epoch=3, step=120, metrics={"loss": 1.0})])

    assert progress.completed(a_job(step=120)) == 0.25
    assert progress.completed(a_job(step=140)) == pytest.approx(140 / 480)


def test_an_outage_is_shown_in_the_picture() -> None:
    lines = watch.view(a_job(), Progress(), 80, outage="no response")

    assert lines[1] == "the functions do not answer; waiting"


def test_a_log_line_is_short_for_people() -> None:
    line = "2026-11-26T17:40:05.123Z INFO [TRACE:0123456789abcdef0123456789abcdef] job_id=3f2a weights: resnet18"

    assert logs.short(line) == "17:40:05 weights: resnet18"
    assert logs.short("any other line") == "any other line"
    assert logs._visible("10%\r50%\r100%") == "100%"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2d", "2025-12-30T12:00:00Z"),
        ("90min", "2026-01-01T10:30:00Z"),
        ("2025-12-31T00:00:00Z", "2025-12-31T00:00:00Z"),
    ],
)
def test_points_in_time_are_read_as_people_write_them(text: str, expected: str) -> None:
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)

    assert times.moment(text, "--since", now) == expected


def test_the_load_of_the_machine_is_a_line_while_the_job_runs_and_changes_no_speed() -> None:
    load = {"system/cpu_percent": 45.2, "system/gpu_memory_bytes": 3 << 30, "system/data_wait_percent": 3.0}
    job, progress = a_job(epoch=1, step=150, system_metrics=load), Progress()
    beats = [("2026-01-01T00:00:10Z", 100, {"loss": 0.5}), ("2026-01-01T00:00:20Z", 150, load)]
    progress.update(job, [an_event("heartbeat", at=at, epoch=1, step=n, metrics=values) for at, n, values in beats])

    assert progress.steps_per_epoch == 100
    assert watch.view(job, progress, 80)[-1].endswith("CPU 45%  GPU 3.0 GiB  waits for data 3%")
    assert "CPU" not in str(watch.view(job | {"state": "SUCCEEDED"}, progress, 80))
