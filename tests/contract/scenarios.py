"""The runs that a trainer is put through. Each is dear, so several rules are judged by one."""

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from tests.contract.door import Door, Fault, Faults
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
    """Answers are lost, doubled and late; the functions fail, are busy, and are away for a while.

    How many heartbeats come is the trainer's own, and its host's: what they did not meet, done does.
    """
    with stand.started(stand.new_job(), _rough()) as (run, _):
        pass
    return [run]


def _rough() -> Faults:
    busy, away = Fault("status", 429, RETRY_AFTER_SECONDS), Fault("away", seconds=AWAY_SECONDS)
    of_name = {
        "event": deque([Fault("lost")]),
        "heartbeat": deque([Fault("status", 500), busy, Fault("slow", seconds=1.0), Fault("twice"), away]),
        "done": deque([Fault("lost"), Fault("status", 503, 1.0)]),
    }
    away_until = 0.0

    def fault(_door: Door, name: str, _before: int) -> Fault | None:
        nonlocal away_until
        if name not in of_name:
            return None
        if time.monotonic() < away_until:
            return Fault("away")
        if name == "done" and of_name["heartbeat"]:
            of_name["done"].extend(one for one in (busy, away) if one in of_name["heartbeat"])
            of_name["heartbeat"].clear()
        found = of_name[name].popleft() if of_name[name] else None
        if found is away:
            away_until = time.monotonic() + AWAY_SECONDS
        return found

    return fault


def gateway(stand: Stand) -> list[Run]:
    """A gateway in front of the functions answers 404 and 409 for a while, such as one whose route is not there yet."""
    faults = {
        name: deque([Fault("gateway", 404), Fault("gateway", 409)])
        for name in ("event", "heartbeat", "presign", "done")
    }

    def fault(_door: Door, name: str, _before: int) -> Fault | None:
        return faults[name].popleft() if faults.get(name) else None

    with stand.started(stand.new_job(), fault) as (run, _):
        pass
    return [run]


def stopped(stand: Stand) -> list[Run]:
    """SIGTERM in mid-training; then the same job is started again."""
    job, acted = stand.new_job(attempt_limit=3), threading.Event()
    with stand.started(job, _held(acted)) as (first, process):
        _until(lambda: first.beats, process, stand.trainer.seconds)
        first.signalled_at = time.monotonic()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        acted.set()
    with stand.started(job) as (second, _):
        pass
    return [first, second]


def killed(stand: Stand) -> list[Run]:
    """SIGKILL once a checkpoint is stored; then the same job is started again."""
    job, acted = stand.new_job(attempt_limit=3), threading.Event()
    last = f"checkpoints/job-{job['id']}/last.pt"

    def is_stored_soon(door: Door, name: str) -> bool:
        return name == "done" or any(
            (call.body or {}) == {"method": "PUT", "key": last} for call in door.named("presign")
        )

    with stand.started(job, _held(acted, is_stored_soon, then=Fault("away"))) as (first, process):
        _until(lambda: first.beats and stand.keys(last), process, stand.trainer.seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        acted.set()
    with stand.started(job) as (second, _):
        pass
    return [first, second]


def cancelled(stand: Stand) -> list[Run]:
    """The job is cancelled in mid-training: callbacks get 409."""
    acted = threading.Event()
    with stand.started(stand.new_job(), _held(acted)) as (run, process):
        _until(lambda: run.beats, process, stand.trainer.seconds)
        stand.cancel(run.job_id)
        run.signalled_at = time.monotonic()
        acted.set()
    return [run]


def refused(stand: Stand) -> list[Run]:
    """The token is refused by heartbeat and done."""

    def fault(_door: Door, name: str, _before: int) -> Fault | None:
        return Fault("status", 401) if name in {"heartbeat", "done"} else None

    with stand.started(stand.new_job(), fault, DONE_RETRY_SECONDS="3") as (run, _):
        pass
    return [run]


def bad_dataset(stand: Stand) -> list[Run]:
    """The dataset is no zip archive."""
    with stand.started(stand.new_job(dataset_id="broken"), DATASET_ID="broken") as (run, _):
        pass
    return [run]


def overwritten(stand: Stand) -> list[Run]:
    """The dataset is not the version that the job was made for."""
    with stand.started(stand.new_job(), DATASET_ETAG="0" * 32) as (run, _):
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
            _cut(stand, process)
    return [run]


def _cut(stand: Stand, process: "subprocess.Popen[bytes]") -> None:
    """Cut the storage off until the trainer has met it, and for a while more."""
    before = stand.pipe.refused
    stand.pipe.is_cut = True
    _until(lambda: stand.pipe.refused > before, process, stand.trainer.seconds)
    _until(lambda: False, process, CUT_SECONDS)
    stand.pipe.is_cut = False


SCENARIOS: Mapping[str, Callable[[Stand], list[Run]]] = {
    scenario.__name__: scenario
    for scenario in (
        plain,
        rough,
        gateway,
        stopped,
        killed,
        cancelled,
        refused,
        bad_dataset,
        overwritten,
        bad_settings,
        storage_away,
    )
}


def _held(
    acted: threading.Event, since: Callable[[Door, str], bool] = lambda _door, _name: True, then: Fault | None = None
) -> Faults:
    """Hold a trainer in mid-training until the kit has acted: however slow the kit's host, it cannot end before.

    Held is each call after the first heartbeat with an epoch, from when ``since`` says so.
    """

    def fault(door: Door, name: str, _before: int) -> Fault | None:
        if acted.is_set():
            return then
        return Fault("held") if door.beats and since(door, name) else None

    return fault


def _until(condition: Callable[[], object], process: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Wait until the condition holds, the trainer has ended, or time is up."""
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
