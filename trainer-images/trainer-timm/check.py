"""Check a dataset without training on it, by Stoker's contract (v1), or on this machine: ``python check.py cats.zip``.

Stores results/job-{id}/dataset.json. Needs no GPU and no weights; on this machine, no torch either.
"""

import sys
from collections.abc import Mapping

import checking
import dataset
from utils import Contract, run

VAL_SHARE = 0.2  # as in options.py, which imports torch


def check(contract: Contract) -> Mapping[str, float]:
    """Read the dataset; return the numbers of its images."""
    import options

    _, report = dataset.fetch(contract, val_share=options.read(contract.settings).val_share)  # exits 78, or 65
    return {f"images/{name}": split.images for name, split in report.splits.items()}


def check_here(contract: Contract, _task: str | None) -> None:
    """Read a dataset of this machine."""
    dataset.fetch(contract, val_share=VAL_SHARE)


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(checking.main(sys.argv[1:], check_here, ["classify"]))
    sys.exit(run(check))
