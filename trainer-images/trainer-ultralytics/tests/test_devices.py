"""Code for one or several GPUs, tested as far as possible without one."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fixtures_storage import eventually
from fixtures_trainer import ROOT, Trainer

import train
from mlflow_tracking import Tracking


class Noted:
    """A contract that records its calls."""

    def __init__(self) -> None:
        self.settings = SimpleNamespace(epochs=3)
        self.is_stopped = False
        self.epochs: list[int] = []
        self.saved: list[Path] = []

    def check(self) -> None:
        pass

    def heartbeat(self, *, epoch: int, **_more: Any) -> None:
        self.epochs.append(epoch)

    def save_checkpoint(self, *paths: Path, now: bool) -> None:
        assert not now
        self.saved += paths

    def finite(self, metrics: dict[str, Any]) -> dict[str, float]:
        return {name: float(value) for name, value in metrics.items()}


def test_exhausted_gpu_memory_is_a_separate_reason(trainer: Trainer, tmp_path: Path) -> None:
    script = tmp_path / "greedy.py"
    script.write_text(
        "import sys, train, utils, torch\n"
        "def work(contract):\n"
        "    with train.out_of_gpu_memory():\n"
        "        raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')\n"
        "sys.exit(utils.run(work))\n"
    )

    assert trainer.run(script=str(script), PYTHONPATH=str(ROOT)) == 70, trainer.output

    error = trainer.functions.bodies("done", status="FAILED")[0]["error"]
    assert error["reason"] == "oom_gpu"
    assert "BATCH_SIZE" in error["message"]


def test_a_training_of_several_processes_is_watched_by_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "POLL_SECONDS", 0.01)
    contract: Any = Noted()
    run = train.Run(contract, Tracking(None, experiment="e", job_id="j"), tmp_path)
    table = tmp_path / "results.csv"
    table.write_text("epoch,loss\n")

    with train.watching_files(run, None):
        for epoch in (1, 2):
            with table.open("a") as file:
                file.write(f"{epoch},0.5\n")
            eventually(lambda epoch=epoch: run.epoch == epoch - 1)  # type: ignore[misc]
        with table.open("a") as file:
            file.write("3,0.25\n")

    assert contract.epochs in ([1, 2, 3], [1, 3])


def test_a_stopped_training_leaves_none_of_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "POLL_SECONDS", 0.01)
    contract: Any = Noted()
    run = train.Run(contract, Tracking(None, experiment="e", job_id="j"), tmp_path)

    with train.watching_files(run, None):
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
        contract.is_stopped = True

        assert process.wait(10) == -9


def archive(path: Path, content: str) -> bytes:
    """Write a checkpoint, which is a zip archive; return its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data", content)
    return path.read_bytes()


def test_of_several_processes_the_last_complete_checkpoint_is_stored(tmp_path: Path) -> None:
    contract: Any = Noted()
    run = train.Run(contract, Tracking(None, experiment="e", job_id="j"), tmp_path)
    best, last = archive(run.best, "1"), archive(run.last, "1")
    assert train.keep(run)
    second = archive(run.last, "of epoch 2")
    run.last.write_bytes(second[: len(second) // 2])  # it is being written

    assert not train.keep(run)
    assert [(run.kept / name).read_bytes() for name in ("best.pt", "last.pt")] == [best, last]

    run.last.write_bytes(second)
    assert train.keep(run)
    assert (run.kept / "last.pt").read_bytes() == second


def test_without_room_for_a_copy_the_checkpoints_themselves_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path, _copy: Path) -> None:
        raise OSError("No space left on device")

    contract: Any = Noted()
    run = train.Run(contract, Tracking(None, experiment="e", job_id="j"), tmp_path)
    archive(run.best, "1")
    archive(run.last, "1")
    monkeypatch.setattr(shutil, "copy2", full)

    assert train.keep(run)
    train.save(run)

    assert contract.saved == [run.best, run.last]
