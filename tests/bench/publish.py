"""Put the last run's table and chart into docs/PERFORMANCE.md: ``python tests/bench/publish.py``.

With ``--merge``, rows that the run has not measured stay: after a run of some of the benchmarks.
"""

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[2]
PAGE, PLOT, TABLE = ROOT / "docs/PERFORMANCE.md", ROOT / "docs/bench.png", ROOT / ".stoker/bench.md"
BEGIN, END = "<!-- bench: written by ./taskw bench -->\n", "<!-- bench: end -->\n"
_ROW_INCHES = 0.28
#: columns of the table
WHAT, BASELINE, RATIO, QUARTILES, GOAL = 0, 2, 4, 5, 7


def main() -> None:
    """Publish the saved table."""
    head, _, rest = PAGE.read_text().partition(BEGIN)
    old, _, tail = rest.partition(END)
    lines = TABLE.read_text().splitlines()
    rows = rows_by_name(lines)
    if "--merge" in sys.argv:
        rows = rows_by_name(old.splitlines()) | rows
    draw([cells(row) for row in rows.values()])
    PAGE.write_text(head + BEGIN + "\n".join([*lines[:2], *rows.values(), END]) + tail)


def rows_by_name(lines: list[str]) -> dict[str, str]:
    """Return a table's rows, without its head, by what they measure."""
    return {cells(line)[WHAT] + cells(line)[BASELINE]: line for line in lines[2:]}


def cells(row: str) -> list[str]:
    """Return the texts of a row's cells."""
    return [cell.strip() for cell in row.strip("|").split("|")]


def draw(rows: list[list[str]]) -> None:
    """Draw median and quartiles of the ratios of each row, and the baseline at 1."""
    fig, axes = plt.subplots(figsize=(10, 1.2 + _ROW_INCHES * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        low, high = map(float, row[QUARTILES].split(" to "))
        axes.plot([low, high], [place, place], color="tab:gray", linewidth=4, alpha=0.5)
        axes.plot(float(row[RATIO]), place, "o", color="tab:blue")
        if row[GOAL]:
            axes.plot(float(row[GOAL].split()[1]), place, "|", color="tab:red", markersize=14)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [f"{row[WHAT]}  /  {row[BASELINE]}" for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("ratio to the baseline of the same turn: median, quartiles; red: the goal")
    fig.savefig(PLOT, dpi=80)


if __name__ == "__main__":
    main()
