"""The devices of a training: one, or several with a process each, which connect as torchrun's do."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from utils import ConfigInvalidError, Contract, TrainerError

if TYPE_CHECKING:
    import torch

    from options import Options

JOIN_SECONDS = 300.0
_LEAVE_SECONDS = 5.0
_RANK, _FOLDER, _DEVICE = "RANK", "TRAINING_FOLDER", "TRAINING_DEVICE"


class GpuMemoryError(TrainerError):
    """The batch does not fit into the GPU's memory."""

    reason = "oom_gpu"


class DistributedContext(NamedTuple):
    """One process of a training: its rank among ``world``, its device, and the shared folder."""

    rank: int
    world: int
    name: str
    folder: Path

    @property
    def device(self) -> "torch.device":
        """The device."""
        import torch

        return torch.device(self.name)


def contexts(requested: str | None, folder: Path) -> list[DistributedContext]:
    """Return a context for each device in DEVICE; without DEVICE, one for the first GPU, or else for the CPU.

    Raises:
        ConfigInvalidError: a device does not exist.
    """
    import torch

    if not requested:
        return [DistributedContext(0, 1, "cuda:0" if torch.cuda.is_available() else "cpu", folder)]
    names = [word.strip() for word in requested.split(",")]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for name in names:
        if name.isdecimal() and int(name) >= count:
            raise ConfigInvalidError(f"DEVICE={requested!r}: there is no GPU {name}; {count} are visible")
        if not re.fullmatch(r"\d+|cpu|mps", name):
            raise ConfigInvalidError(f"DEVICE={requested!r}: use cpu, mps, or GPU numbers such as 0,1")
    if "mps" in names and (len(names) > 1 or not torch.backends.mps.is_available()):
        raise ConfigInvalidError(f"DEVICE={requested!r}: mps is one device, of a Mac")
    return [
        DistributedContext(rank, len(names), f"cuda:{name}" if name.isdecimal() else name, folder)
        for rank, name in enumerate(names)
    ]


@contextmanager
def followers(contexts: list[DistributedContext], contract: Contract) -> Iterator[None]:
    """Run the processes of all ranks but 0 until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), _FOLDER: str(contract.scratch)}
    os.environ |= shared
    # Only rank 0 calls back and stores; the others do not get the secrets.
    secret = re.compile(r"CALLBACK_TOKEN|.*(SECRET|ACCESS_KEY)")
    environment = {name: value for name, value in os.environ.items() if not secret.match(name)}
    processes = [
        subprocess.Popen(  # noqa: S603 -- this script
            [sys.executable, sys.argv[0]],
            env=environment | {_RANK: str(context.rank), "WORLD_SIZE": str(context.world), _DEVICE: context.name},
        )
        for context in contexts[1:]
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait(_LEAVE_SECONDS)


def is_follower() -> bool:
    """Return whether ``followers`` started this process."""
    return int(os.environ.get(_RANK, "0")) > 0


def of_environment(env: Mapping[str, str]) -> DistributedContext:
    """Return the context of a process that ``followers`` started."""
    return DistributedContext(int(env[_RANK]), int(env["WORLD_SIZE"]), env[_DEVICE], Path(env[_FOLDER]))


def join(context: DistributedContext) -> "torch.device":
    """Connect to the other processes, if there are any; return the device."""
    import torch

    # Deterministic results, where torch supports them.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    if context.device.type == "cuda":
        torch.cuda.set_device(context.device)
    if context.world > 1:
        torch.distributed.init_process_group(
            "nccl" if context.device.type == "cuda" else "gloo",
            rank=context.rank,
            world_size=context.world,
            timeout=timedelta(seconds=JOIN_SECONDS),
        )
    return context.device


def autocast(options: "Options", device: "torch.device") -> Any:
    """Return the autocast context for a forward pass."""
    import torch

    if not options.amp:
        return nullcontext()
    is_half = options.amp_dtype == "float16" and device.type == "cuda"
    return torch.autocast(device.type, dtype=torch.float16 if is_half else torch.bfloat16)


def all_reduced(*values: "torch.Tensor", context: DistributedContext) -> tuple["torch.Tensor", ...]:
    """Return each tensor's sum over all processes."""
    import torch

    if context.world > 1:
        for value in values:
            torch.distributed.all_reduce(value)
    return values


def wait_for_all(context: DistributedContext) -> None:
    """Wait until all processes reach this call."""
    import torch

    if context.world > 1:
        torch.distributed.barrier()


def gathered(own: "torch.Tensor", context: DistributedContext) -> "torch.Tensor":
    """Concatenate the columns of all processes; ``own`` has this process's, whose length may differ."""
    import torch

    if context.world == 1:
        return own
    parts: list[torch.Tensor | None] = [None] * context.world
    torch.distributed.all_gather_object(parts, own.cpu())
    return torch.cat([part for part in parts if part is not None], dim=1)


def mean(total: "torch.Tensor", count: int, context: DistributedContext) -> float:
    """Return the mean over all processes; ``total`` and ``count`` are those of this process."""
    import torch

    total, seen = all_reduced(total, torch.tensor(count, device=total.device), context=context)
    return float(total) / max(int(seen), 1)


def translated(error: Exception) -> Exception:
    """Return the contract's error for an error of torch, or the error itself."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return GpuMemoryError(f"use a smaller BATCH_SIZE or IMAGE_SIZE: {str(error).splitlines()[0]}")
    if isinstance(error, torch.distributed.DistError):
        return TrainerError(f"the processes lost each other: {str(error).splitlines()[0]}")
    return error
