"""Tables of the page, cut where they would be long."""

from collections.abc import Mapping
from typing import Any, NamedTuple

LABELS, PAIRS, CLASSES, EPOCHS = 30, 12, 60, 40  # rows that are shown
_COLUMNS = (
    *(("images", "images"), ("instances", "objects"), ("precision", "precision"), ("recall", "recall"), ("f1", "F1")),
    *(("ap50", "AP50"), ("ap", "AP50-95")),
)


class Cell(NamedTuple):
    """A cell: its text, and how strongly it is shaded, from 0 to 1."""

    text: str
    shade: float = 0.0


class Table(NamedTuple):
    """A table: the first cell of a row is its header. The note says what was cut."""

    columns: list[str]
    rows: list[tuple[str, list[Cell]]]
    note: str = ""


def confusion(matrix: Mapping[str, Any] | None) -> Table | None:
    """Return the confusion matrix, shaded by the share of its row; None if it has too many labels."""
    if not matrix or len(matrix["labels"]) > LABELS:
        return None
    rows = []
    for label, counts in zip(matrix["labels"], matrix["counts"], strict=True):
        total = sum(counts)
        rows.append((label, [Cell(str(count) if count else "", count / total if total else 0) for count in counts]))
    return Table(list(matrix["labels"]), rows)


def mistakes(matrix: Mapping[str, Any] | None) -> Table | None:
    """Return the most frequent confusions between classes; None if there are none."""
    if not matrix:
        return None
    labels, counts = matrix["labels"], matrix["counts"]
    pairs = [
        (count, sum(counts[row]), row, column)
        for row in range(len(labels))
        for column, count in enumerate(counts[row])
        if count and row != column
    ]
    pairs.sort(key=lambda pair: (-pair[0], pair[2], pair[3]))
    rows = [
        (labels[row], [Cell(labels[column]), Cell(str(count)), Cell(f"{count / total:.0%}", count / total)])
        for count, total, row, column in pairs[:PAIRS]
    ]
    cut = f"the {PAIRS} most frequent of {len(pairs)} kinds of mistakes" if len(pairs) > PAIRS else ""
    left_out = matrix.get("left_out")
    cut += f"{'; ' if cut else ''}{left_out} classes with fewer mistakes are not counted" if left_out else ""
    return Table(["label", "prediction", "count", "share of the label"], rows, cut) if rows else None


def per_class(rows: list[Mapping[str, Any]] | None) -> Table | None:
    """Return the results by class: all, or those that are worst."""
    if not rows:
        return None
    columns = [(key, title) for key, title in _COLUMNS if any(key in row for row in rows)]
    shown, note = rows, ""
    if len(rows) > CLASSES:
        kept = sorted(range(len(rows)), key=lambda number: _score(rows[number]))[:CLASSES]
        shown = [rows[number] for number in sorted(kept)]
        note = f"the {CLASSES} classes with the lowest F1 of {len(rows)}; report.json has all"
    return Table(
        ["class", *(title for _, title in columns)],
        [(row["name"], [_cell(row.get(key)) for key, _ in columns]) for row in shown],
        note,
    )


def _score(row: Mapping[str, Any]) -> float:
    score = row.get("f1")
    return 2.0 if score is None else float(score)  # a class without images comes last


def _cell(value: Any) -> Cell:
    if value is None:
        return Cell("")
    return Cell(str(value)) if isinstance(value, int) else Cell(f"{value:.3f}", float(value))


def epochs(history: list[dict[str, float]]) -> Table | None:
    """Return the metrics of all epochs, or of evenly spaced ones."""
    if not history:
        return None
    names = [name for name in history[0] if name != "epoch"]
    step = -(-len(history) // EPOCHS)
    shown = history[:: step or 1]
    shown += [history[-1]] if shown[-1] is not history[-1] else []
    note = f"{len(shown)} of {len(history)} epochs; metrics.csv has all" if step > 1 else ""
    rows = [(f"{row['epoch']:g}", [Cell(f"{row[name]:.4g}" if name in row else "") for name in names]) for row in shown]
    return Table(["epoch", *names], rows, note)
