"""Objects in a bucket, by an S3 server's credentials or by links: requests are retried, and downloads resume."""

import io
import logging
import mimetypes
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

T = TypeVar("T")
Links = dict[str, Any]  # ``url``; of an upload in parts ``urls``, ``upload_id``, ``complete_url`` and ``abort_url``
CHUNK_BYTES = 1 << 20
PART_BYTES, PART_LIMIT = 256 << 20, 10_000
LINK_SECONDS = 1800.0  # a link is renewed after these
LONGEST_PAUSE_SECONDS = 8.0
RETRIED = (429, 500, 502, 503, 504)
REFUSED = (400, 401, 403, 404, 405, 411, 413)
#: the endpoint, and two credentials
VARIABLES = {
    "minio": ("MINIO_ENDPOINT", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"),
    "r2": ("R2_ENDPOINT", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"),
}
log = logging.getLogger("trainer")


class FinalError(Exception):
    """An error that ``insist`` raises as it is, without another try."""


class StorageError(FinalError):
    """The storage does not respond, or refuses; a later try may succeed."""


class ChangedError(FinalError):
    """An object is not the requested version."""


class SettingError(Exception):
    """An environment variable cannot be used; the message names it."""


class RefusedError(Exception):
    """A request is refused, and retrying it is useless."""


class Storage:
    """A bucket. ``presign`` requests links from the functions; ``check`` may end a download by raising."""

    def __init__(self, presign: Callable[..., Links], retry_seconds: float, check: Callable[[], None]) -> None:
        self.presign, self.check = presign, check
        self._retry_seconds = retry_seconds
        self._http = new_session()
        self._s3: Any = None  # boto3's client, in place of links
        self._bucket = ""
        self._links = dict[str, tuple[str, float]]()  # to download from: link, and when to renew it

    def connect(self, kind: str, env: Mapping[str, str]) -> None:
        """Use credentials instead of links from now on. Raises: SettingError."""
        for name in (*VARIABLES[kind], "STORAGE_BUCKET"):
            if not env.get(name):
                raise SettingError(f"{name} is missing: STORAGE_TYPE={kind} needs it")
        import boto3  # not needed with links
        from botocore.config import Config

        endpoint, key_id, secret_key = (env[name] for name in VARIABLES[kind])
        checksums = dict.fromkeys(("request_checksum_calculation", "response_checksum_validation"), "when_required")
        config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, connect_timeout=5, **checksums)
        try:
            self._s3 = boto3.client(
                "s3",
                region_name="auto" if kind == "r2" else "us-east-1",
                endpoint_url=endpoint,
                aws_access_key_id=key_id,
                aws_secret_access_key=secret_key,
                config=config,
            )
        except ValueError as error:
            raise SettingError(f"{VARIABLES[kind][0]} cannot be used: {error}") from error
        self._bucket = env["STORAGE_BUCKET"]

    def insist(
        self,
        action: Callable[[], T],
        what: str,
        seconds: float | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> T:
        """Retry an action until it succeeds. Raises: StorageError, after ``retry_seconds`` by default."""
        deadline = time.monotonic() + (self._retry_seconds if seconds is None else seconds)
        pause_seconds = 1.0
        while True:
            try:
                return action()
            except FinalError:
                raise
            except Exception as error:  # noqa: BLE001 -- of requests, boto3, the file system
                check()
                if isinstance(error, RefusedError) or time.monotonic() + pause_seconds > deadline:
                    raise StorageError(f"{what}: {message_of(error)}") from None
                log.warning("%s: %s; trying again", what, message_of(error))
            time.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)

    def link(self, key: str) -> str:
        """Return a link to an object; ranges of the object share it until it is old."""
        link, renew_at = self._links.get(key, ("", 0.0))
        if time.monotonic() > renew_at:
            link = self._new_link(key)
            self._links[key] = link, time.monotonic() + LINK_SECONDS
        return link

    def _new_link(self, key: str) -> str:
        if self._s3:
            target = {"Bucket": self._bucket, "Key": key}
            return str(self._s3.generate_presigned_url("get_object", Params=target))
        return str(self.presign(method="GET", key=key)["url"])

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

    def download(self, key: str, path: Path, etag: str = "") -> bool:
        """Download an object, resuming where it broke off; return False if there is none.

        Raises:
            ChangedError: it is not the version of ``etag``. Without that, the newest version is downloaded.
            StorageError: the storage cannot be reached, or refuses.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        part, known = path.with_name(f"{path.name}.part"), etag
        part.unlink(missing_ok=True)

        def fetch() -> bool:
            nonlocal known
            start = part.stat().st_size if known and part.exists() else 0
            try:
                response = self.get(key, known, start)
            except ChangedError as error:
                part.unlink(missing_ok=True)
                if etag:
                    raise
                known = ""
                raise requests.HTTPError(str(error)) from None  # the next try downloads all of the new version
            if response is None:
                return False
            known = etag_of(response)
            self._append(response, part)
            part.replace(path)
            return True

        return self.insist(fetch, f"GET {key}", check=self.check)

    def _append(self, response: requests.Response, part: Path) -> None:
        with response, part.open("ab" if response.status_code == requests.codes.partial else "wb") as file:
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                self.check()

    def upload(
        self, path: Path, key: str, seconds: float | None = None, is_outdated: Callable[[], bool] = lambda: False
    ) -> None:
        """Store a file, retrying for ``retry_seconds`` by default, unless it is outdated. Raises: StorageError."""
        size = path.stat().st_size
        file = _File(path, size, key, is_outdated)
        part_bytes = max(PART_BYTES, -(-size // PART_LIMIT))
        insist = partial(self.insist, what=f"PUT {key}", seconds=seconds)
        if self._s3:
            insist(partial(self._put_with_credentials, file))
        elif size <= part_bytes:
            insist(lambda: self._put(self.presign(method="PUT", key=key)["url"], file, 0, size))
        else:
            self._put_in_parts(file, part_bytes, insist)

    def _put_with_credentials(self, file: "_File") -> None:
        from boto3.s3.transfer import TransferConfig  # not needed with links

        config = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False)
        options = {"ExtraArgs": file.content_type and {"ContentType": file.content_type}, "Config": config}
        try:
            self._s3.upload_file(str(file.path), self._bucket, file.key, Callback=file.check, **options)
        except Exception as error:
            file.check()  # boto3 wraps what it raises, and botocore's errors
            response = getattr(error.__context__, "response", {})
            if response.get("ResponseMetadata", {}).get("HTTPStatusCode") in REFUSED:
                raise RefusedError(str(error)) from error
            raise

    def _put(self, url: str, file: "_File", start: int, size: int) -> str:
        """Store a part of a file at a link; return its ETag."""
        headers = {"Content-Type": file.content_type}  # None: no header
        with _Body(file, start, size) as body:
            response = self._http.put(url, data=body if size else b"", headers=headers, timeout=(5, 60))
        return str(_checked(response).headers.get("etag"))

    def _put_in_parts(self, file: "_File", part_bytes: int, insist: Callable[..., Any]) -> None:
        starts = range(0, file.size, part_bytes)
        presign = partial(self.presign, method="PUT", key=file.key, parts=len(starts))
        links, renew_at, etags = insist(presign), time.monotonic() + LINK_SECONDS, list[str]()
        try:
            for number, start in enumerate(starts):
                if time.monotonic() > renew_at:  # the same upload, new links
                    links = insist(partial(presign, upload_id=links["upload_id"]))
                    renew_at = time.monotonic() + LINK_SECONDS
                size = min(part_bytes, file.size - start)
                etags.append(insist(partial(self._put, links["urls"][number], file, start, size)))
            insist(lambda: self._join(links["complete_url"], etags))
        except BaseException:
            with suppress(requests.RequestException):  # else the storage keeps the parts
                self._http.delete(links["abort_url"], timeout=(5, 30))
            raise

    def _join(self, url: str, etags: list[str]) -> None:
        """Make an object of its parts."""
        parts = (f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag in enumerate(etags, 1))
        xml = f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>"
        _checked(self._http.post(url, data=xml, timeout=(5, 300)))


@dataclass(frozen=True)
class _File:
    """A file to upload, of this size now."""

    path: Path
    size: int
    key: str
    is_outdated: Callable[[], bool]

    @property
    def content_type(self) -> str | None:
        """The type with which a browser shows a page or an image instead of saving it."""
        return mimetypes.guess_type(self.key)[0]

    def check(self, _sent_bytes: int = 0) -> None:
        """Raise RefusedError if it is outdated."""
        if self.is_outdated():
            raise RefusedError("a newer one replaces it")


class _Body(io.FileIO):
    """A request's body: a part of a file, which is checked before each chunk."""

    def __init__(self, file: _File, start: int, size: int) -> None:
        super().__init__(file.path)
        self._end, self._check = self.seek(start) + size, file.check

    def __len__(self) -> int:  # requests sends the bytes from the current position to this one
        return self._end

    def read(self, _size: int | None = -1, /) -> bytes:
        self._check()
        return super().read(min(CHUNK_BYTES, self._end - self.tell())) or b""


def new_session() -> requests.Session:
    """Return a session that tries each request four times, whatever its method."""
    session = requests.Session()
    session.auth = lambda request: request  # else requests would take an Authorization header from .netrc
    retry = Retry(
        3,
        allowed_methods=None,
        status_forcelist=RETRIED,
        raise_on_status=False,
        backoff_factor=0.5,
        backoff_jitter=0.5,
        retry_after_max=300,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def message_of(error: Exception) -> str:
    """Return an error's message, but only its type if the message may hold a link: links hold signatures."""
    may_have_link = isinstance(error, requests.RequestException) and not isinstance(error, requests.HTTPError)
    return type(error).__name__ if may_have_link else str(error)


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
