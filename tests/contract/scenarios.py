"""The runs that a trainer is put through. Each is dear, so several rules are judged by one."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping

from tests.contract.door import Fault
from tests.contract.stand import Run, Stand

AWAY_SECONDS = 5.0
CUT_SECONDS = 4.0
RETRY_AFTER_SECONDS = 2.0
_LOOK_SECONDS = 0.05


def plain(stand: Stand) -> list[Run]:
    """All goes well; a new token is due."""
    with stand.started(stand.new_job(), is_old_token=True) as (run, _):
        pass
    return [run]


def rough(stand: Stand) -> list[Run]:
    """Answers are lost, doubled and late; the functions fail, are busy, and are away for a while."""
    faults: dict[tuple[str, int], Fault] = {
        ("event", 0): Fault("lost"),
        ("heartbeat", 0): Fault("status", 500),
        ("heartbeat", 1): Fault("status", 429, RETRY_AFTER_SECONDS),
        ("heartbeat", 2): Fault("slow", seconds=1.0),
        ("heartbeat", 3): Fault("twice"),
        ("done", 0): Fault("lost"),
        ("done", 1): Fault("status", 503, 1.0),
    }
    with stand.started(stand.new_job()) as (run, _):
        away_until: list[float] = []

        def fault(name: str, before: int) -> Fault | None:
            if name == "heartbeat" and before == 5:
                away_until.append(time.monotonic() + AWAY_SECONDS)
            if away_until and time.monotonic() < away_until[0] and name != "presign":
                return Fault("away")
            return faults.get((name, before))

        run.door.fault = fault
    return [run]


def stopped(stand: Stand) -> list[Run]:
    """SIGTERM in mid-training; then the same job is started again."""
    job = stand.new_job(attempt_limit=3)
    with stand.started(job) as (first, process):
        _until(lambda: first.beats, process, stand.trainer.seconds)
        first.signalled_at = time.monotonic()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    with stand.started(job) as (second, _):
        pass
    return [first, second]


def killed(stand: Stand) -> list[Run]:
    """SIGKILL once a checkpoint is stored; then the same job is started again."""
    job = stand.new_job(attempt_limit=3)
    with stand.started(job) as (first, process):
        _until(lambda: stand.keys(f"checkpoints/job-{first.job_id}/last.pt"), process, stand.trainer.seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    with stand.started(job) as (second, _):
        pass
    return [first, second]


def cancelled(stand: Stand) -> list[Run]:
    """The job is cancelled in mid-training: callbacks get 409."""
    with stand.started(stand.new_job()) as (run, process):
        _until(lambda: run.beats, process, stand.trainer.seconds)
        run.signalled_at = time.monotonic()
        stand.cancel(run.job_id)
    return [run]


def refused(stand: Stand) -> list[Run]:
    """The token is refused by heartbeat and done."""
    with stand.started(stand.new_job(), DONE_RETRY_SECONDS="3") as (run, _):
        run.door.fault = lambda name, _before: Fault("status", 401) if name in {"heartbeat", "done"} else None
    return [run]


def bad_dataset(stand: Stand) -> list[Run]:
    """The dataset is no zip archive."""
    with stand.started(stand.new_job(dataset_id="broken"), DATASET_ID="broken") as (run, _):
        pass
    return [run]


def bad_settings(stand: Stand) -> list[Run]:
    """A setting cannot be used."""
    with stand.started(stand.new_job(), EPOCHS="many") as (run, _):
        pass
    return [run]


def storage_away(stand: Stand) -> list[Run]:
    """The storage cannot be reached at the start, and again in mid-training."""
    with stand.started(stand.new_job()) as (run, process):
        for begun in (lambda: True, lambda: run.beats):
            _until(begun, process, stand.trainer.seconds)
            stand.pipe.is_cut = True
            _until(lambda: False, process, CUT_SECONDS)
            stand.pipe.is_cut = False
    return [run]


SCENARIOS: Mapping[str, Callable[[Stand], list[Run]]] = {
    scenario.__name__: scenario
    for scenario in (plain, rough, stopped, killed, cancelled, refused, bad_dataset, bad_settings, storage_away)
}


def _until(condition: Callable[[], object], process: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Wait until the condition holds, the trainer has ended, or time is up."""
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
