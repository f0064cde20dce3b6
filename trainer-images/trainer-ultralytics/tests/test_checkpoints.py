"""Checkpoints on their way to a storage whose pace the test sets."""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import eventually

from contract import checkpoints
from contract.checkpoints import Checkpoints


class Storage:
    """Takes one file at a time, when the test lets it."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.began: list[str] = []
        self.is_refusing = False
        self.open = threading.Event()
        self.open.set()

    def put(self, path: Path, is_outdated: Callable[[], bool]) -> bool:
        with path.open() as file:
            self.began.append(path.name)
            while not self.open.wait(0.01):
                if is_outdated():
                    return False
            if not self.is_refusing:
                self.stored.append(file.read())
        return not self.is_refusing


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


@pytest.fixture
def kept(storage: Storage, tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "storing", storage.put)


def test_the_training_goes_on_while_a_checkpoint_is_stored_as_it_was(
    kept: Checkpoints, storage: Storage, files: list[Path]
) -> None:
    storage.open.clear()
    assert kept.save(files, now=False)
    for path in files:
        path.write_text("of 2, written in place")
    assert not kept.save(files, now=False)  # one at a time

    storage.open.set()
    kept.wait()

    assert storage.stored == ["best.pt of 1", "last.pt of 1"]


def test_the_next_is_stored_after_a_minute(
    kept: Checkpoints, storage: Storage, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kept.save(files, now=False)
    kept.wait()
    files[1].write_text("last.pt of 2")
    assert not kept.save(files, now=False)

    monkeypatch.setattr(checkpoints, "EVERY_SECONDS", 0.0)
    assert kept.save(files, now=False)
    kept.wait()

    assert storage.stored == ["best.pt of 1", "last.pt of 1", "last.pt of 2"]  # the same best.pt is there already


def test_at_the_end_a_newer_one_is_stored_instead_of_what_is_on_its_way(
    kept: Checkpoints, storage: Storage, files: list[Path]
) -> None:
    storage.open.clear()
    kept.save(files, now=False)
    eventually(lambda: storage.began)
    files[1].write_text("last.pt of 2")
    threading.Timer(0.1, storage.open.set).start()

    assert kept.save(files, now=True)

    assert storage.stored == ["best.pt of 1", "last.pt of 2"]


def test_at_the_end_a_newer_one_passes_by_a_storage_that_hangs(
    kept: Checkpoints, storage: Storage, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "GIVE_UP_SECONDS", 0.1)
    hung, put = threading.Event(), storage.put
    monkeypatch.setattr(kept, "_store", lambda _path, _is_outdated: hung.wait())
    kept.save(files, now=False)
    monkeypatch.setattr(kept, "_store", put)
    files[1].write_text("last.pt of 2")

    assert kept.save(files, now=True)
    assert storage.stored[-1] == "last.pt of 2"
    hung.set()


def test_what_is_on_its_way_and_still_the_same_is_waited_for(
    kept: Checkpoints, storage: Storage, files: list[Path]
) -> None:
    storage.open.clear()
    kept.save(files, now=False)
    eventually(lambda: storage.began)
    threading.Timer(0.1, storage.open.set).start()

    assert kept.save(files, now=True)

    assert storage.stored == ["best.pt of 1", "last.pt of 1"]


def test_last_is_not_stored_without_its_best_and_both_are_tried_again(
    kept: Checkpoints, storage: Storage, files: list[Path]
) -> None:
    storage.is_refusing = True
    assert kept.save(files, now=False)
    kept.wait()
    assert storage.began == ["best.pt"]

    storage.is_refusing = False
    assert kept.save(files, now=False)  # at once: nothing is stored so far
    kept.wait()

    assert storage.stored == ["best.pt of 1", "last.pt of 1"]


def test_where_there_is_no_room_for_a_copy_the_training_waits(
    kept: Checkpoints, storage: Storage, files: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "storing").write_text("a file where the copies' folder would be")

    assert kept.save(files, now=False)

    assert storage.stored == ["best.pt of 1", "last.pt of 1"]


def test_half_a_copy_takes_no_room_from_the_training(
    kept: Checkpoints, storage: Storage, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path, target: Path) -> Path:
        target.write_text("half")
        raise OSError("No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)

    assert kept.save(files, now=False)

    assert not (tmp_path / "storing").exists()
    assert storage.stored == ["best.pt of 1", "last.pt of 1"]


def test_what_is_written_while_it_is_copied_is_left_for_the_next_call(
    kept: Checkpoints, storage: Storage, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copyfile

    def written_meanwhile(path: Path, target: Path) -> Path:
        copy(path, target)
        path.write_text("half of the next")
        return target

    monkeypatch.setattr(shutil, "copyfile", written_meanwhile)
    assert not kept.save(files, now=False)
    monkeypatch.undo()
    assert kept.save(files, now=False)
    kept.wait()

    assert storage.stored == ["half of the next", "half of the next"]
