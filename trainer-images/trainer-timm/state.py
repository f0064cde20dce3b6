"""The state of a training, which ``train`` changes and ``checkpoints`` writes and reads."""

from dataclasses import dataclass, field
from typing import Any

from devices import DistributedContext
from options import Options
from utils import Contract


@dataclass
class Run:
    """One training's parts and its metrics so far, on one process of ``context.world``."""

    contract: Contract | None  #: of rank 0 alone
    options: Options
    context: DistributedContext
    model: Any  #: without the wrapper of several processes
    ema: Any
    optimizer: Any
    scheduler: Any
    scaler: Any
    epoch: int = 0  #: finished
    history: list[dict[str, float]] = field(default_factory=list)

    def is_best(self) -> bool:
        """Whether the last epoch is the best so far: by top-1, the earlier one of two that are alike."""
        *earlier, last = [row["top1"] for row in self.history]
        return last > max(earlier, default=-1.0)
