"""Metrics as columns: thinned without losing first, last and extremes, and without what a later attempt repeated."""

import random
from datetime import timedelta

import pytest

from functions.domain import curves
from functions.domain.curves import Row
from tests.conftest import NOW


def row(number: int, attempt: int = 1, **metrics: float) -> Row:
    return Row(attempt, number, number * 10, NOW + timedelta(seconds=number), metrics)


def test_few_rows_stay_as_they_are_with_none_where_a_metric_is_missing() -> None:
    columns = curves.columns([row(1, loss=0.5), row(2, loss=0.25, acc=1.0)], 10)

    assert columns == {
        "epoch": [1, 2],
        "step": [10, 20],
        "time": [NOW.timestamp() + 1, NOW.timestamp() + 2],
        "acc": [None, 1.0],
        "loss": [0.5, 0.25],
    }


@pytest.mark.parametrize("count", [101, 1_000, 45_000])
def test_many_rows_are_thinned_and_keep_first_last_and_extremes(count: int) -> None:
    values = [random.Random(number).random() for number in range(count)]
    values[count // 3], values[count // 2] = 9.0, -9.0
    columns = curves.columns([row(number, a=value, b=-value) for number, value in enumerate(values)], 100)

    assert len(columns["a"]) == 100
    assert (columns["epoch"][0], columns["epoch"][-1]) == (0, count - 1)
    assert {9.0, -9.0} <= set(columns["a"])
    gaps = [later - earlier for earlier, later in zip(columns["epoch"], columns["epoch"][1:], strict=False)]  # type: ignore[operator]
    assert max(gaps) <= 4 * count / 100


def test_more_extremes_than_points_all_stay() -> None:
    rows = [row(number)._replace(metrics={f"m{number}": 1.0}) for number in range(50)]

    assert len(curves.columns(rows, 10)["epoch"]) == 50


def test_epochs_that_a_later_attempt_repeats_are_shown_once() -> None:
    rows = [row(1, loss=1), row(2, loss=2), row(3, loss=3), row(2, attempt=2, loss=4), row(3, attempt=2, loss=5)]

    assert curves.columns(rows, 10)["loss"] == [1, 4, 5]


def test_rows_about_the_machine_stay_beside_epochs_that_are_shown_once() -> None:
    load = {"system/cpu_percent": 50.0}
    rows = [
        row(1, loss=1),
        row(2, loss=2),
        Row(1, 2, 25, NOW + timedelta(seconds=3), load),
        Row(2, None, None, NOW + timedelta(seconds=4), load),  # the next attempt, before its first epoch
        Row(2, 1, None, NOW + timedelta(seconds=5), load),
        row(2, attempt=2, loss=4),
    ]
    columns = curves.columns(rows, 10)

    assert columns["loss"] == [1, None, None, None, 4]
    assert columns["system/cpu_percent"] == [None, 50, 50, 50, None]


def test_the_load_of_the_machine_that_a_new_attempt_reports_first_displaces_nothing() -> None:
    load = row(0, attempt=2)._replace(epoch=None, step=None, metrics={"system/cpu_percent": 50.0})
    rows = [row(1, loss=1), row(2, loss=2), row(3, loss=3), load, row(3, attempt=2, loss=5)]

    assert curves.columns(rows, 10)["loss"] == [1, 2, None, 5]


def test_the_load_of_the_machine_is_thinned_apart_from_the_epochs() -> None:
    epochs = [row(number * 100, loss=1.0) for number in range(50)]
    load = [row(number)._replace(metrics={"system/cpu_percent": 50.0}) for number in range(5_000)]
    columns = curves.columns(sorted([*epochs, *load], key=lambda one: one.at), 60)

    assert (sum(value is not None for value in columns["loss"]), len(columns["loss"])) == (50, 110)
    assert columns["time"] == sorted(columns["time"])  # type: ignore[type-var]


def test_a_metric_with_the_name_of_a_column_is_renamed() -> None:
    assert curves.columns([row(1, epoch=7, loss=1)], 10).keys() == {"epoch", "step", "time", "metric/epoch", "loss"}
