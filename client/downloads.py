"""Download a job's files: several at once, each continued where an earlier download stopped."""

import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from client import fields, show
from client.api import Api, Json
from client.artifacts import artifacts_of
from client.errors import CallError, UnavailableError, invalid, writing
from client.transfer_bar import TransferBar

if TYPE_CHECKING:
    import httpx

_AT_ONCE, _TRIES = 4, 5
#: the most names of files in a list
_SHOWN = 12
#: the most important files, first
_FIRST = ("best.pt", "report.html", "predictions.jsonl", "metrics.csv", "results.png", "curves.png", "last.pt")
#: a file right in one of the three folders has two parts: results/report.html
_PARTS, _FEW = 2, 3
_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60.0
#: characters that Windows does not allow in names
_RESERVED = str.maketrans(dict.fromkeys('<>:"\\|?*', "_"))
_PARTIAL, _EMPTY_OBJECT = 206, 416
#: an artifact, and its path below the download folder
Target = tuple[Json, PurePosixPath]


class Listed(NamedTuple):
    """A file, or the files of a folder together."""

    path: PurePosixPath
    files: int
    bytes: int

    @property
    def is_folder(self) -> bool:
        """Whether it stands for the files of a folder."""
        return self.files > 1


def listing(files: Iterable[tuple[PurePosixPath, int]]) -> list[Listed]:
    """Return the files with their sizes in the order of lists: the most important first; many samples are one line."""
    folders: dict[PurePosixPath, list[int]] = {}
    rows = sorted(files, key=lambda file: importance(file[0]))
    for path, size in rows:
        folders.setdefault(_folder(path), []).append(size)
    grouped = {folder for folder, sizes in folders.items() if len(folder.parts) == _PARTS and len(sizes) > _FEW}
    places = dict.fromkeys(_folder(path) if _folder(path) in grouped else path for path, _ in rows)
    alone = dict(rows)
    return [
        Listed(place, len(folders[place]), sum(folders[place])) if place in grouped else Listed(place, 1, alone[place])
        for place in places
    ]


def _folder(path: PurePosixPath) -> PurePosixPath:
    """Return the folder that a list shows as one line, such as results/samples for all files below it."""
    return PurePosixPath(*path.parts[:_PARTS]) if len(path.parts) > _PARTS else path.parent


def importance(path: PurePosixPath) -> tuple[bool, int, str]:
    """Return the sort key of a job's file: important files first, files in other folders last."""
    rank = _FIRST.index(path.name) if path.name in _FIRST else len(_FIRST)
    return len(path.parts) > _PARTS, rank, str(path)


def path_of(key: str, job_id: str) -> PurePosixPath:
    """Return the path of an object below the download folder: its key without ``job-{id}/``."""
    parts = [part for part in PurePosixPath(key).parts if part != f"job-{job_id}"]
    if any(part in {"..", "/"} for part in parts):
        raise CallError(f"the object {show.plain(key)} has a name that leads out of the folder; it is not downloaded")
    return PurePosixPath(*(part.translate(_RESERVED).rstrip(". ") or "_" for part in parts))


def chosen(artifacts: Iterable[Json], job_id: str, patterns: Sequence[str]) -> list[Target]:
    """Return the artifacts that match one of the patterns: a name, a path, or a shell pattern; all without patterns.

    A path may begin at any folder: ``samples`` is ``results/samples``, unless several folders have one. A file that is
    selected by its name is saved directly in the folder, as with ``cp``. Files that are selected by a path or with
    their folder keep their path, and so do files of the same name.

    Raises:
        CallError: a pattern matches nothing, or folders of several places.
    """
    paths = [(artifact, path_of(artifact["key"], job_id)) for artifact in artifacts]
    paths.sort(key=lambda each: importance(each[1]))
    whole = [_whole([path for _, path in paths], pattern, job_id) for pattern in patterns]
    wanted = [(a, path) for a, path in paths if not patterns or any(_matches(path, p) for p in whole)]
    if not wanted:
        raise CallError(f"job {job_id} has stored nothing yet")
    times = Counter(path.name.casefold() for _, path in wanted)
    is_flat = [times[path.name.casefold()] == 1 and any(_names(path, p) for p in whole) for _, path in wanted]
    return [(a, PurePosixPath(path.name) if flat else path) for (a, path), flat in zip(wanted, is_flat, strict=True)]


def _whole(paths: Sequence[PurePosixPath], pattern: str, job_id: str) -> str:
    """Return a pattern that matches paths: as it is, or with the folder at which it begins."""
    if any(_matches(path, pattern) for path in paths):
        return pattern
    parts = [path.parts for path in paths]
    tails = {("/".join(each[:n]), PurePosixPath(*each[n:])) for each in parts for n in range(1, len(each))}
    plain = pattern.replace("\\", "/").strip("/")
    matching = sorted({f"{folder}/{plain}" for folder, tail in tails if _matches(tail, plain)})
    if len(matching) > 1:
        raise invalid(f"job {job_id} has several {pattern}: {', '.join(matching)}; name one of them")
    if not matching:
        raise invalid(f"job {job_id} has stored no {pattern}; {_nearest(parts, plain)}")
    return matching[0]


def _nearest(parts: Sequence[tuple[str, ...]], pattern: str) -> str:
    """Return the job's file name that is nearest to a pattern, or some of its files."""
    folders = {"/".join(each[start:end]) for each in parts for end in range(1, len(each)) for start in range(end)}
    names = sorted({each[-1] for each in parts} | folders)
    if near := fields.nearest(pattern, names):
        return f"did you mean {near}?"
    rows = listing((PurePosixPath(*each), 0) for each in parts)
    shown = [f"{row.path.name}/" if row.is_folder else row.path.name for row in rows]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return f"it has {', '.join(shown[:_SHOWN]) or 'nothing'}{more}"


def _names(path: PurePosixPath, pattern: str) -> bool:
    """Return whether a pattern is one of names, and matches the file's."""
    is_of_names = not {"/", "\\"} & set(pattern) and pattern != "*"
    return is_of_names and (pattern == path.name or fnmatchcase(path.name, pattern))


def _matches(path: PurePosixPath, pattern: str) -> bool:
    plain = pattern.replace("\\", "/").rstrip("/")
    whole = str(path)
    return (
        plain in {path.name, whole}
        or whole.startswith(f"{plain}/")
        or fnmatchcase(whole, plain)
        or fnmatchcase(path.name, plain)
    )


def download(api: Api, job_id: str, targets: Sequence[Target], folder: Path, *, is_quiet: bool) -> list[Path]:
    """Download artifacts to their paths in a folder, and return these; complete files are left as they are.

    Raises:
        CallError: a file could not be downloaded; complete files are kept.
    """
    import httpx  # noqa: PLC0415 -- a fifth of a second, which other commands need not wait for

    files = [(artifact, folder.joinpath(*path.parts)) for artifact, path in targets]
    total = sum(artifact["size_bytes"] for artifact, _ in files)
    links = _Links(api, job_id, [artifact for artifact, _ in files])
    with (
        TransferBar("downloading", total, is_quiet=is_quiet) as bar,
        httpx.Client(timeout=_TIMEOUT_SECONDS, follow_redirects=True) as http,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        waiting = [pool.submit(_one, http, links, artifact, path, bar) for artifact, path in files]
        try:
            for future in waiting:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            bar.is_stopped = True
            raise
    return [path for _, path in files]


class _Links:
    """The links of the artifacts, which are requested again when they have expired."""

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

    path.parent.mkdir(parents=True, exist_ok=True)
    for left in reversed(range(_TRIES)):
        try:
            url = links.url(artifact["key"], is_new=left < _TRIES - 1)
            etag, modified_ns = _version(http, url, path)
            if _is_there(path, artifact["size_bytes"], modified_ns):
                bar.add(artifact["size_bytes"], is_old=True)
                return
            part = part_path(path, etag)
            with writing(path):
                _receive(http, url, part, artifact["size_bytes"], bar)
            if not bar.is_stopped:
                part.replace(path)
                os.utime(path, ns=(modified_ns, modified_ns))
        except (httpx.TransportError, UnavailableError) as error:
            if not left or bar.is_stopped:
                line = f"{path.name} was not downloaded ({error or type(error).__name__}); run the command again"
                raise UnavailableError(line) from error
            time.sleep(_TRIES - left)
        else:
            return


def _version(http: "httpx.Client", url: str, path: Path) -> tuple[str, int]:
    """Return an object's ETag, and the time in nanoseconds that its file gets.

    A running job replaces its checkpoints, often by one of the same size and in the same second: the fraction of the
    second, which HTTP's times lack, is made of the ETag.
    """
    with http.stream("GET", url, headers={"Range": "bytes=0-0"}) as response:
        if response.status_code != _EMPTY_OBJECT:
            _check(response, path)
        modified = response.headers.get("Last-Modified")
        etag = response.headers.get("ETag", "")
        seconds = int(parsedate_to_datetime(modified).timestamp()) if modified else 0
        fraction = int(sha256(etag.encode()).hexdigest(), 16) % 10**7 * 100  # NTFS counts in units of 100 ns
        return etag, seconds * 10**9 + fraction


def _is_there(path: Path, size: int, modified_ns: int) -> bool:
    """Return whether this version is already downloaded: a file has the time of its object."""
    return path.is_file() and path.stat().st_size == size and path.stat().st_mtime_ns == modified_ns


def part_path(path: Path, etag: str) -> Path:
    """Return the file for an unfinished download of a version: a part of another version is never continued."""
    return path.with_name(f"{path.name}.{sha256(etag.encode()).hexdigest()[:8]}.part")


def _receive(http: "httpx.Client", url: str, part: Path, size: int, bar: TransferBar) -> None:
    """Append what is missing to a part, or write it from the start."""
    done = part.stat().st_size if part.exists() else 0
    counted = 0
    try:
        if done < size or not size:
            with http.stream("GET", url, headers={"Range": f"bytes={done}-"} if done else {}) as response:
                _check(response, part)
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
        _require_complete(part, size)
    except BaseException:
        bar.add(-counted, is_old=True)
        raise


def _require_complete(part: Path, size: int) -> None:
    """Raise UnavailableError if a file has another size than its object; a longer file is downloaded again."""
    arrived = part.stat().st_size
    if arrived > size:
        part.unlink()
    if arrived != size:
        raise UnavailableError(f"{arrived} of {size} bytes arrived")


def _check(response: "httpx.Response", path: Path) -> None:
    if response.is_error:
        raise UnavailableError(f"the storage refused the link of {path.name} [HTTP {response.status_code}]")
