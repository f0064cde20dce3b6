"""Build data loaders, loss, optimizer and scheduler by timm from the options."""

from typing import Any

import timm.loss
import torch
from timm.data import FastCollateMixup, create_loader
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler

from dataset import Data, Levels, Sample
from dataset.images import decode
from options import Options
from utils import ConfigInvalidError, Settings


class ImageDataset(torch.utils.data.Dataset[tuple[Any, int]]):
    """The images of one split; ``create_loader`` sets ``transform``."""

    def __init__(self, samples: list[Sample], levels: Levels, *, in_chans: int) -> None:
        self.samples, self.levels, self.mode = samples, levels, "L" if in_chans == 1 else "RGB"
        self.transform: Any = None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path, label = self.samples[index]
        return self.transform(decode(path, self.mode, self.levels)), label


def loaders(
    data: Data, settings: Settings, options: Options, config: dict[str, Any], device: torch.device, *, world: int
) -> tuple[Any, Any]:
    """Return the loaders of train and val, which put batches on the device."""
    shared = {
        "input_size": config["input_size"],
        "mean": config["mean"],
        "std": config["std"],
        "num_workers": settings.workers,
        "distributed": world > 1,
        "crop_pct": config["crop_pct"],
        "crop_mode": config["crop_mode"],
        "pin_memory": device.type == "cuda",
        "device": device,
        # New workers for each epoch, so that their randomness depends only on the seed and the epoch.
        "persistent_workers": False,
    }
    # The loader drops the last, smaller batch; a dataset smaller than a batch would be empty.
    batch_size = min(settings.batch_size, max(len(data.train) // world, 1))
    mixup = mixer(options, len(data.classes)) if options.has_mixup else None
    train = create_loader(
        ImageDataset(data.train, data.levels, in_chans=options.in_chans),
        batch_size=batch_size,
        is_training=True,
        no_aug=options.no_aug,
        re_prob=options.reprob,
        re_mode=options.remode,
        re_count=options.recount,
        train_crop_mode=options.train_crop_mode,
        scale=options.scale,
        ratio=options.ratio,
        hflip=options.hflip,
        vflip=options.vflip,
        color_jitter=options.color_jitter,
        color_jitter_prob=options.color_jitter_prob,
        grayscale_prob=options.grayscale_prob,
        gaussian_blur_prob=options.gaussian_blur_prob,
        auto_augment=options.aa,
        interpolation=options.train_interpolation,
        collate_fn=mixup,
        **shared,
    )
    val = create_loader(
        ImageDataset(data.val, data.levels, in_chans=options.in_chans),
        batch_size=settings.batch_size,
        is_training=False,
        interpolation=config["interpolation"],
        **shared,
    )
    return train, val


def mixer(options: Options, classes: int) -> FastCollateMixup:
    """Return the collate function that mixes the images of a batch."""
    return FastCollateMixup(
        mixup_alpha=options.mixup,
        cutmix_alpha=options.cutmix,
        cutmix_minmax=options.cutmix_minmax,
        prob=options.mixup_prob,
        switch_prob=options.mixup_switch_prob,
        mode=options.mixup_mode,
        label_smoothing=options.smoothing,
        num_classes=classes,
    )


def loss(options: Options) -> Any:
    """Return the training's loss, as timm's train.py chooses it."""
    if options.bce_loss:
        return timm.loss.BinaryCrossEntropy(
            smoothing=0.0 if options.has_mixup else options.smoothing, target_threshold=options.bce_target_thresh
        )
    if options.has_mixup:
        return timm.loss.SoftTargetCrossEntropy()
    return timm.loss.LabelSmoothingCrossEntropy(options.smoothing) if options.smoothing else torch.nn.CrossEntropyLoss()


def optimizer(model: torch.nn.Module, options: Options, lr: float) -> torch.optim.Optimizer:
    """Return the optimizer. Raises: ConfigInvalidError."""
    result: torch.optim.Optimizer
    optional = {"eps": options.opt_eps, "betas": tuple(options.opt_betas) if options.opt_betas else None}
    try:
        result = create_optimizer_v2(
            model,
            opt=options.opt,
            lr=lr,
            weight_decay=options.weight_decay,
            momentum=options.momentum,
            layer_decay=options.layer_decay,
            **{name: value for name, value in optional.items() if value is not None},
        )
    except (TypeError, ValueError, AssertionError, RuntimeError, ImportError) as error:
        raise ConfigInvalidError(f"HYPERPARAMETERS: opt={options.opt}: {error}") from error
    return result


def scheduler(optimizer: torch.optim.Optimizer, options: Options, *, epochs: int, updates: int) -> Scheduler | None:
    """Return the schedule over ``epochs`` epochs of ``updates`` updates; None: a constant learning rate."""
    warmup = min(5, epochs // 10) if options.warmup_epochs is None else options.warmup_epochs
    if options.sched == "none":
        return None
    if warmup + options.cooldown_epochs >= epochs and warmup + options.cooldown_epochs > 0:
        raise ConfigInvalidError(
            f"HYPERPARAMETERS: warmup_epochs and cooldown_epochs leave none of the {epochs} epochs"
        )
    return create_scheduler_v2(
        optimizer,
        sched=options.sched,
        num_epochs=epochs - options.cooldown_epochs,
        decay_epochs=options.decay_epochs,
        decay_milestones=options.decay_milestones,
        cooldown_epochs=options.cooldown_epochs,
        patience_epochs=options.patience_epochs,
        decay_rate=options.decay_rate,
        min_lr=options.min_lr,
        warmup_lr=options.warmup_lr,
        warmup_epochs=warmup,
        warmup_prefix=options.warmup_prefix,
        cycle_mul=options.lr_cycle_mul,
        cycle_decay=options.lr_cycle_decay,
        cycle_limit=options.lr_cycle_limit,
        k_decay=options.lr_k_decay,
        step_on_epochs=not options.sched_on_updates,
        updates_per_epoch=updates,
    )[0]
