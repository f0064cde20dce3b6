"""Build the job's timm model, with weights from a checkpoint, from the hub, or none; and its data configuration."""

import difflib
import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
import torch
from timm.data import resolve_data_config
from timm.layers import convert_sync_batchnorm
from timm.models import is_model_pretrained, load_state_dict, split_model_name_tag

from options import Options
from utils import ConfigInvalidError, Contract

log = logging.getLogger("model")

HUB_WAIT_SECONDS = 3.0


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


def start(contract: Contract, options: Options, kwargs: Mapping[str, Any]) -> torch.nn.Module:
    """Return the model to start from, and report the source of its weights. Raises: ConfigInvalidError."""
    name, key = contract.settings.model_name, contract.settings.checkpoint_key
    if key is not None:
        model = build(name, kwargs)
        source = f"{key}, {_load(contract, model, key)}"
    else:
        model, source = _of_hub(contract, options, name, kwargs)
    contract.event("log", f"weights: {source}", weights=source)
    log.info("weights: %s", source)
    return model


def _load(contract: Contract, model: torch.nn.Module, key: str) -> str:
    path = contract.scratch / "start" / Path(key).name
    if not contract.download(key, path):
        raise ConfigInvalidError(f"CHECKPOINT_KEY: there is no object {key}")
    try:
        state = load_state_dict(str(path), use_ema=True, weights_only=True)
    except Exception as error:  # a pickle can fail in any way
        raise ConfigInvalidError(f"{key} holds no weights that can be loaded: {str(error).splitlines()[0]}") from error
    own = model.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise ConfigInvalidError(
            f"{key} holds weights of another model: none of them fit {contract.settings.model_name}"
        )
    model.load_state_dict(fitting, strict=False)
    return "all of them" if len(fitting) == len(own) else f"{len(fitting)} of {len(own)} tensors; the rest is new"


def _of_hub(contract: Contract, options: Options, name: str, kwargs: Mapping[str, Any]) -> tuple[torch.nn.Module, str]:
    if not options.pretrained or not is_model_pretrained(name):
        return build(name, kwargs), "none, from scratch" + (" (timm has none of it)" if options.pretrained else "")
    if not _is_reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co")):
        contract.warn_once("the model hub is unreachable: training starts from scratch")
        return build(name, kwargs), "none, from scratch (the hub is unreachable)"
    try:
        return timm.create_model(name, pretrained=True, **kwargs), f"{name}, from the hub"
    except Exception as error:  # noqa: BLE001 -- the job can continue without weights, whatever the hub's client raises
        contract.warn_once(f"the model hub returned no weights: training starts from scratch: {error}")
        return build(name, kwargs), "none, from scratch (the hub returned none)"


def _is_reachable(address: str) -> bool:
    url = urlsplit(address)
    try:
        with socket.create_connection((url.hostname or "", url.port or 443), HUB_WAIT_SECONDS):
            return True
    except OSError:
        return False


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
