"""Stoker's contract (v1) around a function that trains: ``sys.exit(run(train))``. docs/PLUGIN_GUIDE.md shows how."""

import json
import logging
import math
import os
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from callbacks import Callbacks
from checkpoint_storage import Checkpoints
from console import Console, secrets_of
from storage import ChangedError, FinalError, SettingError, Storage, StorageError

__all__ = [
    "ConfigInvalidError",
    "Contract",
    "DatasetInvalidError",
    "Settings",
    "Stopped",
    "StorageError",
    "TrainerError",
    "run",
]
log = logging.getLogger("trainer")
EXIT_DONE_UNCONFIRMED, EXIT_STORAGE, EXIT_TERMINATED = 1, 74, 143
START_SECONDS, UPLOAD_SECONDS, LOG_SECONDS, LOG_END_SECONDS = 30.0, 20.0, 10.0, 300.0
METRIC_LIMIT, ARTIFACT_LIMIT, MESSAGE_LIMIT = 500, 300, 4_000
OVERWRITTEN = "{} was overwritten after this job was made; make a new job of it"


class Stopped(BaseException):
    """The training must stop (SIGTERM, 409, 404). Not an Exception, so that no framework catches it."""


class TrainerError(FinalError):
    """Fails the job: the functions get ``reason`` and the message, the launcher gets ``exit_code``."""

    reason, exit_code = "trainer_error", 70


class ConfigInvalidError(TrainerError):
    """A setting cannot be used; the message names the variable or hyperparameter."""

    reason, exit_code = "config_invalid", 78


class DatasetInvalidError(TrainerError):
    """The dataset cannot be used; the message names the file."""

    reason, exit_code = "dataset_invalid", 65


def _text(pattern: str, hint: str, default: Any = ...) -> Any:
    return Field(default, pattern=rf"^({pattern})\Z", description=hint)


class Settings(BaseModel, frozen=True, regex_engine="python-re", str_strip_whitespace=True, protected_namespaces=()):
    """The job's environment variables, in lower case. None: the framework's own default."""

    job_id: str = _text(r"[\w-]{1,100}", "use letters, digits, - and _")
    backend_base_url: str = _text(r"https?://\S+", "use an http:// or https:// address")
    callback_token: str = ""
    callback_token_file: Path | None = None
    scratch_dir: Path | None = None
    trace_id: str = _text(r"[0-9a-f]{32}", "use 32 hexadecimal digits", uuid.uuid4().hex)
    heartbeat_seconds: float = Field(30.0, ge=0.1, allow_inf_nan=False)
    done_retry_seconds: float = Field(3600.0, ge=0, allow_inf_nan=False)
    storage_retry_seconds: float = Field(300.0, ge=0, allow_inf_nan=False)
    grace_seconds: float = Field(25.0, ge=1, allow_inf_nan=False)  # from SIGTERM to the end of the process
    task: Literal["train", "predict", "check"] = "train"
    dataset_id: str = _text(r"(?!.*\.\.)[^/\x00-\x1f]+", "use a name without / and ..")
    dataset_etag: str = _text(r'[^\s"]+', "use an ETag without quotes", "")  # the version that the job is for
    model_name: str = _text(r"(?!.*\.\.)[^/\x00-\x1f][^\x00-\x1f]*", "use a name without .. and a leading /")
    checkpoint_key: str | None = _text(r"(?!.*\.\.)[^/\x00-\x1f][^\x00-\x1f]*", "use a key without ..", None)
    epochs: int = Field(100, ge=1)
    batch_size: int = Field(16, ge=1)
    image_size: int | None = Field(None, ge=16)  # pixels
    learning_rate: float | None = Field(None, gt=0, allow_inf_nan=False)
    seed: int = Field(0, ge=0)
    workers: int = Field(2, ge=0)
    device: str | None = _text(r"mps|(cpu|\d+)(,(cpu|\d+))*", "use cpu, mps, or GPUs such as 0,1", None)
    hyperparameters: Annotated[dict[str, Any], BeforeValidator(partial(json.loads, parse_constant=int))] = {}
    storage_type: Literal["minio", "r2", "presigned"]
    model_download: bool = Field(default=True, description="use true or false")  # of weights that the bucket lacks
    mlflow_tracking_uri: str | None = None

    @classmethod
    def from_environ(cls, env: Mapping[str, str]) -> tuple["Settings", str]:
        """Return the settings, and the environment's error. Raises: ConfigInvalidError, if it cannot be reported."""
        values: dict[str, Any] = {name: env[name.upper()] for name in cls.model_fields if env.get(name.upper())}
        try:
            return cls.model_validate(values), ""
        except ValidationError as invalid:
            problems = {str(error["loc"][0]): cls._in_words(error) for error in invalid.errors()}
        message = "; ".join(problems.values())
        if {"job_id", "backend_base_url"} & problems.keys():
            raise ConfigInvalidError(message)
        usable = {name: value for name, value in values.items() if name not in problems}
        return cls(**{"dataset_id": "-", "model_name": "-", "storage_type": "presigned"} | usable), message

    @classmethod
    def _in_words(cls, error: Mapping[str, Any]) -> str:
        name = str(error["loc"][0])
        if error["type"] == "missing":
            return f"{name.upper()} is missing: set this environment variable"
        hint = cls.model_fields[name].description or error["msg"]
        return f"{name.upper()}={error['input']!r} cannot be used: {hint}"

    def read_token(self) -> str:
        """Return the current token: a mounted file is renewed in place. Raises: OSError."""
        file = self.callback_token_file
        return file.read_text(encoding="utf-8").strip() if file else self.callback_token


class Contract:
    """The trainer's side. Only ``download`` and ``save_result`` raise when the other side is unreachable."""

    def __init__(self, settings: Settings, scratch: Path) -> None:
        self.settings, self.scratch = settings, scratch
        prefix = f"[TRACE:{settings.trace_id}] job_id={settings.job_id}"
        self.console = Console(scratch / "trainer.log", prefix, secrets_of(os.environ))
        self.measure: Callable[[], Mapping[str, Any]] = dict  # metrics that each heartbeat adds, such as system/…
        self.is_terminated, self._pid = False, os.getpid()  # by SIGTERM
        self._progress, self._artifacts, self._warned = dict[str, Any](), dict[str, None](), set[str]()
        address = settings.backend_base_url, settings.job_id, settings.trace_id
        self._callbacks = Callbacks(*address, settings.read_token, self.console.hide)
        self.storage = Storage(self._callbacks.presign, settings.storage_retry_seconds, self.check)
        self._checkpoints = Checkpoints(self._store_checkpoint, scratch / "storing")

    @property
    def is_stopped(self) -> bool:
        """Whether ``check`` would raise: for threads."""
        return self._callbacks.is_refused or self.is_terminated

    def check(self) -> None:
        """Raise Stopped when the training must stop; call it after each batch."""
        if self.is_stopped:  # a library's bare ``except:`` may have caught what SIGTERM's handler raised
            raise Stopped

    def heartbeat(self, *, metrics: Mapping[str, Any] | None = None, **progress: Any) -> None:
        """Report epoch (the last one finished), epochs, step, eta_seconds; replaces a heartbeat still in the queue."""
        self._progress = self.finite(progress)
        self._beat(metrics or {})

    def progress(self, step: Any) -> None:
        """Note the step for the next heartbeat; cheap enough for each batch."""
        self._progress = self._progress | self.finite({"step": step})

    def _beat(self, metrics: Mapping[str, Any] | None = None) -> None:
        measured: Mapping[str, Any] = {}
        with self._callbacks.lock, suppress(Exception):  # a failed measurement must not end the training
            measured = self.measure()
        sendable = self._sendable({**(metrics or {}), **measured})
        self._callbacks.add("heartbeat", self._progress | ({"metrics": sendable} if sendable else {}))

    def event(self, kind: str, message: str = "", **data: Any) -> None:
        """Report an event: ``checkpoint``, ``warning`` or ``log``."""
        body = {"type": kind, "message": message[:MESSAGE_LIMIT], "data": data}
        self._callbacks.add("event", {name: value for name, value in body.items() if value})

    def phase(self, name: str) -> None:
        """Report what the trainer is doing before its first step, for people who watch the job."""
        self.event("log", phase=name)

    def warn_once(self, message: str) -> None:
        """Log and report a warning, the first time."""
        if message not in self._warned:
            self._warned.add(message)
            log.warning("%s", message)
            self.event("warning", message)

    def finite(self, values: Mapping[str, Any]) -> dict[str, float]:
        """Return the values that are JSON numbers, without None; warn once about each other value."""
        numbers: dict[str, float] = {}
        for name, value in values.items():
            with suppress(TypeError, ValueError, OverflowError):
                number = value.item() if hasattr(value, "item") else value  # numpy's and torch's numbers, too
                if number is None:
                    continue
                number = number if type(number) is int else float(number)
                if math.isfinite(number):
                    # An epoch or step may be a float, and the functions take whole numbers only.
                    numbers[name] = int(number) if number == int(number) and abs(number) < 2**53 else number
                    continue
            self.warn_once(f"{name} is NaN, infinite or no number; omitting it")
        return numbers

    def _sendable(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        numbers = self.finite(metrics)
        if len(numbers) > METRIC_LIMIT:
            self.warn_once(f"only the first {METRIC_LIMIT} of {len(numbers)} metrics are sent")
        return dict(list(numbers.items())[:METRIC_LIMIT])

    def key(self, kind: str, name: str) -> str:
        """Return the key of one of this job's objects; ``kind`` is checkpoints, results or logs."""
        return f"{kind}/job-{self.settings.job_id}/{name}"

    def download_dataset(self) -> Path:
        """Download the dataset's version that the job is for. Raises: DatasetInvalidError, StorageError."""
        key, path = f"datasets/{self.settings.dataset_id}.zip", self.scratch / "dataset.zip"
        if not self.download(key, path, self.settings.dataset_etag):
            raise DatasetInvalidError(f"there is no dataset at {key}")
        return path

    def download(self, key: str, path: Path, etag: str = "") -> bool:
        """Download an object, or this version of a dataset; return False if there is none.

        Raises:
            DatasetInvalidError: there is another version.
            StorageError: the storage cannot be reached, or refuses.
        """
        try:
            return self.storage.download(key, path, etag)
        except ChangedError:
            raise DatasetInvalidError(OVERWRITTEN.format(key)) from None

    def save_result(self, path: Path, name: str = "", *, kind: str = "results") -> None:
        """Store a result of the job, retrying for minutes. Raises: StorageError, Stopped."""
        self._checkpoints.wait()
        try:
            key = self.key(kind, name or path.name)
            self.storage.upload(path, key)
            self._artifacts[key] = None
        finally:
            self.check()

    def save_checkpoint(self, *paths: Path, now: bool = False) -> bool:
        """Store ``last.pt``, or ``best.pt`` and ``last.pt``, while the training continues, once a minute at most.

        With ``now``: at once, and wait for it. Return whether storing has begun (``now``: succeeded). Unchanged files
        are skipped. A failure is a warning; the files after it in ``paths`` wait for the next call.
        """
        return self._checkpoints.save_now(paths) if now else self._checkpoints.save(paths)

    def _store_checkpoint(self, path: Path, is_outdated: Callable[[], bool]) -> bool:
        key = self.key("checkpoints", path.name)
        try:
            self.storage.upload(path, key, UPLOAD_SECONDS, is_outdated)
        except (StorageError, OSError) as error:
            if not is_outdated():
                self.event("warning", f"{path.name} was not stored: {error}")
                log.warning("%s was not stored: %s", path.name, error)
            return False
        self.event("checkpoint", key=key)
        self._artifacts[key] = None
        return True

    def _store_log(self, ended: threading.Event) -> None:
        """Store the log every few seconds, less often as it grows, and once more at the end."""
        path, size, is_last = self.scratch / "trainer.log", 0, False
        while not is_last:
            is_last = ended.wait(max(LOG_SECONDS, size / 1_000_000))
            try:
                size = path.stat().st_size
                if self._callbacks.attempt is not None:
                    self.storage.upload(path, self.key("logs", f"attempt-{self._callbacks.attempt}.log"), 2)
            except (StorageError, OSError):
                self.warn_once("the log cannot be stored for now")

    def _done(self, metrics: Mapping[str, Any], error: TrainerError | None) -> bool:
        """Store the body of ``done``, for sweep to read if the call is lost; send it; return whether it arrived."""
        self._checkpoints.wait()
        body: dict[str, Any] = {"status": "FAILED" if error else "SUCCEEDED", "metrics": self._sendable(metrics)}
        # A body holds 64 KiB: the deepest keys matter least, such as the single images of a prediction.
        body["artifacts"] = sorted(self._artifacts, key=lambda key: key.count("/"))[:ARTIFACT_LIMIT]
        body |= {"error": {"reason": error.reason, "message": str(error)[:MESSAGE_LIMIT]}} if error else {}
        if self._callbacks.attempt is not None:
            marker = self.scratch / "done.json"
            marker.write_text(json.dumps(body | {"attempt": self._callbacks.attempt}), encoding="utf-8")
            with suppress(StorageError):
                self.storage.upload(marker, self.key("results", marker.name), UPLOAD_SECONDS)
        self._callbacks.add("done", body)
        self._callbacks.wait(self.settings.done_retry_seconds)
        self.check()
        return self._callbacks.is_done

    def _terminate(self, _number: int, _frame: object) -> None:
        if os.getpid() == self._pid and not self.is_terminated:  # a forked child leaves it to its parent
            self.is_terminated = True
            timer = threading.Timer(self.settings.grace_seconds, os._exit, [EXIT_TERMINATED])  # even if something hangs
            timer.daemon = True
            timer.start()
            raise Stopped

    def _begin(self, problems: str) -> None:
        """Claim the job. Raises: Stopped; ConfigInvalidError."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._terminate)
        self.event("started")
        self._callbacks.wait(START_SECONDS)  # wait this long for a refusal; then start without a response
        self.check()
        if problems:
            raise ConfigInvalidError(problems)
        if self.settings.storage_type != "presigned":
            try:
                self.storage.connect(self.settings.storage_type, os.environ)
            except SettingError as error:
                raise ConfigInvalidError(str(error)) from error

    def _train(self, train: Callable[["Contract"], Mapping[str, float]], problems: str) -> int:
        """Train, and report the result; return the exit code. Raises: Stopped."""
        metrics: Mapping[str, float] = {}
        failure: TrainerError | None = None
        try:
            self._begin(problems)
            with self.console.capturing():
                metrics = train(self)
        except StorageError as error:  # without done: the job stays open for another attempt
            log.error("storage_error: %s", error)  # noqa: TRY400 -- the message says enough
            return EXIT_STORAGE
        except TrainerError as error:
            log.error("%s: %s", error.reason, error)  # noqa: TRY400 -- as above
            failure = error
        except (Exception, SystemExit) as error:
            if self.is_terminated:  # such as a data loader's workers that the same signal has ended
                raise Stopped from error
            log.exception("the training failed")
            failure = TrainerError(f"{type(error).__name__}: {error}")
        is_heard = self._done(metrics, failure)
        return failure.exit_code if failure else 0 if is_heard else EXIT_DONE_UNCONFIRMED

    def run(self, train: Callable[["Contract"], Mapping[str, float]], problems: str) -> int:
        """Send callbacks and store the log while ``train`` runs; return the exit code."""
        ended = threading.Event()
        log_thread = threading.Thread(target=self._store_log, args=[ended], name="log", daemon=True)
        log_thread.start()
        beat = self._beat, self.settings.heartbeat_seconds
        threading.Thread(target=self._callbacks.send_all, args=beat, name="callbacks", daemon=True).start()
        try:
            code = self._train(train, problems)
        except Stopped:
            code = 0
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the rest takes seconds, and the exit code is known
        if self.is_terminated:
            code = EXIT_TERMINATED
            self._checkpoints.wait()
            self.event("interrupted")
            self._callbacks.wait(self.settings.grace_seconds / 4)
        log.info("exit code %d", code)
        ended.set()
        log_thread.join(LOG_END_SECONDS)
        return code


def run(train: Callable[[Contract], Mapping[str, float]]) -> int:
    """Keep the contract while ``train`` runs, which returns its final metrics; return the process's exit code."""
    try:
        settings, problems = _settings(os.environ)
    except (ConfigInvalidError, OSError) as error:  # there is no job to report this to
        sys.stderr.write(f"config_invalid: {error}\n")
        return ConfigInvalidError.exit_code
    new_folder = partial(tempfile.TemporaryDirectory, prefix=f"job-{settings.job_id}-", ignore_cleanup_errors=True)
    try:
        if settings.scratch_dir:
            settings.scratch_dir.mkdir(parents=True, exist_ok=True)
        folder = new_folder(dir=settings.scratch_dir)
    except OSError as error:
        problems, folder = problems or f"SCRATCH_DIR cannot be used: {error}", new_folder()
    with folder as scratch:
        contract = Contract(settings, Path(scratch))
        with contract.console.in_place_of_streams():
            return contract.run(train, problems)


def _settings(env: Mapping[str, str]) -> tuple[Settings, str]:
    """Return the settings, and what is wrong with them. Raises: ConfigInvalidError, OSError, if unreportable."""
    settings, problems = Settings.from_environ(env)
    if not settings.read_token():
        raise ConfigInvalidError("CALLBACK_TOKEN is missing: set it, or CALLBACK_TOKEN_FILE")
    return settings, problems
