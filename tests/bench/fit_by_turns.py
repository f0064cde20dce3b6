"""Run by trainer-timm's own Python, beside ``train.py``: the same training with the contract and without, by turns.

Writes seconds of wall and of CPU, one JSON line a training, to the file that ``BENCH_FILE`` names.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def main() -> int:
    """Train ``BENCH_TURNS`` times in each way."""
    sys.path.insert(0, os.environ["TRAINER"])
    import dataset
    import devices
    import options
    import train
    import utils

    def by_turns(contract: Any) -> Mapping[str, float]:
        settings = contract.settings
        place, chosen = devices.places(settings.device, contract.scratch)[0], options.read(settings)
        data = dataset.fetch(contract, val_share=chosen.val_share)
        train.fit(None, settings, chosen, data, place, is_resumed=False)
        with Path(os.environ["BENCH_FILE"]).open("w") as file:
            for turn in range(int(os.environ["BENCH_TURNS"])):
                for one in (contract, None) if turn % 2 else (None, contract):
                    wall, cpu = time.perf_counter(), time.process_time()
                    train.fit(one, settings, chosen, data, place, is_resumed=False)
                    took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
                    file.write(json.dumps({"contract": one is not None, **took}) + "\n")
        return {}

    return int(utils.run(by_turns))


if __name__ == "__main__":
    sys.exit(main())
