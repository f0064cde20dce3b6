"""Draw the table's ratios: ``python -m tests.bench.picture results.json picture.png``."""

import json
import statistics
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

_ROW_INCHES = 0.28


def main(results: Path, picture: Path) -> None:
    """Draw a row a figure: the median of its turns' ratios, the quartiles, and 1, which is the baseline."""
    figures = json.loads(results.read_text())
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
    fig.savefig(picture, dpi=80)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
