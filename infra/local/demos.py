"""The demos by framework: the dataset to write, and the metadata of its upload."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from infra.local import digits


class Demo(NamedTuple):
    """One framework's demo."""

    sentence: str
    #: writes the dataset; change the name ``file`` whenever its content changes
    write: Callable[[Path], None]
    file: str
    #: without the prefix ``x-amz-meta-stoker-``
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
            # Digits must not be mirrored and have no colour; an epoch of 15 batches is too short for a long warm-up.
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
            # A mirrored digit is no digit, and small images leave little to crop.
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
