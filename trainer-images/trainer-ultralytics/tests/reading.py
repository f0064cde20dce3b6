"""Read a dataset as the trainer does, without a job, and return what ultralytics would get."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

import dataset
from dataset import yolo
from dataset.images import inspect_unpacked
from dataset.report import Report

Files = dict[str, bytes]
LINE = b"0 0.5 0.5 0.2 0.2\n"


@dataclass
class Read:
    """What was read."""

    root: Path
    path: Path
    report: Report

    @property
    def data(self) -> dict[str, Any]:
        """The YAML file that ultralytics gets."""
        return dict(yaml.safe_load(self.path.read_text(encoding="utf-8")))

    @property
    def names(self) -> list[str]:
        """The classes."""
        return list(self.data["names"].values())

    def images(self, split: str) -> list[str]:
        """The images of a split, by their names in the archive."""
        lines = Path(self.data[split]).read_text(encoding="utf-8").splitlines()
        return [str(Path(line).relative_to(self.root)) for line in lines]

    def rows(self, image: str) -> list[list[float]]:
        """The labels of an image, where ultralytics looks for them."""
        from ultralytics.data.utils import img2label_paths

        text = Path(img2label_paths([str(self.root / image)])[0]).read_text(encoding="utf-8")
        return [[float(word) for word in line.split()] for line in text.splitlines() if line.strip()]

    @property
    def guesses(self) -> str:
        """All that was guessed."""
        return "\n".join(guess["message"] for guess in self.report.guesses)


def read(folder: Path, files: Files, task: str = "detect", *, seed: int = 0, is_cached: bool = False) -> Read:
    """Read a dataset with the inspections of its images that unpacking returns. Raises: DatasetInvalidError."""
    root, report = folder / "dataset", Report("cats.zip", "ultralytics", task)
    root.mkdir(parents=True, exist_ok=True)
    known = {}
    for name, content in files.items():
        if yolo.is_wanted(PurePosixPath(name)):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
            known[name] = inspect_unpacked(name, content, dataset.rules())
        else:
            report.skip_other(PurePosixPath(name))
    inspected = {name: image for name, image in known.items() if image}
    path = dataset.read(root, report, lambda: None, task=task, seed=seed, known=inspected, is_cached=is_cached)
    return Read(root, path, report)
