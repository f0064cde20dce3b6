"""Upload a dataset in parts, several at once; an upload that was interrupted continues where it stopped."""

import json
import os
import re
import time
import unicodedata
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.sax.saxutils import escape

import httpx
import platformdirs

from client import contexts, fields, local_check, show
from client.api import Api, Json, call, request
from client.errors import CallError, UnavailableError, invalid, writing
from client.output import note
from client.transfer_bar import TransferBar

_AT_ONCE, _TRIES, _FIRST_WAIT_SECONDS = 4, 8, 0.5
_CHUNK_BYTES = 1 << 18
_TIMEOUT_SECONDS = 120.0
_FORBIDDEN, _NOT_FOUND = 403, 404
_FEATURE = "upload links"
#: the oldest time that a zip file can hold
_EPOCH = (1980, 1, 1, 0, 0, 0)
#: an upload that creates no job by itself; the caller submits one
NO_JOB = {"job": "none"}
#: an upload for a single prediction: the server deletes it after a day if it still exists
TEMPORARY = NO_JOB | {"temporary": "true"}


class Source(NamedTuple):
    """What is uploaded: an archive as it is, or files, which are packed into one."""

    path: Path
    #: None: an archive
    members: Sequence[local_check.Member] | None


class Uploaded(NamedTuple):
    """A dataset in the bucket, and its version."""

    dataset: str
    etag: str


@dataclass
class State:
    """The saved state of an upload, with which the next call continues or skips it."""

    fingerprint: str
    upload_id: str = ""
    #: the version in the bucket, once the upload is complete
    etag: str = ""


@dataclass
class Plan:
    """An upload that the server has opened: where each part goes."""

    upload_id: str
    part_bytes: int
    urls: list[str]
    headers: Mapping[str, str]
    complete_url: str = ""
    #: the ETags of the parts that are stored, by number
    stored: dict[int, str] = field(default_factory=dict)


def source(path: Path) -> Source:
    """Return a folder's files, or an archive."""
    return Source(path, list(local_check.members(path)) if path.is_dir() else None)


def upload(
    api: Api, path: Path | Source, dataset: str, *, metadata: Mapping[str, str] = NO_JOB, is_quiet: bool
) -> Uploaded:
    """Upload a folder, an archive or some files, and return the dataset and its version.

    Datasets that are already in the bucket are not uploaded again.

    Raises:
        CallError: the dataset cannot be used, or the upload failed; the same command continues it.
    """
    what = path if isinstance(path, Source) else source(path)
    if "/" in dataset or dataset in {".", ".."}:
        raise invalid(f"{dataset!r} cannot be a dataset's name: use a name without slashes, such as {what.path.stem}")
    state_file = _state_file(api, dataset)
    fingerprint = fingerprint_of(what, metadata)
    state = _remembered(state_file)
    if state.fingerprint != fingerprint:
        state = State(fingerprint)
    if state.etag and metadata in (NO_JOB, TEMPORARY) and _is_in_bucket(api, dataset, state.etag):
        if not is_quiet:
            note(f"dataset {dataset} is unchanged since its upload")
        return Uploaded(dataset, state.etag)
    try:
        archive = what.path if what.members is None else _zipped(what, fingerprint, is_quiet=is_quiet)
        plan = _plan(api, dataset, archive.stat().st_size, state, metadata)
        state.upload_id, state.etag = plan.upload_id, ""
        _remember(state_file, state)
        etag = _send(api, dataset, archive, plan, is_quiet=is_quiet)
    except KeyboardInterrupt:
        note("\nthe upload is interrupted; the same command continues it")
        raise
    _remember(state_file, State(fingerprint, "", etag))
    if archive != what.path:
        archive.unlink(missing_ok=True)
    return Uploaded(dataset, etag)


def delete(api: Api, dataset: str) -> None:
    """Delete a dataset, unless a job uses it or it cannot be deleted now."""
    with suppress(CallError):
        request(api, "DELETE", f"/v1/datasets/{quote(dataset, safe='')}", feature="deletion of datasets")


def _is_in_bucket(api: Api, dataset: str, etag: str) -> bool:
    rows = datasets(api)
    return any(row["name"] == dataset and row["etag"].strip('"') == etag for row in rows)


def require_dataset(api: Api, word: str) -> None:
    """Check that a word that names no local file is a dataset in the bucket.

    Raises:
        CallError: no dataset has this name; the message has the nearest one.
    """
    names = [row["name"] for row in datasets(api)]
    if unicodedata.normalize("NFC", word) not in names:
        near = fields.nearest(word, [*names, *os.listdir()])  # noqa: PTH208 -- names are enough
        fix = f"did you mean {near}?" if near else "stoker datasets lists those that are uploaded"
        raise invalid(f"{word} is neither a folder or file here nor an uploaded dataset; {fix}")


def datasets(api: Api) -> list[Json]:
    """Return the datasets in the bucket, from all pages. Raises: CallError."""
    rows: list[Json] = []
    after: Any = None
    while True:
        page = call(api, "GET", "/v1/datasets", query={"after": after}, feature="list of datasets")
        rows += page["datasets"]
        after = page.get("next_after")
        if not after:
            return rows


# Saved state


def _state_file(api: Api, dataset: str) -> Path:
    digest = sha256(f"{api.url} {dataset}".encode()).hexdigest()[:16]
    return contexts.folder() / "uploads" / f"{digest}.json"


def _remembered(path: Path) -> State:
    try:
        return State(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return State("")


def _remember(path: Path, state: State) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_suffix(f".{os.getpid()}.part")
    with writing(path):
        part.write_text(json.dumps(asdict(state)), encoding="utf-8")
        part.replace(path)


def fingerprint_of(what: Source, metadata: Mapping[str, str] = NO_JOB) -> str:
    """Return a digest that changes with the names, sizes and times of the files."""
    digest = sha256(json.dumps([str(what.path.resolve()), dict(metadata)], sort_keys=True).encode())
    if what.members is None:
        details = what.path.stat()
        digest.update(f"{details.st_size} {details.st_mtime_ns}".encode())
    for member in what.members or ():
        digest.update(f"\0{member.name}\0{member.bytes}\0{member.modified_ns}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


# The archive


def _zipped(what: Source, fingerprint: str, *, is_quiet: bool) -> Path:
    """Return a zip file of the files, in the cache; images are stored as they are, since they do not compress."""
    archive = Path(platformdirs.user_cache_path("stoker", appauthor=False)) / "archives" / f"{fingerprint}.zip"
    if archive.exists():
        return archive
    archive.parent.mkdir(parents=True, exist_ok=True)
    part = archive.with_suffix(f".{os.getpid()}.part")
    members = what.members or ()
    try:
        with (
            TransferBar("zipping  ", sum(member.bytes for member in members), is_quiet=is_quiet) as bar,
            zipfile.ZipFile(part, "w", allowZip64=True) as target,
        ):
            for member in members:
                _add(target, member, bar)
        part.replace(archive)
    except OSError as error:
        raise CallError(f"{what.path} cannot be zipped into {archive.parent}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return archive


def _add(target: zipfile.ZipFile, member: local_check.Member, bar: TransferBar) -> None:
    is_image = Path(member.name).suffix.lower() in local_check.IMAGES
    entry = zipfile.ZipInfo(member.name, _EPOCH)
    entry.compress_type = zipfile.ZIP_STORED if is_image else zipfile.ZIP_DEFLATED
    entry.file_size = member.bytes  # decides whether the entry is in the 64-bit format
    with member.path.open("rb") as source, target.open(entry, "w") as sink:
        while chunk := source.read(_CHUNK_BYTES):
            sink.write(chunk)
            bar.add(len(chunk))


# The transfer


def _plan(api: Api, dataset: str, size: int, state: State, metadata: Mapping[str, str]) -> Plan:
    """Continue the remembered upload if the server still knows it; otherwise open a new one."""
    path = f"/v1/datasets/{quote(dataset, safe='')}/uploads"
    if state.upload_id:
        try:
            content = call(api, "GET", f"{path}/{quote(state.upload_id, safe='')}", feature=_FEATURE)
            return _parsed(content | {"upload_id": state.upload_id})
        except CallError as error:
            if isinstance(error, UnavailableError) or error.problem.get("status") != _NOT_FOUND:
                raise
    return _parsed(call(api, "POST", path, body={"bytes": size, "metadata": dict(metadata)}, feature=_FEATURE))


def _parsed(content: Json) -> Plan:
    stored = {part["number"]: part["etag"] for part in content.get("parts") or ()}
    return Plan(
        content["upload_id"] or "",
        content["part_bytes"],
        content["urls"],
        content.get("headers") or {},
        content.get("complete_url") or "",
        stored,
    )


def _send(api: Api, dataset: str, archive: Path, plan: Plan, *, is_quiet: bool) -> str:
    """Send the parts that are missing, and return the ETag of the object."""
    size = archive.stat().st_size
    count = max(-(-size // plan.part_bytes), 1) if plan.upload_id else 1
    links = _Links(api, dataset, plan)
    old = sum(min(plan.part_bytes, size - (number - 1) * plan.part_bytes) for number in plan.stored)
    if old and not is_quiet:
        note(f"continuing: {show.size(old)} of {show.size(size)} are uploaded already")
    with (
        TransferBar("uploading", size, is_quiet=is_quiet) as bar,
        httpx.Client(timeout=_TIMEOUT_SECONDS) as http,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        bar.add(old, is_old=True)
        missing = [number for number in range(1, count + 1) if number not in plan.stored]
        waiting = {number: pool.submit(_part, http, links, archive, number, bar) for number in missing}
        try:
            etags = plan.stored | {number: future.result() for number, future in waiting.items()}
        except BaseException:
            bar.is_stopped = True
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return _complete(http, links, etags) if plan.upload_id else etags[1]


class _Links:
    """The links of an upload, which are requested again when they have expired."""

    def __init__(self, api: Api, dataset: str, plan: Plan) -> None:
        self._api, self._dataset, self.plan = api, dataset, plan

    def renew(self) -> None:
        path = f"/v1/datasets/{quote(self._dataset, safe='')}/uploads/{quote(self.plan.upload_id, safe='')}"
        content = call(self._api, "GET", path, feature=_FEATURE)
        self.plan.urls = content["urls"]
        self.plan.complete_url = content.get("complete_url") or self.plan.complete_url


def _part(http: httpx.Client, links: _Links, archive: Path, number: int, bar: TransferBar) -> str:
    """Send one part, again after a failure, and return its ETag."""
    plan = links.plan
    start = (number - 1) * plan.part_bytes
    length = min(plan.part_bytes, archive.stat().st_size - start) if plan.upload_id else archive.stat().st_size
    wait = _FIRST_WAIT_SECONDS
    for left in reversed(range(_TRIES)):
        counted = [0]
        try:
            headers = {**plan.headers, "Content-Length": str(length)}
            content = _region(archive, start, length, bar, counted)
            response = http.put(plan.urls[number - 1], content=content, headers=headers)
            if response.is_success:
                return str(response.headers["ETag"]).strip('"')
            why = f"the storage answered {response.status_code}: {_reason(response)}"
            if response.status_code == _FORBIDDEN and plan.upload_id and left:
                links.renew()  # links expire
            elif response.is_client_error and response.status_code not in {408, 429}:
                raise CallError(f"the upload was refused: {why}")
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
        bar.add(-counted[0])
        if bar.is_stopped:
            break
        time.sleep(wait)
        wait = min(wait * 2, 30)
    raise UnavailableError(f"the upload stopped ({why}); the same command continues it", {"title": "upload stopped"})


def _region(archive: Path, start: int, length: int, bar: TransferBar, counted: list[int]) -> Iterator[bytes]:
    with archive.open("rb") as file:
        file.seek(start)
        left = length
        while left and (chunk := file.read(min(_CHUNK_BYTES, left))):
            if bar.is_stopped:
                raise httpx.WriteError("stopped")
            yield chunk
            left -= len(chunk)
            counted[0] += len(chunk)
            bar.add(len(chunk))


def _complete(http: httpx.Client, links: _Links, etags: Mapping[int, str]) -> str:
    parts = "".join(
        f'<Part><PartNumber>{number}</PartNumber><ETag>"{escape(etags[number])}"</ETag></Part>'
        for number in sorted(etags)
    )
    body = f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{parts}</CompleteMultipartUpload>'
    response = http.post(links.plan.complete_url, content=body, headers={"Content-Type": "application/xml"})
    match = re.search(r"<ETag>(?:&quot;|\"|&#34;)?([^<&\"]+)", response.text)
    if not response.is_success or not match:  # S3 may report an error under 200
        raise UnavailableError(f"the storage did not complete the upload: {_reason(response)}; run the command again")
    return match[1]


def _reason(response: httpx.Response) -> str:
    match = re.search(r"<Message>([^<]+)", response.text)
    return show.plain(match[1] if match else response.text[:200]) or response.reason_phrase
