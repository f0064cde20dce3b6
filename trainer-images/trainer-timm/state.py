"""The state of a training, which ``train`` changes and ``checkpoints`` writes and reads."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from devices import DistributedContext
from options import Options
from utils import Contract


@dataclass
class Run:
    """The objects and the metrics of a training, in one of its ``context.world`` processes."""

    contract: Contract | None  #: only in rank 0
    options: Options
    context: DistributedContext
    model: Any  #: without DistributedDataParallel
    ema: Any
    optimizer: Any
    scheduler: Any
    scaler: Any
    epoch: int = 0  #: the number of finished epochs
    history: list[dict[str, float]] = field(default_factory=list)
    batches: Callable[[Any], Iterator[Any]] = iter  #: yields a loader's batches; in rank 0, measures the wait for them

    def is_best(self) -> bool:
        """Whether the last epoch is the best so far: by top-1, of equal ones the earlier."""
        *earlier, last = [row["top1"] for row in self.history]
        return last > max(earlier, default=-1.0)

    @property
    def best_epoch(self) -> int:
        """The epoch of the best model, from 1."""
        rows = [row["top1"] for row in self.history]
        return rows.index(max(rows)) + 1
