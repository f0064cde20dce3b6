"""A job's metrics as columns, thinned to a number of rows. Names of system metrics start with ``system/``."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple

#: rows that are held at a time: more are thinned while they are read
HELD = 40_000
_OWN = ("epoch", "step", "time")
_SYSTEM = "system/"


class Row(NamedTuple):
    """The metrics of one heartbeat."""

    attempt: int
    epoch: int | None
    step: int | None
    at: datetime
    metrics: Mapping[str, float]


def split(metrics: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the metrics of the model, and those of the machine."""
    system = {name: value for name, value in metrics.items() if name.startswith(_SYSTEM)}
    return {name: value for name, value in metrics.items() if name not in system}, system


def columns(rows: Iterable[Row], limit: int) -> dict[str, list[float | None]]:
    """Return ``epoch``, ``step``, ``time`` (seconds since 1970) and each metric as a column of at most ``limit`` rows.

    The first and last rows are kept, and those with a metric's minimum and maximum, which may be more than
    ``limit``. A metric that a row does not have is None. A metric called ``epoch`` becomes ``metric/epoch``.
    """
    chosen = thinned(_held(rows), limit)
    names = sorted({name for row in chosen for name in row.metrics})
    own: dict[str, list[float | None]] = {
        "epoch": [row.epoch for row in chosen],
        "step": [row.step for row in chosen],
        "time": [row.at.timestamp() for row in chosen],
    }
    return own | {
        f"metric/{name}" if name in _OWN else name: [row.metrics.get(name) for row in chosen] for name in names
    }


def _held(rows: Iterable[Row]) -> list[Row]:
    """Return the rows without the model's metrics that a later attempt has repeated from its checkpoint."""
    held: list[Row] = []
    attempt = 0
    for row in rows:
        if row.epoch is not None and row.attempt > attempt and not _is_load(row):
            attempt = row.attempt
            held = [one for one in held if _is_load(one) or (one.epoch or 0) < row.epoch]
        held.append(row)
        if len(held) > HELD:
            held = thinned(held, HELD // 4)  # of each kind
    return held


def thinned(rows: list[Row], limit: int) -> list[Row]:
    """Return at most ``limit`` rows, spread evenly, and the rows with the extremes of each metric.

    Rows with only system metrics (``system/``) are thinned separately, so that they displace no epoch.
    """
    if len(rows) <= limit:
        return rows
    load = [row for row in rows if _is_load(row)]
    if 0 < len(load) < len(rows):
        epochs = [row for row in rows if not _is_load(row)]
        return sorted([*thinned(epochs, limit), *thinned(load, limit)], key=attrgetter("at"))
    kept = {0, len(rows) - 1} | _extremes(rows)
    others = [number for number in range(len(rows)) if number not in kept]
    count = max(limit - len(kept), 0)
    kept |= {others[number * len(others) // count] for number in range(count)}
    return [rows[number] for number in sorted(kept)]


def _is_load(row: Row) -> bool:
    return all(name.startswith(_SYSTEM) for name in row.metrics)


def _extremes(rows: list[Row]) -> set[int]:
    lowest: dict[str, int] = {}
    highest: dict[str, int] = {}
    for number, row in enumerate(rows):
        for name, value in row.metrics.items():
            if name not in lowest or value < rows[lowest[name]].metrics[name]:
                lowest[name] = number
            if name not in highest or value > rows[highest[name]].metrics[name]:
                highest[name] = number
    return {*lowest.values(), *highest.values()}
