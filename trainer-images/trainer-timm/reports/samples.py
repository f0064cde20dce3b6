"""Samples: predictions on the same few validation images, stored while the model learns."""

import json
import logging
import queue
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image

from reports.content import plain
from reports.previews import jpeg
from utils import Contract, Stopped, StorageError

IMAGES, STEPS = 16, 10  # the epochs with samples: the first, each tenth of all, and the last
COST_SHARE, FREE_SECONDS = 0.02, 1.0  # of the training's time, and what is never too much
END_SECONDS = 60.0  # how long the end of a training waits for the samples to be stored
log = logging.getLogger("samples")
Epoch = dict[str, Any]  # the content of samples/epoch-0005.json


class SampleImage(NamedTuple):
    """A validation image: its name in the dataset, its pixels in RGB, and its labels as in a sample's ``truth``."""

    name: str
    image: Image.Image
    truth: list[dict[str, Any]]


class Source(Protocol):
    """What only a trainer knows."""

    def images(self) -> list[SampleImage]:
        """Return the images, the same ones for the same seed."""

    def predictions(self) -> list[list[dict[str, Any]]]:
        """Return the current model's predictions on each of the images."""


class Samples:
    """The samples of a training. ``take`` raises nothing but Stopped, and draws no random number."""

    def __init__(
        self, contract: Contract, new_source: Callable[[], Source], *, task: str, classes: Sequence[str], epochs: int
    ) -> None:
        self._contract, self._new_source = contract, new_source
        self._source: Source | None = None
        self._head = {"task": task, "classes": list(classes)}
        self._epochs = due_epochs(epochs)
        self._images: list[dict[str, Any]] = []
        self._folder = contract.scratch / "samples"
        self._storing = Storing(contract)
        self._began, self._spent_seconds = time.monotonic(), 0.0

    def take(self, epoch: int, *, is_last: bool) -> None:
        """Store the predictions after an epoch (from 1), if they are due and time allows."""
        is_wanted = is_last or epoch == 1 or (epoch in self._epochs and self._is_affordable())
        if not is_wanted:
            return
        began = time.monotonic()
        try:
            with unchanged_randomness():
                self._take(epoch)
        except Exception as error:
            log.exception("there are no samples of epoch %d", epoch)
            self._contract.warn_once(f"there are no samples of epoch {epoch}: {type(error).__name__}: {error}")
        self._spent_seconds += time.monotonic() - began
        self._contract.check()

    def _is_affordable(self) -> bool:
        elapsed = time.monotonic() - self._began
        return self._spent_seconds < max(FREE_SECONDS, COST_SHARE * elapsed)

    def _take(self, epoch: int) -> None:
        self._source = self._source or self._new_source()
        self._images = self._images or self._write_images(self._source)
        predictions = self._source.predictions()
        images = [image | {"predictions": own} for image, own in zip(self._images, predictions, strict=True)]
        name = file_name(epoch)
        path = self._folder.parent / name
        content = plain({"version": 1, "epoch": epoch, **self._head, "images": images})
        path.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        self._storing.add(path, name)

    def _write_images(self, source: Source) -> list[dict[str, Any]]:
        (self._folder / "images").mkdir(parents=True, exist_ok=True)
        written = []
        for number, (name, image, truth) in enumerate(source.images()):
            file = f"samples/images/{number:03}.jpg"
            path = self._folder.parent / file
            path.write_bytes(jpeg(image))
            with Image.open(path) as small:
                width, height = small.size
            written.append({"file": file, "name": name, "width": width, "height": height, "truth": truth})
            self._storing.add(path, file)
        return written

    def finish(self) -> None:
        """Wait until all are stored, a minute at most."""
        self._storing.wait(END_SECONDS)


def of_all_attempts(contract: Contract) -> list[Epoch]:
    """Return the samples of this attempt and of earlier ones, by epoch; all files of the last ones are in scratch.

    Raises:
        StorageError: those of an earlier attempt could not be downloaded.
    """
    paths = sorted((contract.scratch / "samples").glob("epoch-*.json"))
    own = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    first = own[0]["epoch"] if own else contract.settings.epochs + 1
    earlier = []
    for epoch in sorted(due_epochs(contract.settings.epochs)):
        path = contract.scratch / file_name(epoch)
        if epoch < first and contract.download(contract.key("results", file_name(epoch)), path):
            earlier.append(json.loads(path.read_text(encoding="utf-8")))
    epochs = [*earlier, *own]
    for image in epochs[-1]["images"] if epochs else ():
        path = contract.scratch / image["file"]
        if not path.exists():
            contract.download(contract.key("results", image["file"]), path)
    return epochs


def due_epochs(epochs: int) -> set[int]:
    """Return the epochs with samples, from 1: the first, about each tenth of all, and the last; at most 12."""
    step = -(-epochs // STEPS)
    return {1, *range(step, epochs + 1, step), epochs}


def file_name(epoch: int) -> str:
    """Return the name of the samples of an epoch among the results of the job."""
    return f"samples/epoch-{epoch:04}.json"


def chosen(classes: Sequence[Collection[int]], seed: int, most: int = IMAGES) -> list[int]:
    """Return the images to show by the classes of each: one per class in turn; images without a class come last."""
    randomness = random.Random(seed)  # noqa: S311 -- a reproducible choice
    order = list(range(len(classes)))
    randomness.shuffle(order)
    by_class = defaultdict[int, list[int]](list)
    for index in reversed(order):
        for number in set(classes[index]):
            by_class[number].append(index)
    numbers = sorted(by_class)
    randomness.shuffle(numbers)
    picked: dict[int, None] = {}
    while len(picked) < most and any(by_class.values()):
        for number in numbers:
            left = by_class[number]
            while left and left[-1] in picked:
                left.pop()
            if left and len(picked) < most:
                picked[left.pop()] = None
    picked |= dict.fromkeys([index for index in order if not classes[index]][: most - len(picked)])
    return sorted(picked)


@contextmanager
def unchanged_randomness() -> Iterator[None]:
    """Restore the random state of Python, numpy and torch at the end."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 -- frameworks draw from the global generator
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002 -- as above


class Storing:
    """Stores files one after another while the training continues; a file that cannot be stored is a warning."""

    def __init__(self, contract: Contract) -> None:
        self._contract, self._is_over = contract, False
        self._files: queue.Queue[tuple[Path, str]] = queue.Queue()
        threading.Thread(target=self._store_all, name="samples", daemon=True).start()

    def add(self, path: Path, name: str) -> None:
        """Store a file among the job's results soon."""
        self._files.put((path, name))

    def wait(self, seconds: float) -> None:
        """Wait until all files are stored, and give up those that take longer."""
        with self._files.all_tasks_done:
            is_done = self._files.all_tasks_done.wait_for(lambda: not self._files.unfinished_tasks, seconds)
        self._is_over = True
        if not is_done:
            self._contract.warn_once("some samples were not stored: the storage is too slow")

    def _store_all(self) -> None:
        while True:
            path, name = self._files.get()
            try:
                if not (self._is_over or self._contract.is_stopped):
                    self._contract.save_result(path, name)
            except Stopped:  # the main thread raises it, too
                pass
            except (StorageError, OSError) as error:
                self._contract.warn_once(f"{name} was not stored: {error}")
            finally:
                self._files.task_done()
