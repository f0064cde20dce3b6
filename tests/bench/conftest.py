"""Shared by all benchmarks: figures as ratios to a baseline of the same run, and one table at the end."""

import os
import statistics
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import pytest

from tests.conftest import ROOT, forget

T = TypeVar("T")
TABLE = ROOT / ".stoker/bench.md"
#: a short run of a few minutes; docs/PERFORMANCE.md has the figures of full runs
QUICK = bool(os.environ.get("QUICK"))


class Figure(NamedTuple):
    """A measurement and its baseline, turn by turn; equal indexes in both lists are the same turn."""

    name: str
    baseline: str
    unit: str
    values: list[float]
    baseline_values: list[float]
    #: such as "<= 1.1"; empty if there is none
    goal: str = ""

    @property
    def ratios(self) -> list[float]:
        """Return the ratio to the baseline of each turn."""
        return [value / base for value, base in zip(self.values, self.baseline_values, strict=True)]


_FIGURES: list[Figure] = []


@pytest.fixture
def report() -> Callable[[Figure], None]:
    """Return a function that adds a figure to the table at the end."""
    return _FIGURES.append


@pytest.fixture
def store_of(environment: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that switches this process to another store."""

    def use(url: str) -> None:
        environment.setenv("DATABASE_URL", url)
        forget()

    return use


def pytest_terminal_summary() -> None:
    """Print the table of this run as Markdown, and save it for ``publish.py``."""
    if _FIGURES:
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(markdown(_FIGURES))
        print(f"\n{TABLE.read_text()}")


def markdown(figures: Iterable[Figure]) -> str:
    """Return figures as a table; a ratio is the median of the turns, with the quartiles beside it."""
    head = ["what", "median", "baseline", "median", "ratio", "quartiles", "turns", "goal", "measured"]
    # The load shows whether the machine was busy.
    measured = f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, load {os.getloadavg()[2]:.1f}"
    rows = [head, ["---"] * len(head)]
    for figure in figures:
        low, middle, high = statistics.quantiles(figure.ratios, n=4)
        rows.append([
            figure.name,
            f"{statistics.median(figure.values):.4g} {figure.unit}",
            figure.baseline,
            f"{statistics.median(figure.baseline_values):.4g} {figure.unit}",
            f"{middle:.2f}",
            f"{low:.2f} to {high:.2f}",
            str(len(figure.values)),
            figure.goal,
            measured,
        ])  # fmt: skip
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def by_turns(turns: int, *measures: Callable[[], T]) -> list[list[T]]:
    """Measure one after the other, again and again, so that whatever slows the machine down slows all of them down.

    Every other turn goes the other way round: the second one finds warm caches and busy disks.
    """
    rounds: list[list[T]] = []
    for turn in range(turns):
        order = range(len(measures)) if turn % 2 == 0 else range(len(measures) - 1, -1, -1)
        taken = {place: measures[place]() for place in order}
        rounds.append([taken[place] for place in range(len(measures))])
    return [list(column) for column in zip(*rounds, strict=True)]


def seconds_to(answer: Callable[[], bool], *, within: float = 60) -> float:
    """Return the seconds until an attempt succeeds."""
    began = time.perf_counter()
    while not answer():
        assert time.perf_counter() - began < within, f"no answer within {within} s"
    return time.perf_counter() - began


def seconds_of(call: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
