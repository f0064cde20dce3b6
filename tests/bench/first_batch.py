"""Run by a trainer's own Python: get a dataset from the bucket to the first batch, once, and print what it took.

``WAY`` is ``trainer``, which is the trainer's own code, ``plain``, which is ``s5cmd cp``, ``unzip -q`` and what the framework's
own training does, or ``fetch``, which is the trainer's own code up to the checked dataset, without a framework in memory.
Libraries are imported before the clock starts. Prints one JSON line: the seconds of each step, and the peak memory.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

BATCH, IMAGE_SIZE = 16, 640
SAMPLE_SECONDS = 0.1
TRAINER = Path(os.environ["TRAINER"])
WAY = os.environ["WAY"]
Batches = Callable[[Any], None]

_seconds: dict[str, float] = {}


@contextmanager
def step(name: str) -> Iterator[None]:
    """Note how long a step takes."""
    began = time.perf_counter()
    yield
    _seconds[name] = time.perf_counter() - began


def cpu_seconds() -> float:
    """Return the CPU time of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


class PeakMemory(threading.Thread):
    """Samples the memory of this process and of those that it starts: what they share counts once."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes, self._ended = 0, threading.Event()

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            with suppress(psutil.Error):
                own = psutil.Process()
                memory = [one.memory_full_info().pss for one in (own, *own.children(recursive=True))]
                self.peak_bytes = max(self.peak_bytes, sum(memory))

    def stop(self) -> int:
        """Return the peak."""
        self._ended.set()
        self.join()
        return self.peak_bytes


def plain_dataset(scratch: Path) -> Path:
    """Download and unpack as a shell script would."""
    name, folder = f"datasets/{os.environ['DATASET_ID']}.zip", scratch / "dataset"
    with step("download"):
        source = f"s3://{os.environ['STORAGE_BUCKET']}/{name}"
        access = {"AWS_ACCESS_KEY_ID": os.environ["MINIO_ACCESS_KEY"], "AWS_REGION": "us-east-1"}
        access["AWS_SECRET_ACCESS_KEY"] = os.environ["MINIO_SECRET_KEY"]
        s5cmd = [os.environ["S5CMD"], "--endpoint-url", os.environ["MINIO_ENDPOINT"], "cp", source, str(scratch) + "/"]
        subprocess.run(s5cmd, env={**os.environ, **access}, check=True, stdout=subprocess.DEVNULL)
    with step("unpack"):
        archive = scratch / Path(name).name
        subprocess.run(["unzip", "-q", str(archive), "-d", str(folder)], check=True)
        archive.unlink()
    return folder


def fetching(scratch: Path, argument: dict[str, Any]) -> Callable[[], Any]:
    """Return the trainer's own function that fetches the dataset, in an attempt without callbacks."""
    import dataset
    from utils import Contract, Settings

    settings, problems = Settings.from_environ(os.environ)
    assert not problems, problems
    contract = Contract(settings, scratch)
    contract.storage.connect(settings.storage_type, os.environ)
    return partial(dataset.fetch, contract, **argument)


def ultralytics_batches(scratch: Path) -> Batches:
    """Return a function that builds ultralytics' datasets of train and val, as its trainer does, and loads a batch."""
    import yolo

    yolo.prepare(scratch)
    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_dataloader, build_yolo_dataset
    from ultralytics.data.utils import check_det_dataset

    def first_batch(data_yaml: Any) -> None:
        with step("scan"):
            data = check_det_dataset(str(data_yaml))
            config = get_cfg(overrides={"imgsz": IMAGE_SIZE, "task": "detect"})
            datasets = [
                build_yolo_dataset(config, data[split], BATCH, data, mode=split, rect=split == "val")
                for split in ("train", "val")
            ]
        with step("batch"):
            next(iter(build_dataloader(datasets[0], batch=BATCH, workers=0)))

    return first_batch


def timm_batches(_scratch: Path) -> Batches:
    """Return a function that builds timm's datasets of train and val, and loads a batch."""
    from timm.data import create_dataset, create_loader

    def first_batch(data: Any) -> None:
        with step("scan"):
            if WAY == "plain":
                train, _ = (create_dataset("", data, split=split) for split in ("train", "val"))
            else:
                import recipe

                train, _ = (recipe.ImageDataset(samples, data.levels, in_chans=3) for samples in (data.train, data.val))
        with step("batch"):
            size = (3, IMAGE_SIZE, IMAGE_SIZE)
            loader = create_loader(train, size, BATCH, is_training=True, num_workers=0, use_prefetcher=False)
            next(iter(loader))

    return first_batch


def main() -> None:
    """Go one way."""
    sys.path.insert(0, str(TRAINER))
    scratch = Path.cwd()
    is_yolo = TRAINER.name == "trainer-ultralytics"
    of_yolo = {"model": SimpleNamespace(task="detect"), "is_cached": WAY == "trainer"}
    argument = of_yolo if is_yolo else {"val_share": 0.2}
    take_batch: Batches = lambda _data: None  # noqa: E731 -- the default of a variable
    if WAY != "fetch":
        take_batch = (ultralytics_batches if is_yolo else timm_batches)(scratch)
    fetch = fetching(scratch, argument)
    output, sys.stdout = sys.stdout, sys.stderr
    memory, used = PeakMemory(), cpu_seconds()
    memory.start()
    with step("seconds"):
        if WAY == "plain":
            folder = plain_dataset(scratch)
            data: Any = folder / "data.yaml" if is_yolo else folder
        else:
            with step("fetch"):
                data, _report = fetch()
        take_batch(data)
    peak_bytes = memory.stop()
    output.write(json.dumps({**_seconds, "cpu": cpu_seconds() - used, "peak_bytes": peak_bytes}) + "\n")


if __name__ == "__main__":
    main()
