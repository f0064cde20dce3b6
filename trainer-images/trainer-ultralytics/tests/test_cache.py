"""Datasets that jobs of a node share: the second one downloads nothing, and no job changes what another one reads."""

import os
from pathlib import Path
from typing import Any

import pytest
import requests
from fixtures_storage import Bucket
from small_datasets import dataset as good
from small_datasets import zipped

from dataset import cache, yolo
from dataset import rules as our_rules
from dataset.report import Report
from utils import Contract, DatasetInvalidError

KEY = "datasets/shared.zip"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATASET_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_locks", list[int]())
    return tmp_path / "cache"


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the ranges that are requested."""
    ranges, get = list[str](), requests.Session.get

    def noted(session: requests.Session, url: str, **options: Any) -> requests.Response:
        ranges.append(options["headers"].get("Range") or "all")
        return get(session, url, **options)

    monkeypatch.setattr(requests.Session, "get", noted)
    return ranges


@pytest.fixture
def etag(bucket: Bucket, tmp_path: Path) -> str:
    bucket.put(KEY, zipped(good() | {"README.md": b"x"}, tmp_path / "given.zip"))
    return bucket.etag(KEY)


class Job:
    """A job on this node."""

    def __init__(self, contract: Contract, folder: Path, etag: str) -> None:
        folder.mkdir()
        contract.scratch = folder
        update = {"dataset_id": "shared", "dataset_etag": etag}
        contract.settings = contract.settings.model_copy(update=update)
        self.contract, self.report = contract, Report("shared.zip")

    def fetch(self) -> dict[str, bytes]:
        """Return the files that the job sees."""
        folder, self.known = cache.unpacked(self.contract, yolo.is_wanted, our_rules(), self.report)
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def end(self) -> None:
        for lock in cache._locks:
            os.close(lock)
        cache._locks.clear()


def entry_of(folder: Path) -> Path:
    (entry,) = folder.iterdir()
    return entry


def test_the_second_job_has_the_same_files_and_downloads_nothing(
    contract: Contract, tmp_path: Path, etag: str, requested: list[str]
) -> None:
    first = Job(contract, tmp_path / "1", etag)
    files = first.fetch()
    assert requested == ["all", requested[1]]

    second = Job(contract, tmp_path / "2", etag)
    assert second.fetch() == files

    assert requested[2:] == ["all"]  # whose headers say that the job may read it
    assert second.report.__dict__ == first.report.__dict__
    assert second.known == first.known != {}


def test_a_job_that_may_not_read_the_object_gets_no_entry(contract: Contract, tmp_path: Path, etag: str) -> None:
    Job(contract, tmp_path / "1", etag).fetch()

    with pytest.raises(DatasetInvalidError, match="overwritten"):
        Job(contract, tmp_path / "2", "0123456789abcdef").fetch()


def test_another_version_is_another_entry(contract: Contract, bucket: Bucket, tmp_path: Path, etag: str) -> None:
    files = Job(contract, tmp_path / "1", etag).fetch()
    bucket.put(KEY, zipped(good() | {"notes.txt": b"new"}, tmp_path / "given.zip"))

    assert Job(contract, tmp_path / "2", bucket.etag(KEY)).fetch() == files | {"notes.txt": b"new"}


def test_files_that_a_job_writes_are_not_in_the_entry(
    contract: Contract, tmp_path: Path, folder: Path, etag: str
) -> None:
    job = Job(contract, tmp_path / "1", etag)
    files = job.fetch()
    for path in (tmp_path / "1/dataset").rglob("*"):
        if path.suffix in {".txt", ".yaml"}:
            path.write_text("changed")
        elif path.is_file():
            path.unlink()
    (tmp_path / "1/dataset/labels/train.cache").write_text("a pickle")
    assert all(not path.stat().st_mode & 0o222 for path in entry_of(folder).glob("files/**/*") if path.is_file())

    assert Job(contract, tmp_path / "2", etag).fetch() == files


@pytest.mark.parametrize("damage", ["an image", "a label", "a missing file", "the manifest", "a truncated manifest"])
def test_a_damaged_entry_is_noticed_and_made_again(
    contract: Contract, tmp_path: Path, folder: Path, etag: str, damage: str
) -> None:
    job = Job(contract, tmp_path / "1", etag)
    files = job.fetch()
    job.end()
    entry = entry_of(folder)
    image, label = (next((entry / "files").glob(f"{kind}/train/*")) for kind in ("images", "labels"))
    path = {"an image": image, "a missing file": image, "a label": label}.get(damage, entry / "manifest.json")
    path.chmod(0o644)
    if damage == "a missing file":
        path.unlink()
    else:
        content = path.read_bytes()
        half = len(content) // 2
        path.write_bytes(
            content[:half] + (bytes([content[half] ^ 1]) + content[half + 1 :] if "trunc" not in damage else b"")
        )

    assert Job(contract, tmp_path / "2", etag).fetch() == files
    assert Job(contract, tmp_path / "3", etag).fetch() == files
    assert len(list(folder.iterdir())) == 1


def test_a_damaged_entry_that_another_job_uses_stays(
    contract: Contract, tmp_path: Path, folder: Path, etag: str
) -> None:
    files = Job(contract, tmp_path / "1", etag).fetch()
    locks = cache._locks[:]
    cache._locks.clear()
    path = next(entry_of(folder).glob("files/labels/train/*"))
    path.chmod(0o644)
    path.write_bytes(b"0 0 0 0 0")

    assert Job(contract, tmp_path / "2", etag).fetch() == files
    assert path.exists()
    for lock in locks:
        os.close(lock)


def test_a_crash_leaves_nothing_that_is_used_and_later_nothing_at_all(
    contract: Contract, tmp_path: Path, folder: Path, etag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        os._exit(1)

    child = os.fork()
    if not child:
        monkeypatch.setattr(cache, "_complete", crash)
        Job(contract, tmp_path / "1", etag).fetch()
    os.waitpid(child, 0)
    assert [path.name.startswith(cache.NEW) for path in folder.iterdir()] == [True]

    Job(contract, tmp_path / "2", etag).fetch()
    assert len(list(folder.iterdir())) == 2
    os.utime(next(folder.glob(f"{cache.NEW}*")), (0, 0))
    cache.make_room(folder, 1 << 30)
    assert not entry_of(folder).name.startswith(cache.NEW)


def test_the_least_recently_used_entry_is_removed_first_and_an_entry_in_use_stays(
    contract: Contract, bucket: Bucket, tmp_path: Path, folder: Path
) -> None:
    names = []
    for number in range(3):
        bucket.put(KEY, zipped(good() | {"notes.txt": str(number).encode()}, tmp_path / "given.zip"))
        before = set(folder.glob("*"))
        Job(contract, tmp_path / str(number), bucket.etag(KEY)).fetch()
        names += [path.name for path in folder.iterdir() if path not in before]
        os.utime(folder / names[-1] / cache.BYTES, (number, number))
    os.close(cache._locks.pop(1))  # the second job ends

    cache.make_room(folder, 0)
    assert sorted(path.name for path in folder.iterdir()) == sorted([names[0], names[2]])
    for lock in cache._locks:
        os.close(lock)
    cache._locks.clear()
    cache.make_room(folder, int((folder / names[2] / cache.BYTES).read_text()))
    assert [path.name for path in folder.iterdir()] == [names[2]]


def test_a_folder_that_cannot_be_used_stops_no_job(contract: Contract, tmp_path: Path, folder: Path, etag: str) -> None:
    folder.write_text("no folder")

    job = Job(contract, tmp_path / "1", etag)
    assert "data.yaml" in job.fetch()
    assert job.report.files == len(good())


@pytest.mark.parametrize("limit_bytes", ["0", "1000"])
def test_a_dataset_that_is_larger_than_the_cache_is_not_shared(  # noqa: PLR0913, PLR0917 -- fixtures
    contract: Contract, tmp_path: Path, folder: Path, etag: str, limit_bytes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASET_CACHE_BYTES", limit_bytes)

    assert "data.yaml" in Job(contract, tmp_path / "1", etag).fetch()
    assert not folder.exists()


def test_two_jobs_that_make_the_same_entry_at_once_both_have_it(
    contract: Contract, tmp_path: Path, folder: Path, etag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = cache._complete

    def overtaken(*arguments: Any) -> None:
        monkeypatch.setattr(cache, "_complete", complete)
        scratch = contract.scratch
        Job(contract, tmp_path / "2", etag).fetch()
        contract.scratch = scratch
        complete(*arguments)

    monkeypatch.setattr(cache, "_complete", overtaken)

    assert "data.yaml" in Job(contract, tmp_path / "1", etag).fetch()
    assert len(list(folder.iterdir())) == 1
