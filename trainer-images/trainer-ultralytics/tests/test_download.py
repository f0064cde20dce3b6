"""Archives that are read while they are downloaded in ranges, from a real storage."""

import itertools
import random
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
import requests
from fixtures_storage import Bucket

from dataset import download
from dataset.download import Download
from utils import Contract, DatasetInvalidError, Stopped, StorageError

KEY, RANGE_BYTES = "datasets/d.zip", 1 << 16
CONTENT = random.Random(1).randbytes(10 * RANGE_BYTES + 1_000)


@pytest.fixture(autouse=True)
def ranges(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make ranges small; return those that are requested."""
    monkeypatch.setattr(download, "RANGE_BYTES", RANGE_BYTES)
    requested, get = list[str](), requests.Session.get

    def noted(session: requests.Session, url: str, **options: Any) -> requests.Response:
        requested.append(options["headers"].get("Range") or "all")
        return get(session, url, **options)

    monkeypatch.setattr(requests.Session, "get", noted)
    return requested


def opened(contract: Contract, folder: Path, etag: str = "") -> Download:
    return Download(contract, KEY, folder / "d.zip", etag)


@pytest.mark.parametrize("size", [0, 1, RANGE_BYTES, 2 * RANGE_BYTES, len(CONTENT)])
def test_archives_of_any_size_arrive_whole(contract: Contract, bucket: Bucket, tmp_path: Path, size: int) -> None:
    bucket.put(KEY, CONTENT[:size])

    with opened(contract, tmp_path, bucket.etag(KEY)) as archive:
        assert archive.read() == CONTENT[:size]
        assert archive.path.read_bytes() == CONTENT[:size]


def test_the_end_arrives_first_and_parts_can_be_read_before_the_rest(
    contract: Contract, bucket: Bucket, tmp_path: Path, ranges: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "CONNECTIONS", 1)
    bucket.put(KEY, CONTENT)

    with opened(contract, tmp_path) as archive:
        archive.seek(-5, 2)
        assert archive.read(5) == CONTENT[-5:]
        archive.seek(0)
        assert archive.read(100) == CONTENT[:100]
        assert archive.read() == CONTENT[100:]

    last = f"bytes={10 * RANGE_BYTES}-{len(CONTENT) - 1}"
    assert ranges[:3] == ["all", last, f"bytes=0-{RANGE_BYTES - 1}"]
    assert len(ranges) == 12


def test_a_zip_archive_is_read_while_it_is_downloaded(contract: Contract, bucket: Bucket, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "given.zip", "w") as zipped:
        for number in range(8):
            zipped.writestr(str(number), CONTENT[number * RANGE_BYTES : (number + 1) * RANGE_BYTES])
    bucket.put(KEY, tmp_path / "given.zip")

    with opened(contract, tmp_path) as archive, zipfile.ZipFile(archive) as zipped:
        assert b"".join(map(zipped.read, zipped.namelist())) == CONTENT[: 8 * RANGE_BYTES]


def test_a_range_goes_on_where_it_broke_off(
    contract: Contract, bucket: Bucket, tmp_path: Path, ranges: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "CONNECTIONS", 1)
    monkeypatch.setattr(download, "CHUNK_BYTES", 1_000)
    bucket.put(KEY, CONTENT)
    calls, check = itertools.count(), contract.check

    def break_off() -> None:
        if next(calls) == 20:
            raise OSError("the cable")
        check()

    archive = opened(contract, tmp_path)
    monkeypatch.setattr(contract, "check", break_off)
    with archive:
        assert archive.read() == CONTENT

    starts = [int(one.removeprefix("bytes=").partition("-")[0]) for one in ranges[1:]]
    assert len(starts) == 12
    assert [start % RANGE_BYTES for start in starts if start % RANGE_BYTES] != []


@pytest.mark.parametrize("is_pinned", [True, False])
def test_an_archive_that_is_overwritten_meanwhile_is_never_mixed(
    contract: Contract, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_pinned: bool
) -> None:
    monkeypatch.setattr(download, "CONNECTIONS", 1)
    monkeypatch.setattr(threading.Thread, "start", lambda _thread: None)
    bucket.put(KEY, CONTENT)
    with opened(contract, tmp_path, bucket.etag(KEY) if is_pinned else "") as archive:
        bucket.put(KEY, CONTENT[::-1])
        archive._work()  # what the thread does

        with pytest.raises(DatasetInvalidError if is_pinned else StorageError, match="overwritten"):
            archive.read()


def test_another_version_than_the_jobs_and_none_are_refused_at_once(
    contract: Contract, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put(KEY, CONTENT)
    with pytest.raises(DatasetInvalidError, match="overwritten after this job was made"):
        opened(contract, tmp_path, "0123456789abcdef")
    with pytest.raises(DatasetInvalidError, match="there is no dataset"):
        Download(contract, "datasets/none.zip", tmp_path / "none.zip")


def test_all_ranges_share_one_link(contract: Contract, bucket: Bucket, tmp_path: Path) -> None:
    bucket.put(KEY, CONTENT)
    links = list[str]()

    def presign(**body: Any) -> dict[str, Any]:
        links.append(body["key"])
        return bucket.links(**body)

    contract.storage.presign = presign

    with opened(contract, tmp_path) as archive:
        archive.read()

    assert len(links) == 1


def test_a_job_that_must_stop_waits_for_no_bytes(
    contract: Contract, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading.Thread, "start", lambda _thread: None)  # nothing arrives
    bucket.put(KEY, CONTENT)
    with opened(contract, tmp_path) as archive:
        contract.is_terminated = True

        with pytest.raises(Stopped):
            archive.read()
