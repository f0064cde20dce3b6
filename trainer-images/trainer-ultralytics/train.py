"""Train a YOLO model on one dataset, by Stoker's contract (v1)."""

import csv
import logging
import platform
import shutil
import sys
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

import dataset
import reports
import yolo
from dataset.report import Report, plain, shortened
from mlflow_tracking import Tracking
from system_metrics import DataWait, SystemMetrics
from utils import ConfigInvalidError, Contract, Stopped, StorageError, TrainerError, run
from validation import Measured, SampleSource

log = logging.getLogger("train")

POLL_SECONDS = 1.0
RESULTS = ("*.png", "*.jpg", "args.yaml")
NO_MEMORY = ("CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class GpuMemoryError(TrainerError):
    """The batch does not fit into the GPU's memory."""

    reason = "oom_gpu"


@dataclass
class Run:
    """The files and the metrics of a training."""

    contract: Contract
    tracking: Tracking
    folder: Path
    data_wait: DataWait = field(default_factory=DataWait)
    #: of the best epoch so far
    metrics: dict[str, float] = field(default_factory=dict)
    epoch: int = 0  # finished
    step: int = 0  # batches, of all epochs
    is_in_epoch: bool = False

    @property
    def kept(self) -> Path:
        """The folder of the last complete copies: ultralytics overwrites its files in place."""
        return self.folder / "kept"

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.folder / "weights" / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch."""
        return self.folder / "weights" / "best.pt"


def train(contract: Contract) -> Mapping[str, float]:
    """Train, from the last checkpoint if it exists; return the best epoch's metrics."""
    yolo.prepare(contract.scratch)
    settings = contract.settings
    if settings.task != "train":
        raise ConfigInvalidError(f"TASK={settings.task} is not for this script: start {settings.task}.py")
    options = yolo.options(settings)  # exits 78 and names the option
    tracking = Tracking(settings.mlflow_tracking_uri, experiment=settings.dataset_id, job_id=contract.settings.job_id)
    system = SystemMetrics(settings.device)
    contract.measure = system.take
    run = Run(contract, tracking, contract.scratch / "run", system.data_wait)
    contract.phase("fetching the weights")
    is_resumed = fetch_checkpoint(run)
    is_finished = is_resumed and run.epoch >= settings.epochs
    model = yolo.load(run.best if is_finished else run.last) if is_resumed else yolo.model(contract)
    data, report = dataset.fetch(contract, model, is_cached=True)  # exits 65 and names the file
    if is_finished:
        log.info("an earlier attempt finished all %d epochs", run.epoch)
        return finish(run, model, report, validated(run, data, options))
    contract.phase("loading the model")
    options |= {"data": str(data), "save_dir": str(run.folder), "resume": str(run.last) if is_resumed else False}
    tracking.params({"model_name": settings.model_name, "dataset_id": settings.dataset_id, **options})
    watch = watching_files if "," in (settings.device or "") else watching_callbacks
    measured = Measured()
    try:
        with watch(run, model, measured), out_of_gpu_memory():
            model.train(**options)
    except Stopped:
        save(run, now=True)
        tracking.end("KILLED", within_seconds=1)
        raise
    except Exception as error:
        tracking.end("FAILED", within_seconds=10)
        raise failure(error, contract) from error
    run.metrics = contract.finite(model.trainer.metrics or {}) or run.metrics
    return finish(run, model, report, results_of(run, measured) or validated(run, data, options))


def failure(error: Exception, contract: Contract) -> Exception:
    """Return what the job reports: a short message in one line, with the files' names as in the archive."""
    if isinstance(error, TrainerError | StorageError):
        return error
    text = str(error).replace(f"{contract.scratch / 'dataset'}/", "").replace(f"{contract.scratch}/", "")
    return TrainerError(shortened(plain(f"{contract.settings.dataset_id}.zip: {type(error).__name__}: {text}")))


def fetch_checkpoint(run: Run) -> bool:
    """Download the checkpoints of an earlier attempt; return whether there were any."""
    contract = run.contract
    if not contract.download(contract.key("checkpoints", "last.pt"), run.last):
        return False
    content = yolo.content(run.last)
    if content is None:
        contract.warn_once("last.pt in storage cannot be read; the training starts again")
        run.last.unlink()
        return False
    yolo.set_epochs(run.last, content, contract.settings.epochs)
    results = content.get("train_results") or {}
    if not contract.download(contract.key("checkpoints", "best.pt"), run.best):
        shutil.copy(run.last, run.best)  # the best checkpoint so far
    # An epoch of -1: the training had ended, and ultralytics had removed the optimizer's state.
    run.epoch = content["epoch"] + 1 or contract.settings.epochs
    with (run.folder / "results.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(results)
        table.writerows(zip(*results.values(), strict=True))
    contract.event("log", f"resuming after epoch {run.epoch}", epoch=run.epoch)
    return True


@contextmanager
def watching_callbacks(run: Run, model: Any, measured: Measured) -> Iterator[None]:
    """On one device: report from ultralytics' callbacks."""
    contract, data_wait = run.contract, run.data_wait
    samples: reports.Samples | None = None

    def on_begin(trainer: Any) -> None:
        nonlocal samples
        names = [str(name) for _, name in sorted(trainer.data["names"].items())]
        source = partial(SampleSource, trainer, contract.scratch, contract.settings.seed)
        samples = reports.Samples(contract, source, task=model.task, classes=names, epochs=contract.settings.epochs)

    def on_batch(_trainer: Any) -> None:
        data_wait.begin()
        contract.check()
        run.step += 1
        contract.progress(run.step)

    def on_epoch_begin(trainer: Any) -> None:
        run.is_in_epoch, run.step = True, trainer.epoch * len(trainer.train_loader)
        data_wait.begin()

    def on_epoch_end(trainer: Any) -> None:
        if not run.is_in_epoch:  # ultralytics also calls this for the best model, after the last epoch
            return
        run.is_in_epoch = False
        run.epoch = trainer.epoch + 1
        is_best = trainer.fitness is not None and trainer.fitness == trainer.best_fitness
        metrics = {**trainer.label_loss_items(trainer.tloss), **trainer.metrics, **trainer.lr}
        report(run, metrics, epoch_seconds=trainer.epoch_time, step=run.step)
        if is_best:
            run.metrics = contract.finite(trainer.metrics)
        save(run)
        if samples is not None and trainer.validator.names is not None:  # None: nothing was validated yet
            samples.take(run.epoch, is_last=trainer.stop)

    model.add_callback("on_train_start", on_begin)
    model.add_callback("on_model_save", lambda _trainer: keep(run))
    model.add_callback("on_train_epoch_start", on_epoch_begin)
    model.add_callback("on_train_batch_start", lambda _trainer: data_wait.end())
    model.add_callback("on_train_batch_end", on_batch)
    model.add_callback("on_train_epoch_end", lambda _trainer: data_wait.leave())
    model.add_callback("on_val_batch_start", lambda _validator: contract.check())
    model.add_callback("on_fit_epoch_end", on_epoch_end)
    measured.watch(model)
    yield
    if samples is not None:
        samples.finish()


@contextmanager
def watching_files(run: Run, _model: Any, _measured: Measured | None = None) -> Iterator[None]:
    """On several devices with a process each: report from the files that the training writes, without samples."""
    ended, began, first = threading.Event(), time.monotonic(), run.epoch
    others = set(psutil.Process().children(recursive=True))
    processes: set[psutil.Process] = set()

    def report_new(rows: list[dict[str, Any]]) -> None:
        if keep(run) and len(rows) > run.epoch:
            run.epoch = len(rows)
            report(run, rows[-1], epoch_seconds=(time.monotonic() - began) / (run.epoch - first), step=None)
            save(run)

    def watch() -> None:
        while not ended.wait(POLL_SECONDS):
            processes.update(set(psutil.Process().children(recursive=True)) - others)
            if run.contract.is_stopped:
                stop(processes)
            # A row is written before its checkpoint: use it once the next row exists.
            report_new(read_results(run.folder / "results.csv")[:-1])

    watcher = threading.Thread(target=watch, name="watch", daemon=True)
    watcher.start()
    is_complete = False
    try:
        yield
        run.contract.check()
        is_complete = True
    finally:
        ended.set()
        watcher.join()
        stop(processes)  # torch's launcher, when killed, does not stop its processes
        rows = read_results(run.folder / "results.csv")
        report_new(rows if is_complete else rows[:-1])


def stop(processes: set[psutil.Process]) -> None:
    """Kill the processes that are still alive."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # also raised if the PID belongs to another process
            process.kill()


def report(run: Run, metrics: Mapping[str, Any], *, epoch_seconds: float, step: int | None) -> None:
    """Report a finished epoch to the functions and to MLflow."""
    finite, epochs = run.contract.finite(metrics), run.contract.settings.epochs
    eta_seconds = epoch_seconds * max(epochs - run.epoch, 0)
    run.contract.heartbeat(epoch=run.epoch, epochs=epochs, step=step, metrics=finite, eta_seconds=eta_seconds)
    run.tracking.metrics(finite, run.epoch)


def keep(run: Run) -> bool:
    """Copy the checkpoints if they are complete and have changed; return whether the copies are current.

    A stop may interrupt ultralytics while it overwrites last.pt or best.pt: the copies are then still intact.
    """
    run.kept.mkdir(parents=True, exist_ok=True)
    try:
        return all(_is_kept(path, run.kept / path.name) for path in (run.best, run.last) if path.exists())
    except OSError as error:  # such as a full disk: then the files themselves are stored, when they are complete
        log.warning("the checkpoints are not copied: %s", error)
        shutil.rmtree(run.kept, ignore_errors=True)
        return True


def _is_kept(path: Path, copy: Path) -> bool:
    version = _version(path)
    if copy.exists() and version == _version(copy):
        return True
    part = copy.with_suffix(".part")
    shutil.copy2(path, part)
    if version != _version(path) or not zipfile.is_zipfile(part):
        return False  # it is being written
    part.replace(copy)
    return True


def _version(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def save(run: Run, *, now: bool = False) -> None:
    """Store the checkpoints; best.pt first, since last.pt refers to it."""
    folder = run.kept if (run.kept / run.last.name).exists() else run.last.parent
    paths = [path for path in (folder / run.best.name, folder / run.last.name) if path.exists()]
    if folder / run.last.name in paths and all(map(zipfile.is_zipfile, paths)):
        run.contract.save_checkpoint(*paths, now=now)


def results_of(run: Run, measured: Measured) -> dict[str, Any]:
    """Return the validation results of the best model. A failure is a warning: the training has succeeded."""
    try:
        return measured.content()
    except Exception as error:
        log.exception("the report lacks the best model's validation")
        run.contract.warn_once(f"the report lacks the best model's validation: {failure(error, run.contract)}")
        return {}


def validated(run: Run, data: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Validate best.pt, for trainings whose own validation ran in another process, and return the results.

    A failure is a warning: the training has succeeded.
    """
    contract, measured = run.contract, Measured()
    first, *others = (contract.settings.device or "").split(",")
    device = {"device": first} if first else {}
    batch = max(int(options["batch"]) // (1 + len(others)), 1)
    try:
        model = yolo.load(run.best)
        model.add_callback("on_val_batch_start", lambda _validator: contract.check())
        measured.watch(model)
        model.val(
            data=str(data), imgsz=options["imgsz"], batch=batch, workers=options["workers"], plots=False, **device
        )
    except Exception as error:
        log.exception("the best model cannot be validated")
        contract.warn_once(f"the best model cannot be validated: {failure(error, contract)}")
        return {}
    return results_of(run, measured)


def finish(run: Run, model: Any, dataset_report: Report, measured: Mapping[str, Any]) -> Mapping[str, float]:
    """Store the results; return the metrics. ``measured`` has the validation results of the best model."""
    contract = run.contract
    best = contract.finite((yolo.content(run.best) or {}).get("train_metrics") or {})
    run.metrics = run.metrics or best
    for path in (run.best, run.last):
        contract.save_result(path, kind="checkpoints")
        run.tracking.artifact(path)
    rows, metrics = read_results(run.folder / "results.csv"), run.folder / "metrics.csv"
    shutil.copy(run.folder / "results.csv", metrics)
    plots = [path for pattern in RESULTS for path in sorted(run.folder.glob(pattern))]
    for path in (metrics, *plots):
        contract.save_result(path)
    content = reports.Content(
        task=model.task,
        epoch=epoch_of(best, rows),
        epochs=len(rows),
        classes=[str(name) for _, name in sorted(model.names.items())],
        metrics=run.metrics,
        measured=measured,
        history=[numbers(row) for row in rows],
        dataset=dataset_report.as_json(),
        versions={"python": platform.python_version(), **{name: version(name) for name in ("torch", "ultralytics")}},
    )
    for path in (metrics, *plots, *reports.write(contract, content)):
        run.tracking.artifact(path)
    run.tracking.end("FINISHED")
    return run.metrics


def epoch_of(metrics: Mapping[str, float], rows: list[dict[str, Any]]) -> int:
    """Return the epoch of best.pt, which no longer contains it after the training: the last epoch with its metrics."""
    wanted = {name: f"{value:.6g}" for name, value in metrics.items()}  # as in results.csv
    for row in reversed(rows):
        if all(row[name] == value for name, value in wanted.items() if name in row):
            return int(row["epoch"])
    return len(rows)


def numbers(row: Mapping[str, str]) -> dict[str, float]:
    """Return the cells of a row that are numbers."""
    values = {}
    for name, cell in row.items():
        with suppress(ValueError):
            values[name] = float(cell)
    return values


def read_results(path: Path) -> list[dict[str, Any]]:
    """Return the rows of ultralytics' results.csv."""
    try:
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []


@contextmanager
def out_of_gpu_memory() -> Iterator[None]:
    """Raise GpuMemoryError in place of torch's errors."""
    try:
        yield
    except RuntimeError as error:
        if not any(text in str(error) for text in NO_MEMORY):
            raise
        message = f"use a smaller BATCH_SIZE or IMAGE_SIZE: {str(error).splitlines()[0]}"
        raise GpuMemoryError(shortened(plain(message))) from error


if __name__ == "__main__":
    sys.exit(run(train))
