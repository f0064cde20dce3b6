"""Print for people and for scripts: JSON with a stable key order, tables that fit the terminal, colours."""

import json
import math
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from shutil import get_terminal_size
from typing import Any, NamedTuple, TextIO

import typer
from rich.cells import cell_len, set_cell_size

STATE_COLOURS = {
    "SUCCEEDED": "green",
    "RUNNING": "cyan",
    "FAILED": "red",
    "CANCELLED": "yellow",
    "PENDING": "bright_black",
    "QUEUED": "bright_black",
}
_GAP = "  "
#: a column is cut this short at most: one of names, which are told apart also by their ends, of states, or of others
_SHORTEST_NAME, _SHORTEST_STATE, _SHORTEST = 8, 9, 12


class Column(NamedTuple):
    """A column of a table."""

    header: str
    #: when the terminal is too narrow, columns are left out from the highest number on; 0: never
    optional: int = 0
    #: columns that may be cut, with an ellipsis, before others are left out
    is_flexible: bool = False
    #: a flexible column of names, which are cut in the middle
    is_name: bool = False
    #: whether a row's first word selects the colour of the cell
    is_state: bool = False
    is_number: bool = False
    #: whether a long text is wrapped instead of cut
    is_wrapped: bool = False


def print_json(value: Any) -> None:
    """Print a value as JSON: indented on a terminal, on one line otherwise, keys always in the same order."""
    print(to_json(value, indent=2 if sys.stdout.isatty() else None), flush=True)


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON with sorted keys."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, indent=indent)


def print_error(line: str, problem: dict[str, Any] | None = None, *, as_json: bool = False) -> None:
    """Print an error as one line, or as JSON for scripts."""
    if as_json:
        print(to_json(problem or {"title": "error", "detail": line}))
    else:
        print(f"{styled('stoker:', 'red', sys.stderr)} {line}", file=sys.stderr)


def note(line: str) -> None:
    """Print a note that is not part of the result."""
    print(line, file=sys.stderr, flush=True)


def has_colours(stream: TextIO | None = None) -> bool:
    """Return whether colours may be printed (https://no-color.org)."""
    stream = stream or sys.stdout
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, colour: str, stream: TextIO | None = None) -> str:
    """Return text in a colour, where colours may be printed."""
    return typer.style(text, fg=colour) if has_colours(stream) else text


def width() -> int | None:
    """Return the terminal's width; None if the output is no terminal, so that scripts get complete values."""
    return get_terminal_size().columns if sys.stdout.isatty() else None


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print rows as a table that fits the terminal."""
    for line in table(columns, list(rows), width()):
        typer.echo(line, color=has_colours())


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], limit: int | None = None) -> list[str]:
    """Return rows as aligned lines of at most ``limit`` cells.

    Empty columns are left out. If the lines are too long, flexible columns are cut, then optional ones are left out.
    """
    shown = [number for number, column in enumerate(columns) if not rows or any(row[number] for row in rows)]
    natural = {number: max(cell_len(row[number]) for row in [[c.header for c in columns], *rows]) for number in shown}
    widths = _fitted(columns, shown, natural, limit)
    lines = [_line(columns, [column.header for column in columns], widths, is_header=True)]
    return lines + [_line(columns, part, widths) for row in rows for part in _wrapped(columns, row, widths)]


def _wrapped(columns: Sequence[Column], row: Sequence[str], widths: dict[int, int]) -> Iterator[Sequence[str]]:
    """Yield a row as one or more: after the first, only wrapped columns have text."""
    parts = {
        number: textwrap.wrap(row[number], cells_wide)
        for number, cells_wide in widths.items()
        if columns[number].is_wrapped
    }
    yield [parts[number][0] if parts.get(number) else text for number, text in enumerate(row)]
    for line in range(1, max(map(len, parts.values()), default=0)):
        yield [parts[number][line] if line < len(parts.get(number, ())) else "" for number in range(len(row))]


def _fitted(columns: Sequence[Column], shown: list[int], natural: dict[int, int], limit: int | None) -> dict[int, int]:
    """Return the widths of the columns that are shown."""
    if limit is None:
        return natural
    while True:
        widths = {number: natural[number] for number in shown}
        excess = sum(widths.values()) + len(_GAP) * (len(widths) - 1) - limit
        least = {number: _shortest(columns[number]) for number in shown}
        while excess > 0 and (flexible := [number for number in shown if widths[number] > least[number]]):
            widths[max(flexible, key=lambda n: widths[n])] -= 1
            excess -= 1
        optional = [number for number in shown if columns[number].optional]
        if excess <= 0 or not optional:
            return widths
        shown = [number for number in shown if number != max(optional, key=lambda n: columns[n].optional)]


def _shortest(column: Column) -> float:
    """Return the minimum width of a column."""
    if column.is_name:
        return _SHORTEST_NAME
    if not column.is_flexible:
        return math.inf
    return _SHORTEST_STATE if column.is_state else _SHORTEST


def _line(columns: Sequence[Column], row: Sequence[str], widths: dict[int, int], *, is_header: bool = False) -> str:
    cells = []
    for number, cells_wide in widths.items():
        text = fit(row[number], cells_wide, is_name=columns[number].is_name and not is_header)
        padded = text.rjust(cells_wide) if columns[number].is_number else set_cell_size(text, cells_wide)
        if is_header:
            padded = styled(padded, "bright_black")
        elif columns[number].is_state:
            padded = styled(padded, STATE_COLOURS.get(row[number].partition(" ")[0], "white"))
        cells.append(padded)
    return _GAP.join(cells).rstrip()


def fit(text: str, cells: int, *, is_name: bool = False) -> str:
    """Return text cut to a number of terminal cells, with an ellipsis where something is missing: its end or middle."""
    if cell_len(text) <= cells:
        return text
    end = _end(text, (cells - 1) // 2) if is_name else ""
    return set_cell_size(text, cells - 1 - cell_len(end)).rstrip() + "…" + end


def _end(text: str, cells: int) -> str:
    """Return the end of a text, of at most so many cells."""
    return next(text[start:] for start in range(len(text) + 1) if cell_len(text[start:]) <= cells)
