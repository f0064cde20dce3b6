"""Download a published file: retried, continued where a connection broke, and used only when it is complete."""

import base64
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import requests

log = logging.getLogger("download")

#: tries in a row that bring no new bytes
TRIES = 4
FIRST_PAUSE_SECONDS = 1.0
TIMEOUT_SECONDS = (5, 60)  # to connect, and between two chunks
CHUNK_BYTES = 1 << 20
TEMPORARY = {408, 416, 425, 429, 500, 502, 503, 504}


class DownloadError(Exception):
    """The file cannot be downloaded; the message says why, without the credentials in the address."""


class _DamagedError(Exception):
    """The bytes are not those that the server announced."""


def download(url: str, path: Path, check: Callable[[], None]) -> None:
    """Download a file; ``check`` is called before each chunk, and may raise.

    Raises:
        DownloadError: the server cannot be reached, refuses, or sends damaged files.
    """
    host, part = urlsplit(url).hostname, path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)
    first: dict[str, str] = {}
    failures, most_bytes = 0, 0
    while True:
        check()
        try:
            _continue(url, part, first, check)
            part.replace(path)
        except (requests.RequestException, _DamagedError) as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            reason = f"{host} answered {status}" if status else f"{host}: {_reason(error)}"
            has_grown = part.exists() and part.stat().st_size > most_bytes
            most_bytes = max(most_bytes, part.stat().st_size if part.exists() else 0)
            failures = 0 if has_grown else failures + 1
            if failures == TRIES or (status and status not in TEMPORARY):
                part.unlink(missing_ok=True)
                raise DownloadError(reason) from None
            log.warning("%s: %s; trying again", path.name, reason)
            time.sleep(FIRST_PAUSE_SECONDS * 2.0**failures)
        else:
            return


def _reason(error: Exception) -> str:
    """Return the error's message; those of requests contain the address, which may contain a password."""
    if isinstance(error, requests.Timeout):
        return "no response in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted"
    if isinstance(error, requests.ConnectionError):
        return "it cannot be reached, or the connection broke"
    return str(error) if isinstance(error, _DamagedError) else type(error).__name__


def _continue(url: str, part: Path, first: dict[str, str], check: Callable[[], None]) -> None:
    """Download what is missing. ``first`` keeps the headers of the response that began the file."""
    start = part.stat().st_size if first.get("etag") and part.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": first["etag"]}  # a changed file: from its beginning
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink(missing_ok=True)
        response.raise_for_status()
        is_rest = response.status_code == requests.codes.partial_content
        if not is_rest:
            first.clear()
            first.update({name.lower(): value for name, value in response.headers.items()})
        with part.open("ab" if is_rest else "wb") as file:
            for chunk in response.iter_content(CHUNK_BYTES):
                check()
                file.write(chunk)
    try:
        _verify(part, first)
    except _DamagedError:
        part.unlink()
        first.clear()
        raise


def _verify(part: Path, headers: Mapping[str, str]) -> None:
    """Compare a file with the size and the digests of its response's headers. Raises: _DamagedError."""
    size = headers.get("content-length")
    if size is not None and part.stat().st_size != int(size):
        raise _DamagedError(f"sent {part.stat().st_size} bytes of {size}")
    for algorithm, expected in _digests(headers).items():
        with part.open("rb") as file:
            actual = hashlib.file_digest(file, algorithm).digest()
        if base64.b64encode(actual).decode() != expected:
            raise _DamagedError(f"sent a damaged file: its {algorithm} is not the published one")


def _digests(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the digests that a server publishes (RFC 9530, and Content-MD5 as GitHub's storage sends it)."""
    digests = {"md5": headers["content-md5"]} if "content-md5" in headers else {}
    for field in headers.get("repr-digest", "").split(","):
        name, _, value = field.strip().partition("=")
        if name == "sha-256":
            digests["sha256"] = value.strip(":")
    return digests
