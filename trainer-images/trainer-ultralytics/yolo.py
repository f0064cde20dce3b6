"""Configure ultralytics: offline, without telemetry, in the scratch folder only; load a job's model and options."""

import difflib
import logging
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import weights
from utils import ConfigInvalidError, Contract, Settings

if TYPE_CHECKING:
    from ultralytics import YOLO

log = logging.getLogger("yolo")

TASKS = {"detect", "segment", "classify", "pose", "obb"}
OPTIMIZERS = ("SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSProp", "auto")
#: ultralytics' options that have an environment variable of their own
OWN_VARIABLE = {
    "epochs": "EPOCHS",
    "batch": "BATCH_SIZE",
    "imgsz": "IMAGE_SIZE",
    "lr0": "LEARNING_RATE",
    "seed": "SEED",
    "device": "DEVICE",
    "workers": "WORKERS",
    "model": "MODEL_NAME",
}
#: options that would affect more than the job, or break the contract
REFUSED = frozenset(
    """task mode data project name save_dir exist_ok resume save save_period pretrained cfg source tracker show
    visualize time profile distill_model augmentations embed format split verbose""".split()  # noqa: SIM905 -- read as words
)


def prepare(scratch: Path) -> None:
    """Set the environment that ultralytics reads when it is imported; call this first."""
    home = scratch / "home"
    os.environ |= {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "YOLO_CONFIG_DIR": str(home),
        "MPLCONFIGDIR": str(home / "matplotlib"),
        "MPLBACKEND": "Agg",
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        # Checkpoints are pickles: without this, untrusted weights could run code.
        "ULTRALYTICS_SAFE_LOAD": "true",
        "WANDB_MODE": "disabled",
    }
    config = home / "Ultralytics"
    config.mkdir(parents=True, exist_ok=True)
    import matplotlib as mpl  # noqa: PLC0415 -- it reads the environment

    font = Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    for name in ("Arial.ttf", "Arial.Unicode.ttf"):  # else ultralytics would download them
        shutil.copy(font, config / name)
    from ultralytics import settings  # noqa: PLC0415 -- as above

    off = ("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb", "vscode_msg")
    here = {"datasets_dir": "datasets", "weights_dir": "weights", "runs_dir": "runs"}
    settings.update({**dict.fromkeys(off, False), **{name: str(scratch / sub) for name, sub in here.items()}})


def model(contract: Contract) -> "YOLO":
    """Return the model of MODEL_NAME and CHECKPOINT_KEY.

    Raises:
        ConfigInvalidError: there is no such model, or its task is not supported.
    """
    from ultralytics import YOLO  # noqa: PLC0415 -- after ``prepare``
    from ultralytics.nn.tasks import yaml_model_load  # noqa: PLC0415

    name = contract.settings.model_name
    if contract.settings.checkpoint_key is not None or name.endswith(".pt"):
        return pretrained(contract)
    if not re.fullmatch(r"yolo[\w-]*\.ya?ml", name):
        raise ConfigInvalidError(
            f"MODEL_NAME={name!r} is neither a .yaml of ultralytics, such as yolo11n.yaml, nor a .pt file"
        )
    try:
        yaml_model_load(name)
    except (FileNotFoundError, OSError) as error:
        raise ConfigInvalidError(f"MODEL_NAME={name!r}: ultralytics has no such model; yolo11n.yaml is one") from error
    return _known(YOLO(name), name)


def pretrained(contract: Contract) -> "YOLO":
    """Return the model of CHECKPOINT_KEY, else of MODEL_NAME, with its weights. Raises: ConfigInvalidError."""
    from ultralytics import YOLO  # noqa: PLC0415 -- after ``prepare``

    path, source = weights.fetch(contract)
    try:
        return _known(YOLO(str(path)), source)
    except (TypeError, KeyError, AttributeError, RuntimeError, OSError, ValueError) as error:
        raise ConfigInvalidError(f"{source} holds no weights that ultralytics can load: {error}") from error


def load(path: Path) -> "YOLO":
    """Return the model of a checkpoint of this trainer."""
    from ultralytics import YOLO  # noqa: PLC0415 -- after ``prepare``

    return YOLO(str(path))


def content(path: Path) -> dict[str, Any] | None:
    """Return the content of a checkpoint of this trainer, or None if it cannot be read."""
    from ultralytics.nn.tasks import torch_safe_load  # noqa: PLC0415 -- after ``prepare``

    try:
        loaded: dict[str, Any] = torch_safe_load(str(path))[0]
    except Exception:
        log.exception("%s cannot be read", path.name)
        return None
    return loaded if "epoch" in loaded else None


def set_epochs(path: Path, checkpoint: dict[str, Any], epochs: int) -> None:
    """Set the number of epochs of a resumed training: ultralytics would use the checkpoint's."""
    import torch  # noqa: PLC0415 -- after ``prepare``

    if checkpoint["train_args"].get("epochs") != epochs:
        checkpoint["train_args"]["epochs"] = epochs
        torch.save(checkpoint, path)


def _known(loaded: "YOLO", name: str) -> "YOLO":
    if loaded.task not in TASKS:
        raise ConfigInvalidError(
            f"{name} is a model for {loaded.task}; this trainer supports {', '.join(sorted(TASKS))}"
        )
    return loaded


def options(settings: Settings) -> dict[str, Any]:
    """Return the keyword arguments of ``YOLO.train``. Raises: ConfigInvalidError."""
    chosen = {
        "epochs": settings.epochs,
        "batch": settings.batch_size,
        "imgsz": settings.image_size or 640,
        "seed": settings.seed,
        "workers": settings.workers,
        **hyperparameters(settings),
    }
    if settings.device:
        chosen["device"] = settings.device
    if settings.learning_rate is not None:
        # With the optimizer auto, ultralytics would choose the learning rate, too.
        chosen = {"optimizer": "AdamW", **chosen, "lr0": settings.learning_rate}
        if chosen["optimizer"] == "auto":
            raise ConfigInvalidError("HYPERPARAMETERS: optimizer=auto ignores LEARNING_RATE; name an optimizer")
    return checked(chosen)


def hyperparameters(settings: Settings) -> dict[str, Any]:
    """Return HYPERPARAMETERS. Raises: ConfigInvalidError; the message names the hyperparameter."""
    from ultralytics.utils import DEFAULT_CFG_DICT  # noqa: PLC0415 -- after ``prepare``

    for name in settings.hyperparameters:
        if name in OWN_VARIABLE:
            raise ConfigInvalidError(f"HYPERPARAMETERS: {name} is set by {OWN_VARIABLE[name]}")
        if name in REFUSED:
            raise ConfigInvalidError(f"HYPERPARAMETERS: a job cannot set {name}")
        if name not in DEFAULT_CFG_DICT:
            close = difflib.get_close_matches(name, DEFAULT_CFG_DICT, n=1)
            raise ConfigInvalidError(f"HYPERPARAMETERS: ultralytics has no {name}{f'; {close[0]}?' if close else ''}")
    return dict(settings.hyperparameters)


def checked(chosen: dict[str, Any]) -> dict[str, Any]:
    """Check the options by ultralytics, and return them. Raises: ConfigInvalidError."""
    from ultralytics.cfg import check_cfg  # noqa: PLC0415 -- after ``prepare``

    try:
        check_cfg(dict(chosen))
    except (TypeError, ValueError) as error:
        variable = next((own for name, own in OWN_VARIABLE.items() if f"'{name}=" in str(error)), "HYPERPARAMETERS")
        raise ConfigInvalidError(f"{variable}: {error}") from error
    optimizer = str(chosen.get("optimizer", "auto"))
    if optimizer.lower() not in {name.lower() for name in OPTIMIZERS}:
        raise ConfigInvalidError(f"HYPERPARAMETERS: optimizer={optimizer} is not one of {', '.join(OPTIMIZERS)}")
    return chosen
