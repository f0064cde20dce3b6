"""Build the job's timm model, with its weights or none; and its data configuration."""

import difflib
import logging
from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.data import resolve_data_config
from timm.layers import convert_sync_batchnorm
from timm.models import split_model_name_tag

import weights
from options import Options
from utils import ConfigInvalidError, Contract

log = logging.getLogger("model")


def check_name(name: str) -> None:
    """Check that timm has the model. Raises: ConfigInvalidError."""
    plain, tag = split_model_name_tag(name)
    if not timm.is_model(plain):
        close = difflib.get_close_matches(plain, timm.list_models(), n=1)
        raise ConfigInvalidError(f"MODEL_NAME={name!r}: timm has no such model{f'; {close[0]}?' if close else ''}")
    if tag and name not in timm.list_pretrained(f"{plain}.*"):
        raise ConfigInvalidError(f"MODEL_NAME={name!r}: timm has {plain}, but no weights {tag!r} of it")


def arguments(options: Options, *, classes: int, image_size: int | None, name: str) -> dict[str, Any]:
    """Return the arguments of ``timm.create_model``; checkpoints hold them, to build the same model again."""
    sized = getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False) and image_size
    optional = {
        "global_pool": options.gp,
        "drop_path_rate": options.drop_path,
        "drop_block_rate": options.drop_block,
        "img_size": image_size if sized else None,
    }
    chosen = {key: value for key, value in optional.items() if value is not None}
    return {
        "num_classes": classes,
        "in_chans": options.in_chans,
        "drop_rate": options.drop,
        **chosen,
        **options.model_kwargs,
    }


def build(name: str, kwargs: Mapping[str, Any]) -> torch.nn.Module:
    """Return the model without weights. Raises: ConfigInvalidError."""
    model: torch.nn.Module
    try:
        model = timm.create_model(name, pretrained=False, **kwargs)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise ConfigInvalidError(f"{name} cannot be built with {dict(kwargs)}: {error}") from error
    return model


def start(contract: Contract, start_from: weights.Weights | None, kwargs: Mapping[str, Any]) -> torch.nn.Module:
    """Return the model to start from, and report the source of its weights. Raises: ConfigInvalidError."""
    name = contract.settings.model_name
    if start_from is None:
        model, source = build(name, kwargs), "none, from scratch"
    else:
        model, share = weights.load(start_from, name, dict(kwargs), lambda: build(name, kwargs))
        source = f"{start_from.source}, {share}"
    contract.event("log", f"weights: {source}", weights=source)
    log.info("weights: %s", source)
    return model


def data_config(model: torch.nn.Module, options: Options, image_size: int | None) -> dict[str, Any]:
    """Return the model's input size, normalization and interpolation; options override them."""
    overrides = {
        "input_size": (options.in_chans, image_size, image_size) if image_size else None,
        "interpolation": options.interpolation or "",
        "crop_pct": options.crop_pct,
        "mean": options.mean,
        "std": options.std,
        "in_chans": options.in_chans,
    }
    config: dict[str, Any] = resolve_data_config(overrides, model=model)
    return config


def prepared(model: torch.nn.Module, options: Options, device: torch.device, *, world: int) -> torch.nn.Module:
    """Return the model on its device, configured by the options."""
    if options.grad_checkpointing:
        model.set_grad_checkpointing(enable=True)  # type: ignore[operator]  # timm's models have it
    model = model.to(device)
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return convert_sync_batchnorm(model) if options.sync_bn and world > 1 else model
