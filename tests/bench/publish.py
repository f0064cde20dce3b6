"""Put the last run's table and chart into docs/PERFORMANCE.md: ``python tests/bench/publish.py``."""

import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[2]
PAGE, PLOT = ROOT / "docs/PERFORMANCE.md", ROOT / "docs/bench.png"
BEGIN, END = "<!-- bench: written by ./taskw bench -->\n", "<!-- bench: end -->\n"
_ROW_INCHES = 0.28


def main() -> None:
    """Publish the saved figures."""
    draw(json.loads((ROOT / ".stoker/bench.json").read_text()))
    head, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}{(ROOT / '.stoker/bench.md').read_text()}{END}{tail}")


def draw(figures: list[dict[str, Any]]) -> None:
    """Draw a row for each figure: median and quartiles of the ratios, and the baseline at 1."""
    fig, axes = plt.subplots(figsize=(10, 1.2 + _ROW_INCHES * len(figures)), layout="constrained")
    for row, figure in enumerate(figures):
        pairs = zip(figure["values"], figure["baseline_values"], strict=True)
        low, middle, high = statistics.quantiles([value / base for value, base in pairs], n=4)
        axes.plot([low, high], [row, row], color="tab:gray", linewidth=4, alpha=0.5)
        axes.plot(middle, row, "o", color="tab:blue")
        goal = figure["goal"].split()
        if goal:
            axes.plot(float(goal[1]), row, "|", color="tab:red", markersize=14)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(figures)), [f"{one['name']}  /  {one['baseline']}" for one in figures], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("ratio to the baseline of the same turn: median, quartiles; red: the goal")
    fig.savefig(PLOT, dpi=80)


if __name__ == "__main__":
    main()
