"""``yolo train`` without the contract, in the trainer's environment: ``bare_yolo.py FOLDER OPTIONS`` (JSON).

Prints one line of JSON: the times at which epochs ended, and the seconds that the training waited for data.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FOLDER, OPTIONS = Path(sys.argv[1]), json.loads(sys.argv[2])
os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_CONFIG_DIR": str(FOLDER / "config")}


def main() -> None:
    """Train."""
    from ultralytics import YOLO

    ended, times = list[float](), {"wait": 0.0, "since": time.monotonic()}

    def batch_starts(_trainer: Any) -> None:
        times["wait"] += time.monotonic() - times["since"]

    def note(_trainer: Any) -> None:
        times["since"] = time.monotonic()

    model, data = YOLO(OPTIONS.pop("model")), FOLDER / "data.yaml"
    data.write_text(f"path: {FOLDER}\n" + (FOLDER / "data.yaml").read_text())
    for event, function in (
        ("on_train_epoch_start", note),
        ("on_train_batch_start", batch_starts),
        ("on_train_batch_end", note),
        ("on_fit_epoch_end", lambda _trainer: ended.append(time.monotonic())),
    ):
        model.add_callback(event, function)
    model.train(data=str(data), project=str(FOLDER / "runs"), name="bare", **OPTIONS)
    print(json.dumps({"ended": ended, "wait_seconds": times["wait"]}))


if __name__ == "__main__":
    main()
