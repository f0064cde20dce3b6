"""What all benchmarks share: figures as ratios to a baseline of the same run, and one table of them at the end."""

import json
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest
from rich.console import Console
from rich.table import Table

from tests.conftest import ROOT

RESULTS = ROOT / ".stoker/bench.json"


class Figure(NamedTuple):
    """One thing measured beside its baseline, turn by turn; the same place in both lists is the same turn."""

    name: str
    baseline: str
    unit: str
    values: list[float]
    baseline_values: list[float]

    @property
    def ratios(self) -> list[float]:
        """Return value over baseline of each turn."""
        return [value / base for value, base in zip(self.values, self.baseline_values, strict=True)]


_FIGURES: list[Figure] = []


@pytest.fixture
def report() -> Callable[[Figure], None]:
    """Take a figure for the table at the end."""
    return _FIGURES.append


def pytest_terminal_summary() -> None:
    """Print the table, and keep it as JSON."""
    if not _FIGURES:
        return
    table = Table("what", "median", "baseline", "median", "ratio", "quartiles", "turns")
    for figure in _FIGURES:
        low, middle, high = statistics.quantiles(figure.ratios, n=4)
        table.add_row(
            figure.name,
            f"{statistics.median(figure.values):.4g} {figure.unit}",
            figure.baseline,
            f"{statistics.median(figure.baseline_values):.4g} {figure.unit}",
            f"{middle:.2f}",
            f"{low:.2f}-{high:.2f}",
            str(len(figure.values)),
        )
    Console(width=140).print(table)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([figure._asdict() for figure in _FIGURES], indent=1))


def by_turns(turns: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Measure one after the other, again and again, so that whatever slows the machine down slows all of them down."""
    rounds = [[measure() for measure in measures] for _ in range(turns)]
    return [list(column) for column in zip(*rounds, strict=True)]


def seconds_to(answer: Callable[[], bool], *, within: float = 60) -> float:
    """Return how long it takes until an attempt succeeds."""
    began = time.perf_counter()
    while not answer():
        assert time.perf_counter() - began < within, f"no answer within {within} s"
    return time.perf_counter() - began
