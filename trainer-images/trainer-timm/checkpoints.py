"""Write and read last.pt, for resuming, and best.pt, for predictions.

Both hold only tensors and plain values, and are read with ``weights_only``: a checkpoint cannot run code.
"""

import logging
from pathlib import Path
from typing import Any

import torch

import devices
from state import Run
from utils import ConfigInvalidError, Contract

log = logging.getLogger("checkpoints")


def write(run: Run, about: dict[str, Any]) -> None:
    """Write last.pt, and best.pt if the last epoch is the best."""
    if run.is_best():
        best = run.ema.module if run.ema is not None else run.model
        content = about | {"state_dict": best.state_dict(), "epoch": run.epoch, "metrics": run.history[-1]}
        _write(run.context.folder / "best.pt", content)
    _write(run.context.folder / "last.pt", about | _state(run))


def store(contract: Contract, *, now: bool = False) -> None:
    """Store the checkpoints; best.pt first, since last.pt refers to it."""
    paths = [contract.scratch / name for name in ("best.pt", "last.pt")]
    contract.save_checkpoint(*(path for path in paths if path.exists()), now=now)


def _state(run: Run) -> dict[str, Any]:
    return {
        "epoch": run.epoch,
        "history": run.history,
        "state_dict": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "state_dict_ema": run.ema.module.state_dict() if run.ema is not None else None,
        "scheduler": run.scheduler.state_dict() if run.scheduler is not None else None,
        "scaler": run.scaler.state_dict() if run.scaler is not None else None,
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write a file atomically."""
    part = path.with_suffix(".part")
    torch.save(content, part)
    part.rename(path)


def resume(run: Run, folder: Path, about: dict[str, Any]) -> None:
    """Load last.pt, and download best.pt.

    Raises:
        ConfigInvalidError: last.pt has another model or other classes.
    """
    content = read(folder / "last.pt")
    for name, what in (("model_name", "MODEL_NAME"), ("classes", "the dataset's classes")):
        if content[name] != about[name]:
            raise ConfigInvalidError(
                f"last.pt in storage is from another job: {what}: {content[name]} is not {about[name]}"
            )
    run.model.load_state_dict(content["state_dict"])
    run.optimizer.load_state_dict(content["optimizer"])
    for part, name in (
        (run.ema and run.ema.module, "state_dict_ema"),
        (run.scheduler, "scheduler"),
        (run.scaler, "scaler"),
    ):
        if part is not None and content[name] is not None:
            part.load_state_dict(content[name])
    run.epoch, run.history = content["epoch"], content["history"]
    if run.contract is not None:
        best = run.contract.scratch / "best.pt"
        if not run.contract.download(run.contract.key("checkpoints", "best.pt"), best):
            _write(best, about | {"state_dict": content["state_dict"], "epoch": run.epoch, "metrics": run.history[-1]})
        run.contract.event("log", f"resuming after epoch {run.epoch}", epoch=run.epoch)
        log.info("resuming after epoch %d", run.epoch)


def load_best(run: Run) -> None:
    """Load the weights of best.pt, which this or an earlier attempt wrote, into the model that is validated."""
    devices.wait_for_all(run.context)  # rank 0 may still be downloading it
    model = run.ema.module if run.ema is not None else run.model
    model.load_state_dict(read(run.context.folder / "best.pt")["state_dict"])


def read(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint of this trainer. Raises: ConfigInvalidError."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a pickle can fail in any way
        raise ConfigInvalidError(f"{path.name} cannot be read: {str(error).splitlines()[0]}") from error
    if (
        not isinstance(content, dict)
        or not {"model_name", "model_kwargs", "classes", "data_config", "state_dict"} <= content.keys()
    ):
        raise ConfigInvalidError(f"{path.name} is not a checkpoint of this trainer: use a best.pt that it stored")
    return content
