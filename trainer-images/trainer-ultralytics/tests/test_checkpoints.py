"""Checkpoints that are stored at a speed that the test controls."""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures_storage import eventually

import checkpoint_storage
from utils import Contract, StorageError


class Storage:
    """Stores one file at a time, when the test allows it."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.began: list[str] = []
        self.is_refusing = False
        self.open = threading.Event()
        self.open.set()

    def put(self, path: Path, _key: str, _seconds: float, is_outdated: Callable[[], bool]) -> None:
        with path.open() as file:
            self.began.append(path.name)
            while not self.open.wait(0.01):
                if is_outdated():
                    raise StorageError("a newer one replaces it")
            if self.is_refusing:
                raise StorageError("refused")
            self.stored.append(file.read())


@pytest.fixture
def storage() -> Iterator[Storage]:
    storage = Storage()
    yield storage
    storage.open.set()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "best.pt", tmp_path / "last.pt"]
    for path in paths:
        path.write_text(f"{path.name} of 1")
    return paths


@pytest.fixture(autouse=True)
def _stored_there(contract: Contract, storage: Storage) -> None:
    setattr(contract.storage, "upload", storage.put)  # noqa: B010 -- a method, to mypy


def test_the_training_goes_on_while_a_checkpoint_is_stored_as_it_was(
    contract: Contract, storage: Storage, files: list[Path]
) -> None:
    storage.open.clear()
    assert contract.save_checkpoint(*files, now=False)
    for path in files:
        path.write_text("of 2, written in place")
    assert not contract.save_checkpoint(*files, now=False)  # one at a time

    storage.open.set()
    contract._checkpoints.wait()

    assert storage.stored == ["best.pt of 1", "last.pt of 1"]


def test_the_next_is_stored_after_a_minute(
    contract: Contract, storage: Storage, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert contract.save_checkpoint(*files, now=False)
    contract._checkpoints.wait()
    files[1].write_text("last.pt of 2")
    assert not contract.save_checkpoint(*files, now=False)

    monkeypatch.setattr(checkpoint_storage, "CHECKPOINT_SECONDS", 0.0)
    assert contract.save_checkpoint(*files, now=False)
    contract._checkpoints.wait()

    assert storage.stored == ["best.pt of 1", "last.pt of 1", "last.pt of 2"]  # the same best.pt is there already


def test_at_the_end_a_newer_checkpoint_replaces_a_running_upload(
    contract: Contract, storage: Storage, files: list[Path]
) -> None:
    storage.open.clear()
    contract.save_checkpoint(*files, now=False)
    eventually(lambda: storage.began)
    files[1].write_text("last.pt of 2")
    threading.Timer(0.1, storage.open.set).start()

    assert contract.save_checkpoint(*files, now=True)

    assert storage.stored == ["best.pt of 1", "last.pt of 2"]


def test_at_the_end_a_hanging_upload_does_not_delay_a_newer_checkpoint(
    contract: Contract, storage: Storage, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_storage, "GIVE_WAY_SECONDS", 0.1)
    hung, put = threading.Event(), storage.put
    monkeypatch.setattr(contract.storage, "upload", lambda *_arguments: hung.wait())
    contract.save_checkpoint(*files, now=False)
    monkeypatch.setattr(contract.storage, "upload", put)
    files[1].write_text("last.pt of 2")

    assert contract.save_checkpoint(*files, now=True)
    assert storage.stored[-1] == "last.pt of 2"
    hung.set()


def test_a_running_upload_of_an_unchanged_file_is_waited_for(
    contract: Contract, storage: Storage, files: list[Path]
) -> None:
    storage.open.clear()
    contract.save_checkpoint(*files, now=False)
    eventually(lambda: storage.began)
    threading.Timer(0.1, storage.open.set).start()

    assert contract.save_checkpoint(*files, now=True)

    assert storage.stored == ["best.pt of 1", "last.pt of 1"]


def test_last_is_not_stored_without_its_best_and_both_are_tried_again(
    contract: Contract, storage: Storage, files: list[Path]
) -> None:
    storage.is_refusing = True
    assert contract.save_checkpoint(*files, now=False)
    contract._checkpoints.wait()
    assert storage.began == ["best.pt"]

    storage.is_refusing = False
    assert contract.save_checkpoint(*files, now=False)  # at once: nothing is stored so far
    contract._checkpoints.wait()

    assert storage.stored == ["best.pt of 1", "last.pt of 1"]


def test_without_space_for_a_copy_the_training_waits(
    contract: Contract, storage: Storage, files: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "storing").write_text("a file where the copies' folder would be")

    assert contract.save_checkpoint(*files, now=False)

    assert storage.stored == ["best.pt of 1", "last.pt of 1"]


def test_half_a_copy_takes_no_room_from_the_training(
    contract: Contract, storage: Storage, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path, target: Path) -> Path:
        target.write_text("half")
        raise OSError("No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)

    assert contract.save_checkpoint(*files, now=False)

    assert not (tmp_path / "storing").exists()
    assert storage.stored == ["best.pt of 1", "last.pt of 1"]


def test_a_file_that_changes_while_it_is_copied_is_left_for_the_next_call(
    contract: Contract, storage: Storage, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copyfile

    def written_meanwhile(path: Path, target: Path) -> Path:
        copy(path, target)
        path.write_text("half of the next")
        return target

    monkeypatch.setattr(shutil, "copyfile", written_meanwhile)
    assert not contract.save_checkpoint(*files, now=False)
    monkeypatch.undo()
    assert contract.save_checkpoint(*files, now=False)
    contract._checkpoints.wait()

    assert storage.stored == ["half of the next", "half of the next"]
