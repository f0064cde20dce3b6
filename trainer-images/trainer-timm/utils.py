"""Stoker's contract (v1) around a function that trains: ``sys.exit(run(train))``. docs/PLUGIN_GUIDE.md shows how."""

import faulthandler
import io
import json
import logging
import math
import mimetypes
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO, TypeVar, cast

import requests
from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

T = TypeVar("T")
Call = tuple[
    str, dict[str, Any], dict[str, str]
]  # name, body, and headers that a retry repeats, so that it counts once
Version = tuple[int, int, int] | None  # inode, time and size of a file; None: there is no file
log = logging.getLogger("trainer")
EXIT_DONE_UNCONFIRMED, EXIT_TERMINATED = 1, 143
START_SECONDS, UPLOAD_SECONDS, LOG_SECONDS, CHECKPOINT_SECONDS, GIVE_WAY_SECONDS = 30.0, 20.0, 10.0, 60.0, 5.0
CALL_LIMIT, METRIC_LIMIT, ARTIFACT_LIMIT, LOG_LIMIT_BYTES = 1_000, 500, 300, 100_000_000
CHUNK_BYTES, PART_BYTES, PART_LIMIT, LINK_SECONDS = 1 << 20, 256 << 20, 10_000, 1800.0
OVERWRITTEN = "{} was overwritten after this job was made; make a new job of it"
LOG_FORMAT, LOG_END_SECONDS = "%(levelname)s %(name)s: %(message)s", 300.0
RETRIED, REFUSED = (429, 500, 502, 503, 504), (400, 401, 403, 404, 405, 411, 413)
RETRY = partial(Retry, status_forcelist=RETRIED, backoff_factor=0.5, backoff_jitter=0.5, retry_after_max=300)
S3 = {
    "minio": ("MINIO_ENDPOINT", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"),
    "r2": ("R2_ENDPOINT", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"),
}
SECRET = re.compile(r"(?<=[?&])(X-Amz-[\w-]+|AWSAccessKeyId|Signature)=[^&\s'\"]+|eyJ[\w-]{10,}\.[\w-]+\.[\w-]*")
SECRET_NAME = re.compile(r".*(SECRET|PASSWORD|TOKEN)(_KEY|_ACCESS_KEY)?")  # of an environment variable


class Stopped(BaseException):
    """The training must stop (SIGTERM, 409, 404). Not an Exception, so that no framework catches it."""


class TrainerError(Exception):
    """Fails the job: the functions get ``reason`` and the message, the launcher gets ``exit_code``."""

    reason, exit_code = "trainer_error", 70


class ConfigInvalidError(TrainerError):  # the message names the variable or hyperparameter
    reason, exit_code = "config_invalid", 78


class DatasetInvalidError(TrainerError):  # the message names the file
    reason, exit_code = "dataset_invalid", 65


class StorageError(TrainerError):  # the job stays open: another attempt may succeed
    reason, exit_code = "storage_error", 74


class ChangedError(Exception):
    """An object in storage is not the requested version."""


class RefusedError(Exception):
    """The storage or the functions refuse a request, and would refuse it again."""


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
        """Return the settings, and what is wrong with the environment. Raises: ConfigInvalidError, if unreportable."""
        values: dict[str, Any] = {name: env[name.upper()] for name in cls.model_fields if env.get(name.upper())}
        problems: dict[str, str] = {}
        try:
            return cls.model_validate(values), ""
        except ValidationError as invalid:
            for error in invalid.errors():
                name = str(error["loc"][0])
                hint = cls.model_fields[name].description or error["msg"]
                is_missing, value = error["type"] == "missing", error["input"]
                problem = (
                    "is missing: set this environment variable" if is_missing else f"={value!r} cannot be used: {hint}"
                )
                problems[name] = f"{name.upper()}{' ' if is_missing else ''}{problem}"
        message = "; ".join(problems.values())
        if {"job_id", "backend_base_url"} & problems.keys():
            raise ConfigInvalidError(message)
        usable = {name: value for name, value in values.items() if name not in problems}
        return cls(**{"dataset_id": "-", "model_name": "-", "storage_type": "presigned"} | usable), message

    def read_token(self) -> str:
        """Return the current token: a mounted file is renewed in place. Raises: OSError."""
        file = self.callback_token_file
        return file.read_text(encoding="utf-8").strip() if file else self.callback_token


class Console(io.TextIOBase):
    """Replaces stdout and stderr: prefixes lines, hides secrets, and writes to the terminal and to a file."""

    def __init__(self, path: Path, prefix: str, secrets: Iterable[str]) -> None:
        self.terminal = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")
        self._file, self._prefix = path.open("a", encoding="utf-8", errors="replace"), prefix
        self._secrets = tuple(filter(None, secrets))
        self._unlock()
        os.register_at_fork(after_in_child=self._unlock)  # a data loader's worker must not inherit a lock in use

    def _unlock(self) -> None:
        self._lock, self._rest = threading.RLock(), ""

    def hide(self, secret: str) -> None:
        """Print ``***`` in place of this from now on."""
        self._secrets = (*self._secrets, secret)  # a new tuple: another thread may be printing

    def write(self, text: str) -> int:
        """Print the whole lines; the rest waits for its end."""
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            self.print_lines(lines)
        return len(text)

    def print_lines(self, lines: Iterable[str]) -> None:
        """Print each line that is not blank."""
        for line in filter(None, map(str.rstrip, lines)):
            for secret in self._secrets:
                line = line.replace(secret, "***")  # noqa: PLW2901
            text = f"{_now()} {self._prefix} {SECRET.sub('***', line)}\n"
            for file in (self.terminal, self._file):
                with self._lock, suppress(OSError, ValueError):  # a full disk or a closed pipe ends no training
                    if file is self.terminal or file.tell() < LOG_LIMIT_BYTES:
                        file.write(text)
                        file.flush()


class Body(io.FileIO):
    """A request's body from a part of a file; ``check`` is called before each chunk, and may raise."""

    def __init__(self, path: Path, start: int, size: int, check: Callable[[], None]) -> None:
        super().__init__(path)
        self._end, self._check = self.seek(start) + size, check

    def __len__(self) -> int:  # requests sends the bytes from the current position to this one
        return self._end

    def read(self, _size: int | None = -1, /) -> bytes:
        self._check()
        return super().read(min(CHUNK_BYTES, self._end - self.tell())) or b""


class Contract:
    """The trainer's side. Only ``download`` and ``save_result`` raise when the other side is unreachable."""

    def __init__(self, settings: Settings, scratch: Path) -> None:
        self.settings, self.scratch = settings, scratch
        self.attempt: int | None = None
        self._token, self._pid = settings.read_token(), os.getpid()
        self._source = f"/trainers/{settings.job_id}/{uuid.uuid4()}"
        self.is_terminated = self._is_refused = self._is_done = self._is_over = False  # by SIGTERM; by 409, 404
        secrets = [value for name, value in os.environ.items() if SECRET_NAME.fullmatch(name)]
        prefix = f"[TRACE:{settings.trace_id}] job_id={settings.job_id}"
        self.console = Console(scratch / "trainer.log", prefix, [self._token, *secrets])
        self._changed, self._calls, self._progress = threading.Condition(), list[Call](), dict[str, Any]()
        self.measure: Callable[[], Mapping[str, Any]] = dict  # metrics that each heartbeat adds, such as system/…
        self._artifacts, self._warned = dict[str, None](), set[str]()
        self._stored, self._storing = dict[str, Version](), dict[str, Version]()
        self._stored_at, self._thread, self._outdated = -math.inf, threading.Thread(), threading.Event()
        self._s3: Any = None
        self._links = dict[str, tuple[str, float]]()  # to download from: link, and when to renew it
        self._http, self._bucket = requests.Session(), os.environ.get("STORAGE_BUCKET")
        self._http.auth = lambda request: request  # else requests would take an Authorization header from .netrc
        for scheme in ("http://", "https://"):
            self._http.mount(scheme, HTTPAdapter(max_retries=RETRY(3, allowed_methods=None, raise_on_status=False)))

    @property
    def is_stopped(self) -> bool:
        """Whether ``check`` would raise: for threads."""
        return self._is_refused or self.is_terminated

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

    def _beat(self, metrics: Mapping[str, Any]) -> None:
        measured: Mapping[str, Any] = {}
        with self._changed, suppress(Exception):  # whatever cannot be measured, the training goes on
            measured = self.measure()
        sendable = self._sendable({**metrics, **measured})
        self._send("heartbeat", self._progress | ({"metrics": sendable} if sendable else {}))

    def event(self, kind: str, message: str = "", **data: Any) -> None:
        """Report an event: ``checkpoint``, ``warning`` or ``log``."""
        body = {"type": kind, "message": message[:4_000], "data": data}
        self._send("event", {name: value for name, value in body.items() if value})

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
        """Return the values that are numbers in JSON, without None; warn once about each of the others."""
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

    def _send(self, name: str, body: dict[str, Any]) -> None:
        try:  # the numbers of numpy and torch become plain ones
            plain = json.dumps(body, allow_nan=False, default=lambda value: getattr(value, "item", value.__str__)())
        except ValueError as error:
            log.warning("%s cannot be sent as JSON: %s", name, error)
            return
        call = name, json.loads(plain), {"ce-id": str(uuid.uuid4()), "ce-time": _now()}
        with self._changed:
            if name == "heartbeat":
                self._calls = [waiting for waiting in self._calls if waiting[0] != name]
            if not self._is_over and (len(self._calls) < CALL_LIMIT or name == "done"):
                self._calls.append(call)
            self._changed.notify_all()

    def _wait_until_sent(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._calls, seconds)

    def _send_all(self) -> None:
        failures = 0
        while not self._is_over:
            with self._changed:
                if not self._changed.wait_for(lambda: self._calls, self.settings.heartbeat_seconds):
                    self._beat({})  # nothing new: report that this process is alive
                call = self._calls[0]
            failures = 0 if self._is_settled(call, failures) else failures + 1
            with self._changed:
                self._is_over = self._is_refused or (call[0] == "done" and not failures)
                self._calls = [] if self._is_over else [one for one in self._calls if failures or one is not call]
                self._changed.notify_all()
            time.sleep(min(0.25 * 2.0**failures, 30.0) if failures else 0)

    def _is_settled(self, call: Call, failures: int) -> bool:
        """Send a call; return False if it must be sent again."""
        name, body, headers = call
        try:
            status, content = self._post(name, body | ({"attempt": self.attempt} if self.attempt else {}), headers)
        except Exception as error:  # whatever it is, the training goes on
            log.warning("%s was not delivered (%s); trying again", name, _message(error))
            return False
        self._is_done = name == "done" and status == 200
        if status != 200:
            log.warning("%s was refused with %d: %s", name, status, content.get("detail"))
        return status not in {401, 408, *RETRIED} or (status == 500 and failures > 0 and name != "done")

    def _post(self, name: str, body: dict[str, Any], headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """Return the functions' status and JSON. Raises for a gateway's response: it says nothing about the job."""
        job_id, span = self.settings.job_id, uuid.uuid4().hex[:16]
        event = {"ce-specversion": "1.0", "ce-type": f"dev.stoker.trainer.{name}", "ce-source": self._source}
        event |= {"ce-subject": job_id, "traceparent": f"00-{self.settings.trace_id}-{span}-01", **headers}
        event["authorization"] = f"Bearer {self._token}"
        url = f"{self.settings.backend_base_url.rstrip('/')}/v1/jobs/{job_id}/{name}"
        response = self._http.post(url, json=body, headers=event, timeout=(5, 30))
        if not response.ok and "application/problem+json" not in response.headers.get("content-type", ""):
            raise requests.HTTPError(f"response {response.status_code}, not from the functions")
        content = dict(response.json())
        token = self.settings.read_token() if response.status_code == 401 else content.get("token")
        if token and token != self._token:
            self.console.hide(token)
            self._token = token
        self.attempt = content.get("attempt") if response.ok and self.attempt is None else self.attempt
        self._is_refused |= response.status_code in {404, 409}
        return response.status_code, content

    def _presign(self, **body: Any) -> dict[str, Any]:
        status, content = self._post("presign", body, {})
        if status != 200:
            refused = status in {404, 409, 413, 422}
            raise (RefusedError if refused else requests.HTTPError)(f"presign: {status}: {content.get('detail')}")
        return content

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
        """Download an object, resuming where it broke off; return False if there is none. Raises: StorageError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part, known = path.with_name(f"{path.name}.part"), etag
        part.unlink(missing_ok=True)

        def fetch() -> bool:
            nonlocal known
            start = part.stat().st_size if known and part.exists() else 0
            try:
                response = self.get(key, known, start)
            except ChangedError:
                part.unlink(missing_ok=True)
                if etag:
                    raise DatasetInvalidError(OVERWRITTEN.format(key)) from None
                known = ""
                raise
            if response is None:
                return False
            with response, part.open("ab" if response.status_code == 206 else "wb") as file:
                known = etag_of(response)
                for chunk in response.iter_content(CHUNK_BYTES):
                    file.write(chunk)
                    self.check()
            part.replace(path)
            return True

        return self.insist(fetch, f"GET {key}", check=self.check)

    def get(self, key: str, etag: str = "", first: int = 0, last: int | None = None) -> requests.Response | None:
        """Request an object, or a range of its bytes; return None if there is no such object.

        Raises:
            ChangedError: the object has another ETag, or ends before the range.
            Exception: the storage refuses (RefusedError), or does not respond.
        """
        span = f"bytes={first}-{'' if last is None else last}" if first or last is not None else None
        headers = {"Accept-Encoding": "identity", "If-Match": f'"{etag}"' if etag else None, "Range": span}
        response = self._http.get(self.link(key), headers=headers, stream=True, timeout=(5, 60))
        code = _code(response)
        is_other = response.ok and etag and etag_of(response) not in {"", etag}
        if is_other or code in {"InvalidRange", "PreconditionFailed"}:
            response.close()
            raise ChangedError(f"{key} was overwritten")
        return None if code == "NoSuchKey" else _checked(response)

    def link(self, key: str) -> str:
        """Return a link to an object: the same for its ranges, until it is old."""
        link, renew_at = self._links.get(key, ("", 0.0))
        if time.monotonic() > renew_at:
            target = {"Bucket": self._bucket, "Key": key}
            sign = self._s3 and partial(self._s3.generate_presigned_url, "get_object", Params=target)
            link = str(sign() if sign else self._presign(method="GET", key=key)["url"])
            self._links[key] = link, time.monotonic() + LINK_SECONDS
        return link

    def insist(
        self,
        action: Callable[[], T],
        what: str,
        seconds: float | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> T:
        """Try until an action on the storage succeeds. Raises: StorageError, after STORAGE_RETRY_SECONDS by default."""
        retry_seconds = self.settings.storage_retry_seconds if seconds is None else seconds
        deadline, pause_seconds = time.monotonic() + retry_seconds, 1.0
        while True:
            try:
                return action()
            except TrainerError:
                raise
            except Exception as error:  # of requests, boto3, the file system
                check()
                if isinstance(error, RefusedError) or time.monotonic() + pause_seconds > deadline:
                    raise StorageError(f"{what}: {_message(error)}") from None
                log.warning("%s: %s; trying again", what, _message(error))
            time.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, 8.0)

    def save_result(self, path: Path, name: str = "", *, kind: str = "results") -> None:
        """Store a result of the job, retrying for minutes. Raises: StorageError, Stopped."""
        self._wait_for_checkpoints()
        try:
            key = self.key(kind, name or path.name)
            self._put(path, key, self.settings.storage_retry_seconds)
            self._artifacts[key] = None
        finally:
            self.check()

    def _put(self, path: Path, key: str, seconds: float, is_outdated: Callable[[], bool] = lambda: False) -> None:
        size = path.stat().st_size
        part_bytes = max(PART_BYTES, -(-size // PART_LIMIT))
        insist = partial(self.insist, what=f"PUT {key}", seconds=seconds)
        content_type = mimetypes.guess_type(key)[0]  # a browser shows a page or an image instead of saving it

        def check(_sent_bytes: int = 0) -> None:
            if is_outdated():
                raise RefusedError("a newer one replaces it")

        def put(url: str, start: int = 0) -> str:
            with Body(path, start, min(part_bytes, size - start), check) as body:
                headers = {"Content-Type": content_type}  # None: no header
                response = self._http.put(url, data=body if size else b"", headers=headers, timeout=(5, 60))
            return str(_checked(response).headers.get("etag"))

        if self._s3:
            insist(partial(self._put_with_credentials, path, key, content_type, check))
        elif size <= part_bytes:
            insist(lambda: put(self._presign(method="PUT", key=key)["url"]))
        else:
            self._put_parts(insist, put, key, range(0, size, part_bytes))

    def _put_with_credentials(self, path: Path, key: str, content_type: str | None, check: Callable[..., None]) -> None:
        from boto3.s3.transfer import TransferConfig  # not needed with links

        config = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False)
        try:
            extra = {"ContentType": content_type} if content_type else None
            self._s3.upload_file(str(path), self._bucket, key, ExtraArgs=extra, Callback=check, Config=config)
        except Exception as error:
            check()  # boto3 wraps what it raises, and botocore's errors
            response = getattr(error.__context__, "response", {})
            if response.get("ResponseMetadata", {}).get("HTTPStatusCode") in REFUSED:
                raise RefusedError(str(error)) from error
            raise

    def _put_parts(self, insist: Callable[..., Any], put: Callable[..., str], key: str, starts: range) -> None:
        presign = partial(self._presign, method="PUT", key=key, parts=len(starts))
        links, renew_at, etags = insist(presign), time.monotonic() + LINK_SECONDS, list[str]()
        try:
            for number, start in enumerate(starts):
                if time.monotonic() > renew_at:  # the same upload, new links
                    links = insist(partial(presign, upload_id=links["upload_id"]))
                    renew_at = time.monotonic() + LINK_SECONDS
                etags.append(insist(partial(put, links["urls"][number], start)))
            parts = (f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag in enumerate(etags, 1))
            xml = f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>"
            insist(lambda: _checked(self._http.post(links["complete_url"], data=xml, timeout=(5, 300))))
        except BaseException:
            with suppress(requests.RequestException):  # else the storage keeps the parts
                self._http.delete(links["abort_url"], timeout=(5, 30))
            raise

    def save_checkpoint(self, *paths: Path, now: bool = False) -> bool:
        """Store ``last.pt``, or ``best.pt`` and ``last.pt``, while the training goes on, once a minute at most.

        With ``now``: at once, and wait for it. Return whether storing has begun (``now``: succeeded). Unchanged files
        are skipped. A failure is a warning; the files after it in ``paths`` wait for the next call.
        """
        if not now and (self._thread.is_alive() or time.monotonic() - self._stored_at < CHECKPOINT_SECONDS):
            return False
        versions = {path: _version(path) for path in paths}
        if now:
            known = self._stored | self._storing
            if any(version != known.get(path.name, ()) for path, version in versions.items()):
                self._outdated.set()  # an upload that hangs must not delay a newer file
            self._wait_for_checkpoints(GIVE_WAY_SECONDS if self._outdated.is_set() else None)
        changed = {path: version for path, version in versions.items() if version != self._stored.get(path.name, ())}
        self._storing, self._outdated = {path.name: version for path, version in changed.items()}, threading.Event()
        store, folder = partial(self._store, is_outdated=self._outdated.is_set), self.scratch / "storing"
        try:
            if now:
                return store(changed)
            folder.mkdir(exist_ok=True)
            copies = {Path(shutil.copyfile(path, folder / path.name)): changed[path] for path in changed}
        except OSError:  # such as no room for a copy: then the training waits
            return store(changed)
        if any(version != _version(path) for path, version in versions.items()):
            return False  # changed while it was copied: the next call tries again
        self._thread = threading.Thread(target=store, args=[copies], name="checkpoints", daemon=True)
        self._thread.start()
        return True

    def _store(self, files: Mapping[Path, Version], is_outdated: Callable[[], bool]) -> bool:
        try:
            for file, version in files.items():
                key = self.key("checkpoints", file.name)
                self._put(file, key, UPLOAD_SECONDS, is_outdated)
                self.event("checkpoint", key=key)
                self._stored[file.name], self._artifacts[key] = version, None
            self._stored_at = time.monotonic()
            return True
        except (StorageError, OSError) as error:
            if not is_outdated():
                self.event("warning", f"{file.name} was not stored: {error}")
                log.warning("%s was not stored: %s", file.name, error)
            return False
        finally:
            shutil.rmtree(self.scratch / "storing", ignore_errors=True)

    def _wait_for_checkpoints(self, seconds: float | None = None) -> None:
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _terminate(self, _number: int, _frame: object) -> None:
        if os.getpid() == self._pid and not self.is_terminated:  # a forked child leaves it to its parent
            self.is_terminated = True
            timer = threading.Timer(self.settings.grace_seconds, os._exit, [EXIT_TERMINATED])  # whatever hangs then
            timer.daemon = True
            timer.start()
            raise Stopped

    def _connect(self) -> None:
        """Use the storage's credentials, unless links are used. Raises: ConfigInvalidError."""
        kind = self.settings.storage_type
        if kind == "presigned":
            return
        for name in (*S3[kind], "STORAGE_BUCKET"):
            if not os.environ.get(name):
                raise ConfigInvalidError(f"{name} is missing: STORAGE_TYPE={kind} needs it")
        import boto3  # not needed with links
        from botocore.config import Config

        names = ("endpoint_url", "aws_access_key_id", "aws_secret_access_key")
        access = {name: os.environ[variable] for name, variable in zip(names, S3[kind], strict=True)}
        checksums = dict.fromkeys(("request_checksum_calculation", "response_checksum_validation"), "when_required")
        config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, connect_timeout=5, **checksums)
        try:
            region = "auto" if kind == "r2" else "us-east-1"
            self._s3 = boto3.client("s3", region_name=region, config=config, **access)
        except ValueError as error:
            raise ConfigInvalidError(f"{S3[kind][0]} cannot be used: {error}") from error

    def _done(self, metrics: Mapping[str, Any], error: TrainerError | None) -> bool:
        """Store the body of ``done``, for sweep to read if the call is lost; send it; return whether it arrived."""
        self._wait_for_checkpoints()
        body: dict[str, Any] = {"status": "FAILED" if error else "SUCCEEDED", "metrics": self._sendable(metrics)}
        # A body holds 64 KiB: the deepest keys matter least, such as the single images of a prediction.
        body["artifacts"] = sorted(self._artifacts, key=lambda key: key.count("/"))[:ARTIFACT_LIMIT]
        body |= {"error": {"reason": error.reason, "message": str(error)[:4_000]}} if error else {}
        if self.attempt is not None:
            marker = self.scratch / "done.json"
            marker.write_text(json.dumps(body | {"attempt": self.attempt}), encoding="utf-8")
            with suppress(StorageError):
                self._put(marker, self.key("results", marker.name), UPLOAD_SECONDS)
        self._send("done", body)
        self._wait_until_sent(self.settings.done_retry_seconds)
        self.check()
        return self._is_done

    def _store_log(self, ended: threading.Event) -> None:
        """Store the log every few seconds, the more rarely the longer it is, and once more at the end."""
        path, size, is_last = self.scratch / "trainer.log", 0, False
        while not is_last:
            is_last = ended.wait(max(LOG_SECONDS, size / 1_000_000))
            try:
                size = path.stat().st_size
                if self.attempt is not None:
                    self._put(path, self.key("logs", f"attempt-{self.attempt}.log"), 2)
            except (StorageError, OSError):
                self.warn_once("the log cannot be stored for now")

    def _train(self, train: Callable[["Contract"], Mapping[str, float]], problems: str) -> int:
        """Train, and report the result; return the exit code. Raises: Stopped."""
        metrics: Mapping[str, float] = {}
        failure: TrainerError | None = None
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._terminate)
            self.event("started")
            self._wait_until_sent(START_SECONDS)  # time for a refusal; then work begins without a response
            self.check()
            if problems:
                raise ConfigInvalidError(problems)
            self._connect()
            metrics = train(self)
        except TrainerError as error:
            log.error("%s: %s", error.reason, error)  # the message says enough
            if isinstance(error, StorageError):  # without done: the job stays open for another attempt
                return error.exit_code
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
        threading.Thread(target=self._send_all, name="callbacks", daemon=True).start()
        try:
            code = self._train(train, problems)
        except Stopped:
            code = 0
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the rest takes seconds, and the exit code is known
        if self.is_terminated:
            code = EXIT_TERMINATED
            self._wait_for_checkpoints()
            self.event("interrupted")
            self._wait_until_sent(self.settings.grace_seconds / 4)
        log.info("exit code %d", code)
        ended.set()
        log_thread.join(LOG_END_SECONDS)
        return code


def run(train: Callable[[Contract], Mapping[str, float]]) -> int:
    """Keep the contract while ``train`` runs, which returns its final metrics; return the process's exit code."""
    try:
        settings, problems = Settings.from_environ(os.environ)
        if not settings.read_token():
            raise ConfigInvalidError("CALLBACK_TOKEN is missing: set it, or CALLBACK_TOKEN_FILE")
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
        faulthandler.enable(contract.console.terminal)  # a crash leaves no time for more
        sys.stdout = sys.stderr = cast("TextIO", contract.console)
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=LOG_FORMAT, force=True)
        for chatty in ("urllib3", "botocore", "boto3"):  # their lines would hold links
            logging.getLogger(chatty).setLevel(logging.ERROR)
        code = contract.run(train, problems)
        contract.console.write("\n")
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        return code


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def _message(error: Exception) -> str:
    """Return an error's message, but only its type if the message may hold a link: links hold signatures."""
    may_have_link = isinstance(error, requests.RequestException) and not isinstance(error, requests.HTTPError)
    return type(error).__name__ if may_have_link else str(error)


def _version(path: Path) -> Version:
    stat = path.stat() if path.exists() else None
    return stat and (stat.st_ino, stat.st_mtime_ns, stat.st_size)


def etag_of(response: requests.Response) -> str:
    """Return an object's ETag without quotes; empty if the storage sends none."""
    return str(response.headers.get("etag", "")).removeprefix("W/").strip('"')


def _code(response: requests.Response) -> str:
    """Return S3's own error code; a proxy's response has none."""
    return "" if response.ok else response.text[:2_000].partition("<Code>")[2].partition("</Code>")[0]


def _checked(response: requests.Response) -> requests.Response:
    """Return the response. Raises: RefusedError for a refusal of S3's own, HTTPError for another failure."""
    if not response.ok:
        code, status = _code(response), response.status_code
        is_final = code not in {"", "RequestTimeout"} and status in REFUSED
        raise (RefusedError if is_final else requests.HTTPError)(f"the storage answered {status} {code}")
    return response
