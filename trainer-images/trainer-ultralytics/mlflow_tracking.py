"""Log to MLflow when MLFLOW_TRACKING_URI is set, in a thread, so that its failures never affect the training."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger("tracking")

PENDING_LIMIT = 10_000
PARAM_LIMIT_CHARACTERS = 500
UNREACHABLE_SECONDS = 10.0  # how long to wait at the end for an MLflow that has never responded
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
}


class Tracking:
    """One MLflow run per job, for all its attempts. Without an address, the methods do nothing."""

    def __init__(self, address: str | None, *, experiment: str, job_id: str) -> None:
        self._address, self._experiment, self._job_id = address, experiment, job_id
        self._pending: queue.Queue[Callable[[], None]] = queue.Queue(PENDING_LIMIT)
        self._idle = threading.Event()
        self._client: Any = None
        self._run_id = ""
        if address:
            threading.Thread(target=self._work, name="mlflow", daemon=True).start()

    def params(self, values: Mapping[str, Any]) -> None:
        """Log settings."""
        params = {name: str(value)[:PARAM_LIMIT_CHARACTERS] for name, value in values.items() if value is not None}
        self._later(lambda: self._log_params(params))

    def metrics(self, values: Mapping[str, float], epoch: int) -> None:
        """Log an epoch's metrics."""
        now_ms, snapshot = int(time.time() * 1000), dict(values)
        self._later(lambda: self._log_metrics(snapshot, now_ms, epoch))

    def artifact(self, path: Path) -> None:
        """Store a file with the run."""
        self._later(lambda: self._client.log_artifact(self._run_id, str(path)))

    def end(self, status: str, within_seconds: float = 60.0) -> None:
        """Close the run (FINISHED, FAILED, KILLED), and wait for the pending calls."""
        if self._address:
            self._later(lambda: self._client.set_terminated(self._run_id, status))
            self._later(self._idle.set)
            is_done = self._idle.wait(UNREACHABLE_SECONDS) or (bool(self._run_id) and self._idle.wait(within_seconds))
            if not is_done:
                log.warning("MLflow did not accept all calls in time")

    def _later(self, action: Callable[[], None]) -> None:
        if self._address:
            try:
                self._pending.put_nowait(action)
            except queue.Full:
                log.warning("MLflow is too slow; dropping a call")

    def _work(self) -> None:
        while True:
            action = self._pending.get()
            try:
                if action != self._idle.set:
                    self._open()
                action()
            except Exception as error:  # noqa: BLE001 -- a failing MLflow must not end a training
                log.warning("MLflow failed: %s", type(error).__name__)

    def _open(self) -> None:
        if self._run_id:
            return
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        from mlflow.entities import ViewType  # noqa: PLC0415 -- importing it takes a second
        from mlflow.tracking import MlflowClient  # noqa: PLC0415

        self._client = MlflowClient(self._address)
        experiment = self._client.get_experiment_by_name(self._experiment)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(self._experiment)
        own_runs = f"tags.stoker_job_id = '{self._job_id}'"
        runs = self._client.search_runs([experiment_id], own_runs, ViewType.ACTIVE_ONLY, max_results=1)
        if runs:
            self._client.update_run(runs[0].info.run_id, status="RUNNING")
        tags = {"stoker_job_id": self._job_id}
        run = runs[0] if runs else self._client.create_run(experiment_id, tags=tags, run_name=f"job-{self._job_id}")
        self._run_id = run.info.run_id

    def _log_params(self, params: dict[str, str]) -> None:
        from mlflow.entities import Param  # noqa: PLC0415

        self._client.log_batch(self._run_id, params=[Param(name, value) for name, value in params.items()])

    def _log_metrics(self, values: dict[str, float], now_ms: int, epoch: int) -> None:
        from mlflow.entities import Metric  # noqa: PLC0415

        # MLflow does not allow brackets in names.
        named = {name.replace("(", "_").replace(")", ""): value for name, value in values.items()}
        self._client.log_batch(self._run_id, metrics=[Metric(n, v, now_ms, epoch) for n, v in named.items()])
