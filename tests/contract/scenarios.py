"""The scenarios in which a trainer runs. Runs are expensive, so each decides several rules."""

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from tests.contract.proxy import Fault, Faults, Proxy
from tests.contract.workbench import Run, Workbench

AWAY_SECONDS = 5.0
CUT_SECONDS = 4.0
RETRY_AFTER_SECONDS = 2.0
_POLL_SECONDS = 0.05


def plain(workbench: Workbench) -> list[Run]:
    """No faults; the token is due for renewal."""
    with workbench.started(workbench.new_job(), is_old_token=True) as (run, _):
        pass
    return [run]


def rough(workbench: Workbench) -> list[Run]:
    """Responses are lost and late, requests are doubled, and the functions fail, are busy, and are unreachable for a while.

    The number of heartbeats depends on the trainer and the host: ``done`` gets the faults that no heartbeat got.
    """
    with workbench.started(workbench.new_job(), _rough()) as (run, _):
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

    def fault(_proxy: Proxy, name: str, _before: int) -> Fault | None:
        nonlocal away_until
        if name not in of_name:
            return None
        if time.monotonic() < away_until:
            return Fault("away")
        if name == "done" and of_name["heartbeat"]:
            of_name["done"].extend(unused for unused in (busy, away) if unused in of_name["heartbeat"])
            of_name["heartbeat"].clear()
        next_fault = of_name[name].popleft() if of_name[name] else None
        if next_fault is away:
            away_until = time.monotonic() + AWAY_SECONDS
        return next_fault

    return fault


def gateway(workbench: Workbench) -> list[Run]:
    """A gateway in front of the functions responds 404 and 409 for a while, such as before its route exists."""
    faults = {
        name: deque([Fault("gateway", 404), Fault("gateway", 409)])
        for name in ("event", "heartbeat", "presign", "done")
    }

    def fault(_proxy: Proxy, name: str, _before: int) -> Fault | None:
        return faults[name].popleft() if faults.get(name) else None

    with workbench.started(workbench.new_job(), fault) as (run, _):
        pass
    return [run]


def stopped(workbench: Workbench) -> list[Run]:
    """SIGTERM during the training; then the same job starts again."""
    job, acted = workbench.new_job(attempt_limit=3), threading.Event()
    with workbench.started(job, _held(acted)) as (first, process):
        _until(lambda: first.beats, process, workbench.trainer.seconds)
        first.signalled_at = time.monotonic()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        acted.set()
    with workbench.started(job) as (second, _):
        pass
    return [first, second]


def killed(workbench: Workbench) -> list[Run]:
    """SIGKILL once a checkpoint is stored; then the same job starts again."""
    job, acted = workbench.new_job(attempt_limit=3), threading.Event()
    last = f"checkpoints/job-{job['id']}/last.pt"

    def is_stored_soon(proxy: Proxy, name: str) -> bool:
        return name == "done" or any(
            (call.body or {}) == {"method": "PUT", "key": last} for call in proxy.named("presign")
        )

    with workbench.started(job, _held(acted, is_stored_soon, then=Fault("away"))) as (first, process):
        _until(lambda: first.beats and workbench.keys(last), process, workbench.trainer.seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        acted.set()
    with workbench.started(job) as (second, _):
        pass
    return [first, second]


def cancelled(workbench: Workbench) -> list[Run]:
    """The job is cancelled during the training: callbacks get 409."""
    acted = threading.Event()
    with workbench.started(workbench.new_job(), _held(acted)) as (run, process):
        _until(lambda: run.beats, process, workbench.trainer.seconds)
        workbench.cancel(run.job_id)
        run.signalled_at = time.monotonic()
        acted.set()
    return [run]


def refused(workbench: Workbench) -> list[Run]:
    """``heartbeat`` and ``done`` refuse the token."""

    def fault(_proxy: Proxy, name: str, _before: int) -> Fault | None:
        return Fault("status", 401) if name in {"heartbeat", "done"} else None

    with workbench.started(workbench.new_job(), fault, DONE_RETRY_SECONDS="3") as (run, _):
        pass
    return [run]


def bad_dataset(workbench: Workbench) -> list[Run]:
    """The dataset is not a zip archive."""
    with workbench.started(workbench.new_job(dataset_id="broken"), DATASET_ID="broken") as (run, _):
        pass
    return [run]


def overwritten(workbench: Workbench) -> list[Run]:
    """The dataset is not the version that the job is for."""
    with workbench.started(workbench.new_job(), DATASET_ETAG="0" * 32) as (run, _):
        pass
    return [run]


def bad_settings(workbench: Workbench) -> list[Run]:
    """A setting is invalid."""
    with workbench.started(workbench.new_job(), EPOCHS="many") as (run, _):
        pass
    return [run]


def storage_away(workbench: Workbench) -> list[Run]:
    """The storage is unreachable at the start, and again during the training."""
    with workbench.started(workbench.new_job()) as (run, process):
        for is_time in (lambda: True, lambda: run.beats):
            _until(is_time, process, workbench.trainer.seconds)
            _cut(workbench, process)
    return [run]


def _cut(workbench: Workbench, process: "subprocess.Popen[bytes]") -> None:
    """Cut the storage off until the trainer has failed to connect, and for some seconds more."""
    before = workbench.pipe.refused
    workbench.pipe.is_cut = True
    _until(lambda: workbench.pipe.refused > before, process, workbench.trainer.seconds)
    _until(lambda: False, process, CUT_SECONDS)
    workbench.pipe.is_cut = False


SCENARIOS: Mapping[str, Callable[[Workbench], list[Run]]] = {
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
    acted: threading.Event, since: Callable[[Proxy, str], bool] = lambda _proxy, _name: True, then: Fault | None = None
) -> Faults:
    """Hold the calls of a trainer until the kit has acted, so that it cannot end before, however slow the host is.

    Holding begins after the first heartbeat with an epoch, at the first call for which ``since`` returns true.
    """

    def fault(proxy: Proxy, name: str, _before: int) -> Fault | None:
        if acted.is_set():
            return then
        return Fault("held") if proxy.beats and since(proxy, name) else None

    return fault


def _until(condition: Callable[[], object], process: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Wait until the condition holds, the trainer has ended, or the time limit is reached."""
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
