"""HYPERPARAMETERS: timm's options, with the names and defaults of its train.py."""

import difflib
import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from utils import ConfigInvalidError, Settings

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=0)]
Three = tuple[float, float, float]

#: timm's options that have an environment variable of their own
OWN_VARIABLE = {
    "batch_size": "BATCH_SIZE",
    "device": "DEVICE",
    "epochs": "EPOCHS",
    "img_size": "IMAGE_SIZE",
    "initial_checkpoint": "CHECKPOINT_KEY",
    "lr": "LEARNING_RATE",
    "model": "MODEL_NAME",
    "seed": "SEED",
    "workers": "WORKERS",
}


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The options."""

    # model
    pretrained: bool = True
    gp: str | None = None
    in_chans: Literal[1, 3] = 3
    drop: Share = 0.0
    drop_path: Share | None = None
    drop_block: Share | None = None
    grad_checkpointing: bool = False
    channels_last: bool = False
    sync_bn: bool = False
    model_kwargs: dict[str, Any] = {}

    # optimizer
    opt: str = "sgd"
    opt_eps: Positive | None = None
    opt_betas: list[Share] | None = None
    momentum: Share = 0.9
    weight_decay: Annotated[float, Meta(ge=0)] = 2e-5
    layer_decay: Positive | None = None
    clip_grad: Positive | None = None
    clip_mode: Literal["norm", "value", "agc"] = "norm"
    grad_accum_steps: Annotated[int, Meta(ge=1)] = 1

    # learning rate: LEARNING_RATE, else lr_base for a batch of lr_base_size
    lr_base: Positive = 0.1
    lr_base_size: Annotated[int, Meta(ge=1)] = 256
    lr_base_scale: Literal["", "linear", "sqrt"] = ""
    sched: Literal["cosine", "tanh", "step", "multistep", "plateau", "poly", "none"] = "cosine"
    sched_on_updates: bool = False
    min_lr: Annotated[float, Meta(ge=0)] = 0.0
    warmup_lr: Annotated[float, Meta(ge=0)] = 1e-5
    #: default: a tenth of the epochs, at most 5
    warmup_epochs: Count | None = None
    warmup_prefix: bool = False
    cooldown_epochs: Count = 0
    decay_epochs: Positive = 90.0
    decay_milestones: tuple[int, ...] = (90, 180, 270)
    decay_rate: Positive = 0.1
    patience_epochs: Count = 10
    lr_cycle_mul: Positive = 1.0
    lr_cycle_decay: Positive = 0.5
    lr_cycle_limit: Annotated[int, Meta(ge=1)] = 1
    lr_k_decay: Positive = 1.0

    # data
    #: the share of each class for validation, if the dataset has no val/; not an option of timm
    val_share: Annotated[float, Meta(gt=0, lt=1)] = 0.2
    interpolation: str | None = None
    crop_pct: Positive | None = None
    mean: Three | None = None
    std: Three | None = None

    # augmentation
    no_aug: bool = False
    train_crop_mode: str | None = None
    scale: tuple[Positive, Positive] = (0.08, 1.0)
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    hflip: Share = 0.5
    vflip: Share = 0.0
    color_jitter: Annotated[float, Meta(ge=0)] = 0.4
    color_jitter_prob: Share | None = None
    grayscale_prob: Share = 0.0
    gaussian_blur_prob: Share = 0.0
    aa: str | None = None
    reprob: Share = 0.0
    remode: Literal["const", "rand", "pixel"] = "pixel"
    recount: Annotated[int, Meta(ge=1)] = 1
    train_interpolation: str = "random"

    # regularization
    mixup: Annotated[float, Meta(ge=0)] = 0.0
    cutmix: Annotated[float, Meta(ge=0)] = 0.0
    cutmix_minmax: tuple[Share, Share] | None = None
    mixup_prob: Share = 1.0
    mixup_switch_prob: Share = 0.5
    mixup_mode: Literal["batch", "pair", "elem"] = "batch"
    mixup_off_epoch: Count = 0
    smoothing: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    bce_loss: bool = False
    bce_target_thresh: Share | None = None

    # precision and averaging
    amp: bool = False
    amp_dtype: Literal["float16", "bfloat16"] = "float16"
    model_ema: bool = False
    model_ema_decay: Share = 0.9998
    model_ema_warmup: bool = False

    @property
    def has_mixup(self) -> bool:
        """Whether mixup or cutmix is used."""
        return self.mixup > 0 or self.cutmix > 0 or self.cutmix_minmax is not None


def read(settings: Settings) -> Options:
    """Return the options. Raises: ConfigInvalidError; the message names the option."""
    for name in settings.hyperparameters:
        if name in OWN_VARIABLE:
            raise ConfigInvalidError(f"HYPERPARAMETERS: {name} is set by {OWN_VARIABLE[name]}")
        if name not in Options.__struct_fields__:
            close = difflib.get_close_matches(name, Options.__struct_fields__, n=1)
            raise ConfigInvalidError(f"HYPERPARAMETERS: there is no {name}{f'; {close[0]}?' if close else ''}")
    try:
        options = msgspec.convert(settings.hyperparameters, Options)
    except msgspec.ValidationError as error:
        raise ConfigInvalidError(f"HYPERPARAMETERS: {error}") from error
    _check_names(options)
    return options


def _check_names(options: Options) -> None:
    from timm.optim import list_optimizers

    # timm wraps the optimizer for names that begin with "lookahead_".
    known, name = list_optimizers(), options.opt.lower().removeprefix("lookahead_")
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise ConfigInvalidError(f"HYPERPARAMETERS: opt: timm has no {options.opt}{f'; {close[0]}?' if close else ''}")


def learning_rate(settings: Settings, options: Options, *, batch: int) -> float:
    """Return the learning rate for a batch, over all processes and accumulated steps, as timm scales it."""
    if settings.learning_rate is not None:
        return settings.learning_rate
    is_adaptive = any(word in options.opt.lower() for word in ("ada", "lamb"))
    scale = options.lr_base_scale or ("sqrt" if is_adaptive else "linear")
    ratio = batch / options.lr_base_size
    return options.lr_base * (math.sqrt(ratio) if scale == "sqrt" else ratio)
