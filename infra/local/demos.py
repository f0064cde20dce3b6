"""The demos by framework: a dataset to make, and what its upload's metadata asks for."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from infra.local import digits


class Demo(NamedTuple):
    """One framework's demo."""

    sentence: str
    #: writes the dataset; a new ``file`` name for every change of what it writes
    write: Callable[[Path], None]
    file: str
    #: without the ``x-amz-meta-stoker-``
    metadata: Mapping[str, str]


DEMOS: Mapping[str, Demo] = {
    "ultralytics": Demo(
        "a YOLO detector learns to find handwritten digits, from scratch",
        digits.write_strewn,
        "digits-detection-1.zip",
        {
            "framework": "ultralytics",
            "model": "yolo11n.yaml",
            "epochs": "12",
            "batch-size": "16",
            "image-size": "128",
            "learning-rate": "0.005",
            "device": "cpu",
            "workers": "0",
            # Digits are neither mirrored nor coloured, and 15 batches an epoch leave no room for a long warm-up.
            "hyperparameters": json.dumps(
                {
                    "optimizer": "AdamW",
                    "mosaic": 0.0,
                    "close_mosaic": 0,
                    "warmup_epochs": 1,
                    "fliplr": 0.0,
                    "scale": 0.2,
                    "hsv_h": 0.0,
                    "hsv_s": 0.0,
                    "nbs": 16,
                }
            ),
        },
    ),
    "timm": Demo(
        "a classifier learns to tell handwritten digits apart, from scratch",
        digits.write_classes,
        "digits-classification-1.zip",
        {
            "framework": "timm",
            "model": "test_resnet",
            "epochs": "12",
            "batch-size": "64",
            "image-size": "32",
            "learning-rate": "0.004",
            "device": "cpu",
            "workers": "0",
            # A mirrored digit is none, and of a small picture there is little to crop.
            "hyperparameters": json.dumps(
                {
                    "pretrained": False,
                    "opt": "adamw",
                    "weight_decay": 0.05,
                    "hflip": 0.0,
                    "scale": [0.7, 1.0],
                    "color_jitter": 0.2,
                }
            ),
        },
    ),
}
