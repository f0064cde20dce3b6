"""Download a job's files: several at once, each continued where an earlier download stopped."""

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from client import show
from client.api import Api, Json
from client.artifacts import artifacts_of
from client.errors import CallError, UnavailableError, invalid
from client.transfer_bar import TransferBar

if TYPE_CHECKING:
    import httpx

_AT_ONCE, _TRIES = 4, 5
_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60.0
#: characters that Windows does not allow in names
_RESERVED = str.maketrans(dict.fromkeys('<>:"\\|?*', "_"))
_PARTIAL = 206


def path_of(key: str, job_id: str) -> PurePosixPath:
    """Return the path of an object below the download folder: its key without ``job-{id}/``."""
    parts = [part for part in PurePosixPath(key).parts if part != f"job-{job_id}"]
    if any(part in {"..", "/"} for part in parts):
        raise CallError(f"the object {show.plain(key)} has a name that leads out of the folder; it is not downloaded")
    return PurePosixPath(*(part.translate(_RESERVED).rstrip(". ") or "_" for part in parts))


def chosen(artifacts: Iterable[Json], job_id: str, patterns: Sequence[str]) -> list[Json]:
    """Return the artifacts that match one of the patterns: a name, a path, or a shell pattern; all without patterns.

    Raises:
        CallError: a pattern matches nothing.
    """
    artifacts = list(artifacts)
    paths = {artifact["key"]: path_of(artifact["key"], job_id) for artifact in artifacts}
    for pattern in patterns:
        if not any(_matches(path, pattern) for path in paths.values()):
            known = ", ".join(sorted({path.name for path in paths.values()})[:12]) or "nothing"
            raise invalid(f"job {job_id} has stored no {pattern}; it has {known}")
    wanted = [a for a in artifacts if not patterns or any(_matches(paths[a["key"]], p) for p in patterns)]
    if not wanted:
        raise CallError(f"job {job_id} has stored nothing yet")
    return wanted


def _matches(path: PurePosixPath, pattern: str) -> bool:
    plain = pattern.replace("\\", "/").rstrip("/")
    whole = str(path)
    return (
        plain in {path.name, whole}
        or whole.startswith(f"{plain}/")
        or fnmatchcase(whole, plain)
        or fnmatchcase(path.name, plain)
    )


def download(api: Api, job_id: str, artifacts: Sequence[Json], folder: Path, *, is_quiet: bool) -> list[Path]:
    """Download artifacts into a folder, and return their paths; complete files are left as they are.

    Raises:
        CallError: a file could not be downloaded; what is complete stays.
    """
    import httpx  # noqa: PLC0415 -- a fifth of a second, which other commands need not wait for

    targets = [(artifact, folder.joinpath(*path_of(artifact["key"], job_id).parts)) for artifact in artifacts]
    total = sum(artifact["size_bytes"] for artifact in artifacts)
    links = _Links(api, job_id, artifacts)
    with (
        TransferBar("downloading", total, is_quiet=is_quiet) as bar,
        httpx.Client(timeout=_TIMEOUT_SECONDS, follow_redirects=True) as http,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        waiting = [pool.submit(_one, http, links, artifact, path, bar) for artifact, path in targets]
        try:
            for future in waiting:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            bar.is_stopped = True
            raise
    return [path for _, path in targets]


class _Links:
    """The links of the artifacts, which are asked for again when they have expired."""

    def __init__(self, api: Api, job_id: str, artifacts: Sequence[Json]) -> None:
        self._api, self._job_id = api, job_id
        self._urls = {artifact["key"]: artifact["url"] for artifact in artifacts}

    def url(self, key: str, *, is_new: bool = False) -> str:
        if is_new:
            self._urls |= {artifact["key"]: artifact["url"] for artifact in artifacts_of(self._api, self._job_id)}
        return str(self._urls[key])


def _one(http: "httpx.Client", links: _Links, artifact: Json, path: Path, bar: TransferBar) -> None:
    """Download one object; a failure is tried again from where it stopped."""
    import httpx  # noqa: PLC0415 -- as above

    if path.is_file() and path.stat().st_size == artifact["size_bytes"]:
        is_same = path.stat().st_mtime >= _stored_at(artifact)
        if is_same:
            bar.add(artifact["size_bytes"], is_old=True)
            return None
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in reversed(range(_TRIES)):
        try:
            return _receive(http, links.url(artifact["key"], is_new=left < _TRIES - 1), path, artifact, bar)
        except (httpx.TransportError, UnavailableError) as error:
            if not left or bar.is_stopped:
                line = f"{path.name} was not downloaded ({error or type(error).__name__}); run the command again"
                raise UnavailableError(line) from error
            time.sleep(_TRIES - left)
    return None


def _stored_at(artifact: Json) -> float:
    from datetime import datetime  # noqa: PLC0415

    text = artifact.get("modified_at") or artifact.get("last_modified")
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def _receive(http: "httpx.Client", url: str, path: Path, artifact: Json, bar: TransferBar) -> None:
    # The version is in the name: a part of an older version is never continued.
    version = sha256(f"{artifact['size_bytes']} {artifact.get('etag') or artifact.get('modified_at')}".encode())
    part = path.with_name(f"{path.name}.{version.hexdigest()[:8]}.part")
    done = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={done}-"} if done else {}
    counted = 0
    try:
        if done < artifact["size_bytes"] or not artifact["size_bytes"]:
            with http.stream("GET", url, headers=headers) as response:
                _check(response, path)
                is_continued = response.status_code == _PARTIAL
                counted = done if is_continued else 0
                bar.add(counted, is_old=True)
                with part.open("ab" if is_continued else "wb") as file:
                    for chunk in response.iter_bytes(_CHUNK_BYTES):
                        if bar.is_stopped:
                            return
                        file.write(chunk)
                        bar.add(len(chunk))
                        counted += len(chunk)
        _require_complete(part, artifact["size_bytes"])
    except BaseException:
        bar.add(-counted, is_old=True)
        raise
    part.replace(path)


def _require_complete(part: Path, size: int) -> None:
    """Raise UnavailableError if a file has another size than its object; what is too long starts anew."""
    arrived = part.stat().st_size
    if arrived > size:
        part.unlink()
    if arrived != size:
        raise UnavailableError(f"{arrived} of {size} bytes arrived")


def _check(response: "httpx.Response", path: Path) -> None:
    if response.is_error:
        raise UnavailableError(f"the storage refused the link of {path.name} [HTTP {response.status_code}]")
