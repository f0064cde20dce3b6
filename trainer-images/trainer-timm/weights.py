"""The weights that a job starts from: from ``models/`` in the bucket, else from timm's repositories on the hub."""

import hashlib
import logging
import os
import re
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import timm
import torch
from timm.models import load_state_dict

from download import DownloadError, download
from options import Options
from utils import ConfigInvalidError, Contract

log = logging.getLogger("weights")

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
HUB_URL = "https://huggingface.co"
HUB_TIMEOUT_SECONDS = 5
#: number of tries for a host without an address or that refuses connections; a cluster's DNS can fail briefly
REACH_TRIES = 3
REACH_PAUSE_SECONDS = 1.0
PORTS = {"http": 80, "https": 443}
SHA256 = re.compile(r"[0-9a-f]{64}")


class DamagedError(OSError):
    """A downloaded file is not the published one."""


class UnreachableError(OSError):
    """A host has no address, or refuses connections."""


class Weights(NamedTuple):
    """A file of weights, and where it comes from."""

    path: Path
    source: str
    #: CHECKPOINT_KEY: of any head, and perhaps of a similar model
    is_checkpoint: bool = False


def fetch(contract: Contract, options: Options) -> Weights | None:
    """Download the weights to start from; return None for a training from scratch, which ``pretrained=false`` is.

    Raises:
        ConfigInvalidError: they do not exist; the message says how to provide them.
    """
    name, key = contract.settings.model_name, contract.settings.checkpoint_key
    if key:
        path = contract.scratch / "start" / Path(key).name
        if not contract.download(key, path):
            raise ConfigInvalidError(f"CHECKPOINT_KEY: there is no object {key} in the bucket")
        return Weights(path, key, is_checkpoint=True)
    if not options.pretrained:
        return None
    return _of_bucket(contract, name) or _of_hub(contract, name)


def _of_bucket(contract: Contract, name: str) -> Weights | None:
    config = timm.get_pretrained_cfg(name)
    tagged = f"{name}.{config.tag}" if config and config.tag and "." not in name else None
    for stem in filter(None, (name, tagged)):
        for suffix in SUFFIXES:
            key, path = f"models/{stem}{suffix}", contract.scratch / "start" / f"weights{suffix}"
            if contract.download(key, path):
                return Weights(path, key)
    return None


def _of_hub(contract: Contract, name: str) -> Weights:
    missing = f"there are no weights of {name}: models/{name}.safetensors is not in the bucket"
    advice = (
        f"put the file there with ./taskw model PUT={name}.safetensors, "
        "or train from scratch with the hyperparameter pretrained=false (stoker train … --set pretrained=false)"
    )
    config = timm.get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url):
        raise ConfigInvalidError(f"{missing}, and timm publishes none; {advice}")
    if not contract.settings.model_download:
        raise ConfigInvalidError(f"{missing}, and MODEL_DOWNLOAD is off; {advice}")
    try:
        path = _from_hub(config.hf_hub_id) if config.hf_hub_id else _from_url(contract, config.url)
    except Exception as error:  # the hub's client and its HTTP library share no class of errors
        raise ConfigInvalidError(
            f"{missing}, and cannot be downloaded ({_reason(error)}); {advice}. "
            "HF_ENDPOINT names a mirror of the hub; with MODEL_DOWNLOAD=false nothing is downloaded"
        ) from error
    return Weights(path, f"{'.'.join(filter(None, (config.architecture, config.tag)))}, published by timm")


def _from_hub(repository: str) -> Path:
    """Return the hub's file in its cache; the client continues broken downloads and compares sizes."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    logging.getLogger("huggingface_hub").handlers.clear()  # the root logger prints its lines already
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for each request, with signed links
    repo_id, _, revision = repository.partition("@")
    get = partial(
        hf_hub_download,
        repo_id,
        revision=revision or None,
        endpoint=_hub_url(),
        etag_timeout=HUB_TIMEOUT_SECONDS,
        # The client would try for 25 s; its cache may have the file.
        local_files_only=not _is_reachable(_hub_url()),
    )
    try:
        path = Path(get(HUB_FILES[0]))
    except LocalEntryNotFoundError:  # has the other error's class, but means that the hub is unreachable
        raise
    except EntryNotFoundError:
        path = Path(get(HUB_FILES[1]))
    _verify(path)
    return path


def _hub_url() -> str:
    return os.environ.get("HF_ENDPOINT") or HUB_URL


def _is_reachable(url: str) -> bool:
    """Return whether the host of a URL has an address and accepts connections; a slow host counts as reachable."""
    parts = urlsplit(url)
    if not parts.hostname or _has_proxy(parts.scheme, parts.hostname):
        return True
    for attempt in range(1, REACH_TRIES + 1):
        try:
            socket.create_connection((parts.hostname, parts.port or PORTS[parts.scheme]), HUB_TIMEOUT_SECONDS).close()
        except TimeoutError:
            return True
        except OSError as error:
            log.warning("%s cannot be reached: %s (try %d of %d)", parts.hostname, error, attempt, REACH_TRIES)
            if attempt < REACH_TRIES:
                time.sleep(REACH_PAUSE_SECONDS)
        else:
            return True
    return False


def _has_proxy(scheme: str, host: str) -> bool:
    """Return whether a proxy is used; it may resolve addresses that this machine cannot."""
    return bool({scheme, "all"} & getproxies().keys()) and not proxy_bypass(host)


def _verify(path: Path) -> None:
    """Compare a file of the hub with its SHA-256, which names it in the client's cache. Raises: DamagedError."""
    stored = path.resolve()
    if not SHA256.fullmatch(stored.name):  # a small file: the hub names it by the hash of its Git object
        return
    if _sha256(stored) != stored.name:
        stored.unlink()
        path.unlink()
        raise DamagedError(f"{path.name} is damaged: its SHA-256 is not the published one")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    """Return a short reason for a failed download: the hub client's messages are long and contain addresses."""
    if isinstance(error, DownloadError | DamagedError | UnreachableError):
        return str(error)
    host = urlsplit(_hub_url()).hostname
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status:
        return f"{host} answered {status}"
    return f"{host} cannot be reached" if isinstance(error, OSError) else f"{host}: {type(error).__name__}"


def _from_url(contract: Contract, url: str) -> Path:
    """Return a file that is not on the hub; its name holds the beginning of its SHA-256."""
    path = contract.scratch / "start" / Path(urlsplit(url).path).name
    if not _is_reachable(url):
        raise UnreachableError(f"{urlsplit(url).hostname} cannot be reached")
    download(url, path, contract.check)
    published = torch.hub.HASH_REGEX.search(path.name)
    if published and not _sha256(path).startswith(published[1]):
        raise DamagedError(f"{path.name} is damaged: its SHA-256 is not the published one")
    return path


def load(weights: Weights, name: str, kwargs: dict[str, Any], build: Callable[[], torch.nn.Module]) -> tuple[Any, str]:
    """Return the model with the weights, and a description of the loaded part. Raises: ConfigInvalidError."""
    try:
        return (
            _load_fitting(weights, build()) if weights.is_checkpoint else _load_published(weights, name, kwargs, build)
        )
    except ConfigInvalidError:
        raise
    except Exception as error:  # a pickle can fail in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigInvalidError(f"{weights.source} holds no weights that can be loaded: {reason}") from error


def _load_fitting(weights: Weights, model: torch.nn.Module) -> tuple[torch.nn.Module, str]:
    state = load_state_dict(str(weights.path), use_ema=True, weights_only=True)
    own = model.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise ConfigInvalidError(f"{weights.source} holds weights of another model: none of them fit")
    model.load_state_dict(fitting, strict=False)
    return model, "all of them" if len(fitting) == len(
        own
    ) else f"{len(fitting)} of {len(own)} tensors; the rest is new"


def _load_published(
    weights: Weights, name: str, kwargs: dict[str, Any], build: Callable[[], torch.nn.Module]
) -> tuple[Any, str]:
    """Load by timm, which converts other layouts, other numbers of channels and other heads."""
    overlay = {"file": str(weights.path), "custom_load": False}
    seed = torch.initial_seed()
    torch.manual_seed(seed)
    fresh = dict(build().named_parameters())
    torch.manual_seed(seed)  # so that a layer is the same again unless its weights are loaded
    model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **kwargs)
    # timm ignores tensors of other names; then the model would train from scratch, unnoticed.
    chosen = {key: value for key, value in model.named_parameters() if value.ndim > 1}
    loaded = [key for key, value in chosen.items() if not torch.equal(value, fresh[key])]
    if 2 * len(loaded) < len(chosen):
        raise ConfigInvalidError(
            f"{weights.source} holds weights of another model: they fit {len(loaded)} of {len(chosen)} layers of {name}"
        )
    is_whole = len(loaded) == len(chosen)
    return model, "all of them" if is_whole else f"{len(loaded)} of {len(chosen)} layers; the rest is new"
