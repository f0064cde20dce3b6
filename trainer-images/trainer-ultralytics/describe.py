"""Write trainer.json, this trainer's declaration: ``python describe.py``."""

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import declaration
import predict
import yolo

TASKS = ("train", "predict", "check")
#: parts of the names of models whose tasks this trainer does not support
OTHER_TASKS = [
    part for part, task in {"-depth": "depth", "-sem": "semantic", "-obb": "obb"}.items() if task not in yolo.TASKS
]
#: the pattern of names whose weights are not published: they have to be in the bucket
OWN_WEIGHTS = "*.pt"
#: the JSON types of options whose default does not show them
_TYPES: dict[str, str | list[str]] = {
    "cache": ["boolean", "string"],
    "amp": ["boolean", "string"],
    "compile": ["boolean", "string"],
    "classes": ["integer", "array"],
    "freeze": ["integer", "array"],
    "scale": ["number", "array"],
    "fraction": ["number", "array"],
    "quantize": ["integer", "string"],
    "auto_augment": "string",
    "channels_last": "boolean",
    "nms": "boolean",
    "time": "number",
    "conf": "number",
    "line_width": "integer",
    "opset": "integer",
    "workspace": "number",
}
_UNBOUNDED = {"scale", "fraction"}
DESCRIPTIONS = {
    "patience": "Stop after so many epochs without a better one.",
    "optimizer": "The optimizer; auto chooses it, and the learning rate.",
    "single_cls": "Treat all classes as one.",
    "cos_lr": "Lower the learning rate by a cosine.",
    "close_mosaic": "The last epochs, which train without mosaic.",
    "amp": "Compute in half precision where that is safe.",
    "fraction": "The share of the training images to use.",
    "freeze": "How many layers, counted from the first, keep their weights.",
    "multi_scale": "How much the size of the images varies from batch to batch.",
    "dropout": "The dropout of the classifier (classification only).",
    "conf": "The lowest confidence of a prediction.",
    "iou": "The overlap above which two predictions are one object.",
    "max_det": "The most objects in an image.",
    "classes": "Predict only these classes, by number.",
    "lrf": "The learning rate at the end, as a share of the first.",
    "momentum": "The momentum of SGD, or beta1 of Adam.",
    "weight_decay": "L2 regularization.",
    "warmup_epochs": "Epochs of warm-up.",
    "box": "The weight of the boxes in the loss.",
    "cls": "The weight of the classes in the loss.",
    "dfl": "The weight of the boxes' distribution in the loss.",
    "nbs": "The batch that the weight decay is for.",
    "hsv_h": "How much the hue varies.",
    "hsv_s": "How much the saturation varies.",
    "hsv_v": "How much the brightness varies.",
    "degrees": "Rotation of up to so many degrees.",
    "translate": "Shifts of up to this share of the image.",
    "scale": "How much the size of the objects varies.",
    "flipud": "The probability of a vertical flip.",
    "fliplr": "The probability of a horizontal flip.",
    "mosaic": "The probability that four images become one.",
    "mixup": "The probability of mixup.",
    "cutmix": "The probability of cutmix.",
    "copy_paste": "The probability that objects are copied from image to image (segmentation only).",
    "auto_augment": "The policy of automatic augmentation (classification only).",
    "erasing": "The probability that a part of an image is erased (classification only).",
}


def text() -> str:
    """Return the file's content."""
    with TemporaryDirectory() as folder:
        yolo.prepare(Path(folder))
        return declaration.text(
            models=declaration.Models(models(), in_bucket=[OWN_WEIGHTS]),
            tasks=TASKS,
            fields=declaration.fields({"image_size": 640}),
            options=[*options()],
            aliases={name: variable.lower() for name, variable in yolo.OWN_VARIABLE.items()},
        )


def models() -> Iterator[str]:
    """Yield the architectures, the published weights, and a pattern for other weights in the bucket."""
    import ultralytics  # noqa: PLC0415 -- after ``prepare``

    files = [path.name for path in Path(ultralytics.__file__).parent.glob("cfg/models/**/yolo*.yaml")]
    names = {name for file in files for name in scaled(file)} | set(published())
    yield from (name for name in names if not any(ending in name for ending in OTHER_TASKS))
    yield OWN_WEIGHTS


def published() -> Iterator[str]:
    """Yield the names of published weights, also the earlier ones: yolov5n.pt is yolov5nu.pt now."""
    from ultralytics.utils.checks import check_yolov5u_filename  # noqa: PLC0415 -- after ``prepare``
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES  # noqa: PLC0415 -- after ``prepare``

    for name in GITHUB_ASSETS_NAMES:
        if name.startswith(("yolo", "rtdetr", "FastSAM")) and name.endswith(".pt"):
            yield name
            earlier = name.replace("u.pt", ".pt")
            if check_yolov5u_filename(earlier, verbose=False) == name:
                yield earlier


def scaled(file: str) -> list[str]:
    """Return the names of an architecture in each size, such as yolo11n.yaml of yolo11.yaml."""
    has_size = re.match(r"yolo(e-)?v?\d+(?=[-.])", file)
    sizes = "nsmlx" if has_size and not file.startswith(("yolov3", "yoloe-v")) else ""
    return [file, *(re.sub(r"^(yolo(?:e-)?v?\d+)", rf"\g<1>{size}", file) for size in sizes)]


def options() -> Iterator[dict[str, Any]]:
    """Yield the hyperparameters."""
    from ultralytics.utils import DEFAULT_CFG_DICT  # noqa: PLC0415 -- after ``prepare``

    for name, default in DEFAULT_CFG_DICT.items():
        if name not in yolo.REFUSED and name not in yolo.OWN_VARIABLE:
            yield _option(name, default)


def _option(name: str, default: Any) -> dict[str, Any]:
    from ultralytics.cfg import CFG_FLOAT_KEYS, CFG_FRACTION_KEYS  # noqa: PLC0415 -- after ``prepare``

    is_share = name in CFG_FRACTION_KEYS and name not in _UNBOUNDED
    is_number = name in CFG_FLOAT_KEYS | CFG_FRACTION_KEYS
    kind = _TYPES.get(name) or ("number" if is_number else declaration.type_of(default))
    return declaration.option(
        name,
        kind,
        default,
        minimum=0 if is_share else None,
        maximum=1 if is_share else None,
        choices=list(yolo.OPTIMIZERS) if name == "optimizer" else None,
        description=DESCRIPTIONS.get(name),
        tasks=["train", "predict"] if name in predict.OPTIONS else ["train"],
    )


if __name__ == "__main__":
    declaration.FILE.write_text(text())
