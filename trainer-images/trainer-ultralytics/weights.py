"""The weights that a job starts from: from ``models/`` in the bucket, else from where ultralytics publishes them."""

import difflib
import inspect
import logging
import os
import zipfile
from pathlib import Path

from download import DownloadError, download
from utils import ConfigInvalidError, Contract

log = logging.getLogger("weights")


def fetch(contract: Contract) -> tuple[Path, str]:
    """Download the weights of CHECKPOINT_KEY, else of MODEL_NAME; return the file and where it comes from.

    Raises:
        ConfigInvalidError: they are in neither place; the message says how to provide them.
    """
    name, key = contract.settings.model_name, contract.settings.checkpoint_key
    path = contract.scratch / "weights" / Path(key or name).name
    stored = key or f"models/{name}"
    if contract.download(stored, path):
        source = stored
    elif key:
        raise ConfigInvalidError(f"CHECKPOINT_KEY: there is no object {key} in the bucket")
    else:
        source = _fetch_published(contract, name, path)
    log.info("weights: %s", source)
    contract.event("log", f"weights: {source}", weights=source)
    return path, source


def _fetch_published(contract: Contract, name: str, path: Path) -> str:
    """Download the weights from ultralytics' release or its mirror; return the address."""
    from ultralytics.utils.checks import check_yolov5u_filename  # noqa: PLC0415 -- after ``yolo.prepare``
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES  # noqa: PLC0415

    missing = f"there are no weights {name}: models/{name} is not in the bucket"
    published = check_yolov5u_filename(name, verbose=False)  # yolov5n.pt is yolov5nu.pt now
    if published not in GITHUB_ASSETS_NAMES:
        close = difflib.get_close_matches(name, sorted(GITHUB_ASSETS_NAMES), n=1)
        hint = f"; or use {close[0]}, which ultralytics publishes" if close else ""
        raise ConfigInvalidError(f"{missing}, and ultralytics publishes none of this name; {_put(name)}{hint}")
    if not contract.settings.model_download:
        raise ConfigInvalidError(f"{missing}, and MODEL_DOWNLOAD is off; {_put(name)}")
    url = f"{_hub()}/{published}"
    try:
        download(url, path, contract.check)
    except DownloadError as error:
        raise ConfigInvalidError(f"{missing}, and cannot be downloaded ({error}); {_put(name)}") from error
    if not _is_whole(path):
        path.unlink()
        raise ConfigInvalidError(f"{missing}, and MODEL_HUB_URL sends something that is not a .pt file; {_put(name)}")
    return f"{published}, published by ultralytics"


def _hub() -> str:
    """Return MODEL_HUB_URL, else the release of the weights for this version of ultralytics."""
    from ultralytics.utils.downloads import GITHUB_ASSETS_REPO, attempt_download_asset  # noqa: PLC0415

    release = inspect.signature(attempt_download_asset).parameters["release"].default
    default = f"https://github.com/{GITHUB_ASSETS_REPO}/releases/download/{release}"
    return (os.environ.get("MODEL_HUB_URL") or default).rstrip("/")


def _put(name: str) -> str:
    """Return what to do about missing weights."""
    from ultralytics.nn.tasks import yaml_model_load  # noqa: PLC0415 -- after ``yolo.prepare``

    advice, plain = f"put the file there with ./taskw model PUT={Path(name).name}", f"{Path(name).stem}.yaml"
    try:
        yaml_model_load(plain)
    except OSError:  # such as custom weights
        return advice
    return f"{advice}, or train from scratch with {plain}"


def _is_whole(path: Path) -> bool:
    """Return whether a .pt file, which is a zip archive, has all of its bytes: by the checksums that it holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False
