"""Run by trainer-timm's own Python, beside ``train.py``: the same training with the contract and without, by turns.

Both write their checkpoints to the scratch folder each epoch, as timm's own script does; the contract stores them besides.
Writes one JSON line a training to the file that ``BENCH_FILE`` names: its seconds of wall and of CPU, and as ``steps``
those that the contract's own steps held it up, and the CPU that the contract's own threads took.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Steps:
    """The contract's cost: the time of its calls in the training, and the CPU time of its threads."""

    def __init__(self) -> None:
        self._held_up = self._of_ended = 0.0

    def timed(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a step, and count its time when the training's thread waits for it."""

        def run(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return step(*args, **kwargs)
            finally:
                if threading.current_thread() is threading.main_thread():
                    self._held_up += time.perf_counter() - began

        return run

    def counted(self, work: Callable[..., None]) -> Callable[..., None]:
        """Wrap a thread's function, and count its CPU time at its end."""

        def run(*args: Any) -> None:
            try:
                work(*args)
            finally:
                self._of_ended += time.thread_time()

        return run

    def seconds(self) -> float:
        """Return the sum so far, in seconds."""
        others = [one for one in threading.enumerate() if one is not threading.main_thread()]
        clocks = [time.pthread_getcpuclockid(one.ident) for one in others if one.ident is not None]
        return self._held_up + self._of_ended + sum(map(time.clock_gettime, clocks))


def main() -> int:
    """Train ``BENCH_TURNS`` times with the contract and without."""
    sys.path.insert(0, os.environ["TRAINER"])
    import checkpoints
    import dataset
    import devices
    import options
    import train
    import utils

    steps = Steps()
    threading.Thread.run = steps.counted(threading.Thread.run)  # type: ignore[method-assign]
    checkpoints.store, train.report_epoch = steps.timed(checkpoints.store), steps.timed(train.report_epoch)
    for name in ("check", "progress"):
        setattr(utils.Contract, name, steps.timed(getattr(utils.Contract, name)))

    def by_turns(contract: Any) -> Mapping[str, float]:
        settings = contract.settings
        context, chosen = devices.contexts(settings.device, contract.scratch)[0], options.read(settings)
        data, _ = dataset.fetch(contract, val_share=chosen.val_share)
        train.fit(None, settings, chosen, data, context, is_resumed=False)
        with Path(os.environ["BENCH_FILE"]).open("w") as file:
            for turn in range(int(os.environ["BENCH_TURNS"])):
                for one in (contract, None) if turn % 2 else (None, contract):
                    wall, cpu, own = time.perf_counter(), time.process_time(), steps.seconds()
                    train.fit(one, settings, chosen, data, context, is_resumed=False)
                    took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
                    took["steps"] = steps.seconds() - own
                    file.write(json.dumps({"contract": one is not None, **took}) + "\n")
        return {}

    return int(utils.run(by_turns))


if __name__ == "__main__":
    sys.exit(main())
