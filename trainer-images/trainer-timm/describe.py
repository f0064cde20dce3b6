"""Write trainer.json, this trainer's declaration: ``python describe.py``."""

from collections.abc import Iterator
from typing import Any

import msgspec
import timm
from msgspec import inspect

import declaration
from options import OWN_VARIABLE, Options

TASKS = ("train", "predict", "check")
#: descriptions that differ from timm's own for its train.py, or of options that most jobs set
DESCRIPTIONS = {
    "pretrained": "Start from published weights; false trains from scratch.",
    "gp": "The global pooling of the model, such as avg or max.",
    "in_chans": "Channels of the images: 3 for colour, 1 for grey.",
    "drop": "The dropout of the classifier.",
    "drop_path": "The share of residual branches that are skipped.",
    "grad_checkpointing": "Use less memory and more time.",
    "model_kwargs": "More arguments of timm.create_model.",
    "opt": "The optimizer: sgd, adamw, lamb, and the others of timm.",
    "momentum": "The momentum of SGD.",
    "weight_decay": "L2 regularization.",
    "layer_decay": "The factor of the learning rate from layer to layer.",
    "clip_grad": "The largest gradient.",
    "grad_accum_steps": "Batches for each step of the optimizer.",
    "lr_base": "The learning rate for a batch of lr_base_size, if the job sets no learning_rate.",
    "lr_base_size": "The batch that lr_base is for.",
    "lr_base_scale": "How the learning rate grows with the batch; by default linear, or sqrt for adaptive optimizers.",
    "sched": "The schedule of the learning rate.",
    "min_lr": "The learning rate at the end of the schedule.",
    "warmup_epochs": "Epochs of warm-up; by default a tenth of the epochs, at most 5.",
    "val_share": "The share of each class for validation, if the dataset has no val/.",
    "crop_pct": "The share of an image that validation sees.",
    "no_aug": "Train without augmentation.",
    "scale": "The range of the share of an image that training sees.",
    "ratio": "The range of the crop's width by its height.",
    "hflip": "The probability of a horizontal flip.",
    "vflip": "The probability of a vertical flip.",
    "color_jitter": "The strength of changes of colour.",
    "aa": "The policy of automatic augmentation, such as rand-m9-mstd0.5.",
    "reprob": "The probability that a part of an image is erased.",
    "mixup": "The strength of mixup.",
    "cutmix": "The strength of cutmix.",
    "smoothing": "The label smoothing.",
    "amp": "Compute in half precision where that is safe.",
    "amp_dtype": "The type of half precision.",
    "model_ema": "Validate and store the moving average of the weights.",
    "model_ema_decay": "The decay of that average.",
}
_TYPES: dict[type, str] = {
    inspect.BoolType: "boolean",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.StrType: "string",
    inspect.ListType: "array",
    inspect.TupleType: "array",
    inspect.VarTupleType: "array",
    inspect.DictType: "object",
}


def text() -> str:
    """Return the file's content."""
    return declaration.text(
        models=declaration.Models([*timm.list_models(), *timm.list_pretrained()]),
        tasks=TASKS,
        fields=declaration.fields({}),
        options=list(options()),
        aliases={name: variable.lower() for name, variable in OWN_VARIABLE.items()},
    )


def options() -> Iterator[dict[str, Any]]:
    """Yield the hyperparameters."""
    for field in msgspec.structs.fields(Options):
        default = {} if field.default_factory is not msgspec.NODEFAULT else field.default
        info = inspect.type_info(field.type)
        kinds = info.types if isinstance(info, inspect.UnionType) else (info,)
        kind = next(one for one in kinds if not isinstance(one, inspect.NoneType))
        yield _option(field.name, kind, default)


def _option(name: str, kind: inspect.Type, default: Any) -> dict[str, Any]:
    about: dict[str, Any] = {"description": DESCRIPTIONS.get(name), "tasks": ["train"]}
    if isinstance(kind, inspect.LiteralType):
        type_ = "integer" if isinstance(kind.values[0], int) else "string"
        return declaration.option(name, type_, default, choices=list(kind.values), **about)
    minimum, maximum = (getattr(kind, "ge", None), getattr(kind, "le", None))
    above, below = (getattr(kind, "gt", None), getattr(kind, "lt", None))
    return declaration.option(
        name,
        _TYPES[type(kind)],
        default,
        minimum=minimum if above is None else above,
        exclusive_minimum=True if above is not None else None,
        maximum=maximum if below is None else below,
        exclusive_maximum=True if below is not None else None,
        **about,
    )


if __name__ == "__main__":
    declaration.FILE.write_text(text())
