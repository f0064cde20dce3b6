"""The report of a dataset: its content, the files left out with reasons, and the guesses. Stored as dataset.json."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from dataset.limits import share
from utils import Contract, DatasetInvalidError, StorageError

FILE = "dataset.json"
MESSAGE_LIMIT, FILES_LIMIT, NAMED = 500, 1_000, 3
_PLURAL = re.compile(r"\b(file|image|annotation|label|object)s\b")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass
class Split:
    """What train or val holds; None: the task has no such thing."""

    images: int = 0
    objects: int | None = None
    background: int | None = None
    classes: dict[str, int] = field(default_factory=dict)


@dataclass
class Problem:
    """Files or facts of one kind; the kind is a short plural, such as "broken images"."""

    kind: str
    count: int = 0
    refused: bool = False
    files: list[dict[str, str]] = field(default_factory=list)

    def described(self, most: int = NAMED, *, is_brief: bool = False) -> str:
        """Return the count, the kind and the first few names; in brief without reasons and a kind's advice."""
        named = [file["file"] if is_brief else f"{file['file']}: {file['reason']}" for file in self.files[:most]]
        names = ", ".join(named + ["…"] * (self.count > len(named)))
        kind = self.kind.partition(":")[0] if is_brief else self.kind  # advice follows a colon
        text = counted(self.count, kind)
        return f"{text} ({names})" if named else text


def counted(count: int, kind: str) -> str:
    """Return a number with what it counts: ``1 broken image``, ``2 broken images``."""
    return f"{count} {kind if count != 1 else _PLURAL.sub(lambda word: word[1], kind, count=1)}"


class Report:
    """Filled while a dataset is read, by one thread; ``check`` refuses the dataset when all of it is known."""

    def __init__(self, dataset: str = "", framework: str = "", task: str = "") -> None:
        self.dataset, self.framework, self.task, self.format = dataset, framework, task, ""
        self.bytes = self.files = 0
        self.classes: list[str] = []
        self.splits: dict[str, Split] = {}
        self.duplicates: list[dict[str, str]] = []
        self.duplicate_count = 0
        self.classes_in_one_split: dict[str, list[str]] = {}
        self.skipped = Counter[str]()  # files that are no data, by suffix
        self.skipped_names: list[str] = []
        self.guesses: list[dict[str, str]] = []
        self.problems: dict[str, Problem] = {}
        self.refusals: list[str] = []
        self._sizes = Counter[tuple[int, int]]()
        self._broken = set[str]()
        self._labels = set[str]()  # of these, those whose image can be used

    def image_size(self, width: int, height: int) -> None:
        """Count an image that can be used."""
        self._sizes[width, height] += 1

    def problem(self, kind: str, file: str, reason: str) -> None:
        """Leave a broken image out, or another file; ``check`` refuses the dataset if there are too many."""
        self._broken.add(file)
        self.skip(kind, file, reason)

    def label_problem(self, kind: str, file: str, reason: str) -> None:
        """Leave an image out because of its labels, which are in this file."""
        self._labels.add(file)
        self.problem(kind, file, reason)

    def skip(self, kind: str, file: str, reason: str) -> None:
        """Leave out a file that does not count as broken, such as one that is in no class folder."""
        problem = self.problems.setdefault(kind, Problem(kind))
        problem.count += 1
        if len(problem.files) < FILES_LIMIT:
            problem.files.append({"file": file, "reason": plain(reason)})

    def guess(self, kind: str, message: str) -> None:
        """Record a guess, such as an encoding: each guess is also a warning event."""
        if {"kind": kind, "message": plain(message)} not in self.guesses:
            self.guesses.append({"kind": kind, "message": plain(message)})

    def refuse(self, kind: str, reason: str, file: str = "") -> None:
        """Note why the dataset cannot be used; reading continues, and ``check`` raises."""
        self.refusals.append(plain(f"{file}: {reason}" if file else reason))
        problem = self.problems.setdefault(kind, Problem(kind))
        problem.count, problem.refused = problem.count + 1, True
        if len(problem.files) < FILES_LIMIT:
            problem.files.append({"file": file, "reason": plain(reason)})

    def skip_other(self, path: PurePosixPath) -> None:
        """Count a file that is no data of a dataset, such as a README."""
        self.skipped[path.suffix.lower()] += 1
        if len(self.skipped_names) < FILES_LIMIT:
            self.skipped_names.append(path.name)

    @property
    def left_out(self) -> int:
        """How many files were left out."""
        return sum(problem.count for problem in self.problems.values() if not problem.refused)

    def check(self) -> None:
        """Refuse the dataset if a refusal was noted, or if too much of it is broken.

        Raises:
            DatasetInvalidError: the message has the reasons, the counts by kind and the first few names.
        """
        if self.refusals or self._is_too_broken():
            raise DatasetInvalidError(self.message)

    def _is_too_broken(self) -> bool:
        return len(self._broken) > self._tolerated

    @property
    def _tolerated(self) -> int:
        return max(1, int(share("DATASET_BROKEN_SHARE") * self._items))

    @property
    def _items(self) -> int:
        return sum(self._sizes.values()) + len(self._broken - self._labels)

    @property
    def message(self) -> str:
        """The refusals, and what was left out by kind, in at most 500 characters."""
        left_out = [problem for problem in self.problems.values() if not problem.refused]
        count = f"{len(self._broken)} of {self._items} are broken"
        broken = f"{count}: repair or remove them (the operator's DATASET_BROKEN_SHARE allows {self._tolerated})"
        first = [*self.refusals, *([broken] if self._is_too_broken() else [])]
        for most, is_brief in ((NAMED, False), (2, False), (1, False), (1, True), (0, False), (0, True)):
            # Fewer names, rather than fewer kinds.
            text = "; ".join([*first, *(problem.described(most, is_brief=is_brief) for problem in left_out)])
            message = f"{self.dataset}: {text}" if text and self.dataset else text
            if len(message) <= MESSAGE_LIMIT:
                break
        return shortened(message)

    def as_json(self) -> dict[str, Any]:
        """Return the report as it is stored."""
        sizes = sorted(self._sizes.elements(), key=lambda size: size[0] * size[1])
        return {
            "dataset": self.dataset,
            "framework": self.framework,
            "task": self.task,
            "format": self.format,
            "usable": not self.refusals and not self._is_too_broken(),
            "message": self.message,
            "bytes": self.bytes,
            "files": self.files,
            "classes": self.classes,
            "splits": {name: _present(asdict(split)) for name, split in self.splits.items()},
            "image_sizes": {"smallest": sizes[0], "median": sizes[len(sizes) // 2], "largest": sizes[-1]}
            if sizes
            else {},
            "guesses": self.guesses,
            "problems": [asdict(problem) for problem in self.problems.values()],
            "left_out": self.left_out,
            "skipped": dict(self.skipped),
            "duplicates": self.duplicates,
            "duplicate_count": self.duplicate_count,
            "classes_in_one_split": self.classes_in_one_split,
        }

    def write(self, path: Path) -> Path:
        """Write the report as JSON."""
        path.write_text(json.dumps(self.as_json(), ensure_ascii=False, indent=1), encoding="utf-8")
        return path


@contextmanager
def reporting(contract: Contract, framework: str, task: str) -> Iterator[Report]:
    """Yield the report of the job's dataset; send its guesses, and store it also if the dataset is refused."""
    report = Report(f"{contract.settings.dataset_id}.zip", framework, task)
    try:
        yield report
        report.check()
    except DatasetInvalidError as error:
        if str(error) != report.message:
            report.refuse("unusable", str(error))
        _send(contract, report)
        raise DatasetInvalidError(report.message) from error
    _send(contract, report)
    if report.left_out:
        contract.warn_once(shortened(f"left out: {report.message}"))


def _send(contract: Contract, report: Report) -> None:
    for guess in report.guesses:
        contract.warn_once(guess["message"])
    if report.skipped:
        kinds = [f"{count} {suffix or 'without a suffix'}" for suffix, count in report.skipped.most_common()]
        contract.event("log", f"files that are no data of the dataset were skipped: {listed(kinds, 8)}")
    with suppress(StorageError):  # a report that cannot be stored ends no training, nor hides a refusal
        contract.save_result(report.write(contract.scratch / FILE))


def plain(text: str) -> str:
    """Return text in one line without control characters, such as a library's colours."""
    words = " ".join(_ESCAPES.sub("", text).split())
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words)


def shortened(text: str) -> str:
    """Return a message of at most 500 characters."""
    return text if len(text) <= MESSAGE_LIMIT else f"{text[: MESSAGE_LIMIT - 1]}…"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first few names, for a message."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
