"""What a trainer needs to keep Stoker's contract (v1), in any framework: a function that trains, ``run`` around it.

::

    def train(contract: Contract) -> Mapping[str, float]:
        settings = contract.settings
        if not contract.download(f"datasets/{settings.dataset_id}.zip", contract.scratch / "dataset.zip"):
            raise DatasetInvalidError("no such dataset")
        for epoch in range(1, settings.epochs + 1):
            ...  # one epoch, with contract.check() after each batch
            contract.heartbeat(epoch=epoch, epochs=settings.epochs, metrics={"train/loss": loss})
            contract.save_checkpoint(contract.scratch / "last.pt")
        contract.save_result(contract.scratch / "metrics.csv")
        return {"accuracy": accuracy}

    sys.exit(run(train))
"""

import logging
import math
import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from contract.callbacks import Callbacks
from contract.checkpoints import Checkpoints
from contract.console import Console, capture, console
from contract.process import EXIT_ON_SIGNAL, Stopped, identify, secrets_of, stop_on_signal
from contract.settings import (
    ConfigInvalidError,
    DatasetInvalidError,
    GpuMemoryError,
    Identity,
    Settings,
    StorageError,
    TrainerError,
    s3_settings,
)
from contract.storage import insist, receive, send, signer

__all__ = [
    "ConfigInvalidError",
    "Contract",
    "DatasetInvalidError",
    "GpuMemoryError",
    "Settings",
    "Stopped",
    "StorageError",
    "TrainerError",
    "run",
]

log = logging.getLogger("trainer")

START_WAIT_SECONDS = 30.0  # for the functions' first answer; after that, work begins without it
UPLOAD_SECONDS = 20.0  # how long one upload is tried
LOG_SECONDS = 10.0
ARTIFACT_LIMIT = 300  # keys in done
METRIC_LIMIT = 500  # in a heartbeat, and in done
LOG_BYTES_PER_SECOND = 1_000_000  # a long log is stored whole each time, so less often
EXIT_UNHEARD = 1  # the work is done and stored, and nobody could be told


class Contract:
    """What a trainer says and stores. Only ``download`` and ``save_result`` raise when the other side is away."""

    settings: Settings

    def __init__(self, identity: Identity, scratch: Path, screen: Console) -> None:
        self.identity, self.scratch = identity, scratch
        self.is_terminated = False  #: by SIGTERM
        self.artifacts: list[str] = []
        self._callbacks = Callbacks(identity, screen)
        self._link: Callable[[str, str], str] = self._callbacks.link
        self._checkpoints = Checkpoints(scratch / "storing", self._put_checkpoint)
        self._warned: set[str] = set()

    def check(self) -> None:
        """Raise Stopped when the job is not to go on; call it after each batch."""
        if self.is_stopped:  # also by SIGTERM: what its handler raises can be lost in a library's bare ``except:``
            raise Stopped

    @property
    def is_stopped(self) -> bool:
        """Whether ``check`` would raise: for threads."""
        return self._callbacks.stop.is_set() or self.is_terminated

    def heartbeat(
        self,
        *,
        epoch: int | None = None,
        epochs: int | None = None,
        step: int | None = None,
        metrics: Mapping[str, float] | None = None,
        eta_seconds: float | None = None,
    ) -> None:
        """Say how far the job is: ``epoch`` is the last one that is finished, of ``epochs``."""
        eta = self.finite({"eta_seconds": eta_seconds} if eta_seconds is not None else {})
        counts = self._whole({"epoch": epoch, "epochs": epochs, "step": step})
        finite = self._cut(self.finite(metrics or {}))
        self._callbacks.beat(counts | ({"metrics": finite} if finite else {}) | eta)

    def progress(self, step: int) -> None:
        """Note the step, for the next heartbeat."""
        self._callbacks.add_to_beat(**self._whole({"step": step}))

    def event(self, kind: str, message: str = "", **data: Any) -> None:
        """Say that something happened: ``checkpoint``, ``warning`` or ``log``."""
        body = {"type": kind, "message": message[:4_000], "data": data}
        self._callbacks.queue("event", {name: value for name, value in body.items() if value})

    def warn_once(self, message: str) -> None:
        """Log a warning and send it, the first time."""
        if message not in self._warned:
            self._warned.add(message)
            log.warning("%s", message)
            self.event("warning", message)

    def finite(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Return what JSON can carry: what is no finite number is left out, and a warning says so once."""
        numbers = {name: _float(value) for name, value in metrics.items()}
        for name in (name for name, value in numbers.items() if not math.isfinite(value)):
            self.warn_once(f"{name} was not a finite number; it is left out whenever it is not")
        return {name: value for name, value in numbers.items() if math.isfinite(value)}

    def _whole(self, counts: Mapping[str, Any]) -> dict[str, int]:
        """Return whole numbers as int, numpy's too; what is none is left out, and a warning says so once."""
        whole: dict[str, int] = {}
        for name, value in counts.items():
            try:
                whole |= {} if value is None else {name: int(value)}
            except (TypeError, ValueError, OverflowError):
                self.warn_once(f"{name} was not a whole number; it is left out whenever it is not")
        return whole

    def _cut(self, metrics: dict[str, float]) -> dict[str, float]:
        if len(metrics) > METRIC_LIMIT:
            self.warn_once(f"only the first {METRIC_LIMIT} of {len(metrics)} metrics are sent")
        return dict(list(metrics.items())[:METRIC_LIMIT])

    def key(self, kind: str, name: str) -> str:
        """Return the key of one of this job's objects; ``kind`` is checkpoints, results or logs."""
        return f"{kind}/job-{self.identity.job_id}/{name}"

    def download(self, key: str, path: Path) -> bool:
        """Fetch an object; return False when there is none. Raises: StorageError, Stopped."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return insist(
                lambda: receive(lambda: self._link("GET", key), path, self.check),
                f"GET {key}",
                self.settings.storage_retry_seconds,
                lambda: self.is_stopped,
            )
        finally:
            self.check()

    def upload(self, path: Path, key: str, within_seconds: float = UPLOAD_SECONDS) -> None:
        """Store a file, even that of a stopped job, after the checkpoints on their way. Raises: StorageError."""
        self._checkpoints.wait()
        self._put(path, key, within_seconds)

    def save_checkpoint(self, *paths: Path, now: bool = False) -> bool:
        """Store ``last.pt``, or ``best.pt`` and then ``last.pt``: while the training goes on, once a minute at most.

        With ``now`` at once, and this waits. Returns whether it has begun; with ``now``, whether all is stored.
        What has not changed is not stored again. A failure ends nothing: the functions get a warning, what comes after
        it in ``paths`` is left, and the next epoch's call tries again.
        """
        return self._checkpoints.save(paths, now=now)

    def save_result(self, path: Path, name: str = "", *, kind: str = "results") -> None:
        """Store what the job was for, trying for minutes. Raises: StorageError, Stopped."""
        self.upload(path, self.key(kind, name or path.name), self.settings.storage_retry_seconds)
        self.check()

    def use(self, settings: Settings) -> None:
        """Take the settings of the work. Raises: ConfigInvalidError."""
        self.settings = settings
        if settings.storage_type != "presigned":
            region = "auto" if settings.storage_type == "r2" else "us-east-1"
            self._link = signer(**s3_settings(os.environ, settings.storage_type), region=region)

    def start(self) -> None:
        """Claim the job, and give the functions a moment to refuse. Raises: Stopped."""
        self._callbacks.start()
        self.event("started")
        self._callbacks.wait_until_sent(START_WAIT_SECONDS)
        self.check()

    def done(self, metrics: Mapping[str, float], error: TrainerError | None = None) -> bool:
        """Say how the job ended, and wait until it was heard; return whether it was. Raises: Stopped."""
        self._checkpoints.wait()
        body: dict[str, Any] = {"status": "FAILED" if error else "SUCCEEDED"}
        body |= {"metrics": self._cut(self.finite(metrics))}
        # A body holds 64 KiB: what lies deepest is the least, such as the single pictures of a prediction.
        body |= {"artifacts": sorted(self.artifacts, key=lambda key: key.count("/"))[:ARTIFACT_LIMIT]}
        body |= {"error": {"reason": error.reason, "message": str(error)[:4_000]}} if error else {}
        self._callbacks.queue("done", body)
        self._callbacks.wait_until_sent(self.identity.done_retry_seconds)
        self.check()
        return self._callbacks.is_done

    def interrupted(self) -> None:
        """Say that SIGTERM ended this process, and wait a little until it was heard."""
        self._checkpoints.wait()
        self.event("interrupted")
        self._callbacks.wait_until_sent(self.identity.grace_seconds / 4)

    def save_log(self, path: Path) -> None:
        """Store the log, if the functions have told the attempt."""
        if self._callbacks.attempt is not None and hasattr(self, "settings"):
            try:
                self._put(path, self.key("logs", f"attempt-{self._callbacks.attempt}.log"), within_seconds=2)
            except (StorageError, OSError):
                self.warn_once("the log cannot be stored for now")

    def _put(
        self, path: Path, key: str, within_seconds: float, is_outdated: Callable[[], bool] = lambda: False
    ) -> None:
        put = partial(send, lambda: self._link("PUT", key), path, is_outdated)
        insist(put, f"PUT {key}", within_seconds, is_outdated)
        if key not in self.artifacts and not key.startswith("logs/"):
            self.artifacts.append(key)

    def _put_checkpoint(self, path: Path, is_outdated: Callable[[], bool]) -> bool:
        key = self.key("checkpoints", path.name)
        try:
            self._put(path, key, UPLOAD_SECONDS, is_outdated)
        except (StorageError, OSError) as error:
            if not is_outdated():
                log.warning("%s was not stored: %s", path.name, error)
                self.event("warning", f"{path.name} was not stored: {error}")
            return False
        self.event("checkpoint", key=key)
        return True


def run(work: Callable[[Contract], Mapping[str, float]]) -> int:
    """Keep the contract around ``work``, which trains and returns its final metrics; return the process's exit code."""
    scratch: Path | None = None
    try:
        identity, scratch, wrong = identify(os.environ)
        with console(f"[TRACE:{identity.trace_id}] job={identity.job_id}", secrets_of(identity)) as screen:
            screen.open(scratch / "trainer.log")
            return _logged(Contract(identity, scratch, screen), screen, _refusing(wrong) if wrong else work)
    except ConfigInvalidError as error:  # as which job to report it is not known
        sys.stderr.write(f"config_invalid: {error}\n")
        return error.exit_code
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)


def _refusing(wrong: ConfigInvalidError) -> Callable[[Contract], Mapping[str, float]]:
    def refuse(_contract: Contract) -> Mapping[str, float]:
        raise wrong

    return refuse


def _logged(contract: Contract, screen: Console, work: Callable[[Contract], Mapping[str, float]]) -> int:
    path, ended = contract.scratch / "trainer.log", threading.Event()

    def keep() -> None:
        stored_bytes = 0
        while not ended.wait(max(LOG_SECONDS, stored_bytes / LOG_BYTES_PER_SECOND)):
            if path.stat().st_size != stored_bytes:
                stored_bytes = path.stat().st_size
                contract.save_log(path)

    keeper = threading.Thread(target=keep, name="log", daemon=True)
    keeper.start()
    try:
        with capture(screen):
            return _unstopped(contract, work)
    finally:
        ended.set()
        keeper.join(timeout=UPLOAD_SECONDS / 4)
        contract.save_log(path)


def _unstopped(contract: Contract, work: Callable[[Contract], Mapping[str, float]]) -> int:
    stop_on_signal(contract)
    try:
        code = _reported(contract, work)
    except Stopped:
        code = 0
    if contract.is_terminated:
        contract.interrupted()
        code = EXIT_ON_SIGNAL
    log.info("exit code %d", code)
    return code


def _reported(contract: Contract, work: Callable[[Contract], Mapping[str, float]]) -> int:
    try:
        contract.start()
        contract.use(Settings.from_environ(os.environ))
        metrics = work(contract)
        return 0 if contract.done(metrics) else EXIT_UNHEARD
    except StorageError as error:  # without done: the job stays open for another attempt
        log.error("storage_error: %s", error)  # noqa: TRY400 -- its words say enough
        return error.exit_code
    except TrainerError as error:
        failure = error
        log.error("%s: %s", error.reason, error)  # noqa: TRY400 -- as above
    except (Exception, SystemExit) as error:
        if contract.is_terminated:  # such as a data loader's workers that the same signal has ended
            raise Stopped from error
        log.exception("the training failed")
        failure = TrainerError(f"{type(error).__name__}: {error}")
    contract.done({}, failure)
    return failure.exit_code


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
