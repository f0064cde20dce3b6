"""Objects in storage: one link each, signed here with the storage's key or by the functions, then plain HTTP."""

import io
import logging
import os
import random
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

import requests

from contract.settings import ConfigInvalidError, StorageError

T = TypeVar("T")
log = logging.getLogger("storage")

TIMEOUT_SECONDS = (5, 60)  # to connect, to answer
LINK_SECONDS = 3600
POLL_SECONDS = 0.2
CHUNK_BYTES = 1 << 20
PUT_LIMIT_BYTES = 5 * (1 << 30)  # S3: one PUT holds no more


class RefusedError(Exception):
    """The storage or the functions answered, and another try would get the same answer."""


def signer(endpoint: str, key: str, secret: str, bucket: str, region: str) -> Callable[[str, str], str]:
    """Return what turns (GET | PUT, key) into a link, with path-style addresses."""
    import boto3  # noqa: PLC0415 -- not needed, nor waited for, where the functions sign
    from botocore.config import Config  # noqa: PLC0415

    try:
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            region_name=region,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
    except ValueError as error:
        raise ConfigInvalidError(f"the storage's endpoint {endpoint!r} cannot be used: {error}") from error

    def link(method: str, name: str) -> str:
        place = {"Bucket": bucket, "Key": name}
        return str(client.generate_presigned_url(f"{method.lower()}_object", Params=place, ExpiresIn=LINK_SECONDS))

    return link


def receive(link: Callable[[], str], path: Path, check: Callable[[], None]) -> bool:
    """Download to ``path``, whole or not at all; return False when there is no such object.

    What an earlier call left half done is gone on with, when its ETag says that the object is still the same.
    """
    part, etag = path.with_name(path.name + ".part"), path.with_name(path.name + ".etag")
    headers = {"Accept-Encoding": "identity"}
    if part.exists() and etag.exists():
        headers |= {"Range": f"bytes={part.stat().st_size}-", "If-Range": etag.read_text()}
    with requests.get(link(), headers=headers, stream=True, timeout=TIMEOUT_SECONDS, auth=_as_signed) as answer:
        if answer.status_code == HTTPStatus.NOT_FOUND and b"NoSuchBucket" not in answer.content[:2_000]:
            return False
        if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            etag.unlink()
        _raise_for(answer)
        etag.write_text(answer.headers.get("ETag", ""))
        with part.open("ab" if answer.status_code == HTTPStatus.PARTIAL_CONTENT else "wb") as file:
            for chunk in answer.iter_content(CHUNK_BYTES):
                file.write(chunk)
                check()
    part.replace(path)
    etag.unlink()
    return True


def send(link: Callable[[], str], path: Path, is_outdated: Callable[[], bool]) -> None:
    """Upload a file, unless ``is_outdated`` says meanwhile that nobody wants it any more."""
    with _Body(path, is_outdated) as body:
        if len(body) > PUT_LIMIT_BYTES:
            raise RefusedError(f"{path.name} has {len(body)} bytes; one upload holds {PUT_LIMIT_BYTES}")
        # requests sends an empty file in chunks, which S3 does not take.
        _raise_for(requests.put(link(), data=body if len(body) else b"", timeout=TIMEOUT_SECONDS, auth=_as_signed))


class _Body(io.FileIO):
    """A file as a request sends it: as long as it was when opened, in pieces larger than the 16 KiB asked for."""

    def __init__(self, path: Path, is_outdated: Callable[[], bool]) -> None:
        super().__init__(path)
        self._size_bytes, self._is_outdated = os.fstat(self.fileno()).st_size, is_outdated

    def __len__(self) -> int:
        return self._size_bytes

    def read(self, _size: int | None = -1, /) -> bytes:
        if self._is_outdated():
            raise RefusedError("a newer one is to be stored")
        return super().read(min(CHUNK_BYTES, self._size_bytes - self.tell())) or b""


def insist(action: Callable[[], T], what: str, within_seconds: float, is_stopped: Callable[[], bool]) -> T:
    """Do ``action``, again and again with growing pauses, for so long at most and until ``is_stopped`` says so.

    Raises:
        StorageError: it did not go, or can never go; no link is in its message, since links hold signatures.
    """
    deadline, tries = time.monotonic() + within_seconds, 0
    while True:
        try:
            return action()
        except RefusedError as error:
            raise StorageError(f"{what}: {error}") from None
        except (requests.RequestException, OSError) as error:
            is_plain = isinstance(error, requests.HTTPError) or not isinstance(error, requests.RequestException)
            said = str(error) if is_plain else type(error).__name__
        pause_seconds = backoff_seconds(tries, 15.0)
        tries += 1
        if time.monotonic() + pause_seconds > deadline or _pause(pause_seconds, is_stopped):
            raise StorageError(f"{what}: {said}, after {tries} tries")
        log.warning("%s: %s; trying again", what, said)


def _pause(seconds: float, is_stopped: Callable[[], bool]) -> bool:
    """Wait; return whether it was cut short. No event to wait for, since a signal's handler must not set one."""
    until = time.monotonic() + seconds
    while not (ended := is_stopped()) and time.monotonic() < until:
        time.sleep(min(POLL_SECONDS, seconds))
    return ended


def backoff_seconds(tries: int, limit_seconds: float) -> float:
    """Return how long to wait after so many tries: longer each time, and not all trainers at once."""
    return min(limit_seconds, 0.5 * 2.0 ** min(tries, 10)) * random.uniform(0.5, 1.5)  # noqa: S311 -- no secret


def _raise_for(answer: requests.Response) -> None:
    if answer.status_code in {400, 401, 403, 404, 405, 411, 413}:
        code = answer.text[:2_000].partition("<Code>")[2].partition("</Code>")[0]
        raise RefusedError(f"the storage answered {answer.status_code} {code}")
    if not answer.ok:
        raise requests.HTTPError(f"{answer.status_code}")


def _as_signed(request: requests.PreparedRequest) -> requests.PreparedRequest:
    # Keeps requests from adding an Authorization header out of a .netrc.
    return request
