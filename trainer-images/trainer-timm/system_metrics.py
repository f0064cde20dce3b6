"""Metrics of the machine that a training runs on, ``system/…``: GPUs, CPU, memory, and the wait for data."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TypeVar

import psutil

Batch = TypeVar("Batch")
Values = dict[str, float]
log = logging.getLogger("system")
PERIOD_SECONDS, GPU_SECONDS = 10.0, 1.0
SAMPLE_LIMIT = 3_600  # while the functions do not respond
CGROUPS = Path("/sys/fs/cgroup")


class SystemMetrics:
    """Measures in a thread of its own, so that a driver that hangs delays no training."""

    def __init__(self, device: str | None) -> None:
        self.data_wait = DataWait()
        self._samples, self._taken_at = deque[Values](maxlen=SAMPLE_LIMIT), time.monotonic()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")  # as it is now: ultralytics changes it
        threading.Thread(target=self._measure, args=[device, visible], name="system", daemon=True).start()

    def take(self) -> Values:
        """Return the metrics since the last call, at most every ten seconds: means of percentages, maxima of bytes."""
        now = time.monotonic()
        if now - self._taken_at < PERIOD_SECONDS:
            return {}
        self._taken_at = now
        columns: dict[str, list[float]] = {}
        samples = [self._samples.popleft() for _ in range(len(self._samples))]
        for values in [*samples, self.data_wait.take(now)]:
            for name, value in values.items():
                columns.setdefault(f"system/{name}", []).append(value)
        return {name: max(column) if name.endswith("_bytes") else fmean(column) for name, column in columns.items()}

    def _measure(self, device: str | None, visible: str | None) -> None:
        gpus, host, due = find_gpus(device, visible), Host(limited_cgroup()), time.monotonic()
        while True:
            time.sleep(min(GPU_SECONDS, PERIOD_SECONDS) if gpus else PERIOD_SECONDS)
            for gpu in gpus:
                self._samples.append(gpu.sample())
            if time.monotonic() >= due:
                due = time.monotonic() + PERIOD_SECONDS
                with suppress(OSError, ValueError, psutil.Error):  # such as a process that has just ended
                    self._samples.append(host.sample())


class DataWait:
    """The share of the batch loop's time that is spent waiting for the next batch."""

    def __init__(self) -> None:
        # Seconds waited, seconds in the loop, since when (None: outside of it), and whether it waits. One tuple, which
        # another thread may read.
        self._state: tuple[float, float, float | None, bool] = 0.0, 0.0, None, False
        self._taken = 0.0, 0.0

    def begin(self) -> None:
        """Record that the loop starts to wait for a batch."""
        self._note(time.monotonic(), is_waiting=True)

    def end(self) -> None:
        """Record that the batch has arrived."""
        self._note(time.monotonic(), is_waiting=False)

    def leave(self) -> None:
        """Record that the loop has ended."""
        self._note(None, is_waiting=False)

    def of(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches, and measure."""
        try:
            self.begin()
            for batch in batches:
                self.end()
                yield batch
                self.begin()
        finally:
            self.leave()

    def take(self, now: float) -> Values:
        """Return the share since the last call, in percent; {} if there was no loop."""
        (waited, seconds), (waited_before, seconds_before) = self._until(now), self._taken
        self._taken = waited, seconds
        share = (waited - waited_before) / (seconds - seconds_before) if seconds > seconds_before else None
        return {} if share is None else {"data_wait_percent": 100 * share}

    def _note(self, now: float | None, *, is_waiting: bool) -> None:
        self._state = *self._until(now or time.monotonic()), now, is_waiting

    def _until(self, now: float) -> tuple[float, float]:
        waited, seconds, since, is_waiting = self._state
        passed = max(now - since, 0.0) if since is not None else 0.0
        return waited + (passed if is_waiting else 0.0), seconds + passed


class Host:
    """CPU and memory: of the container by its cgroup, or of this process and its children, such as data loaders."""

    def __init__(self, cgroup: Path | None) -> None:
        self._cgroup = cgroup
        self._cpus = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        quota = (cgroup / "cpu.max").read_text().split() if cgroup else ["max"]
        if quota[0] != "max":
            self._cpus = int(quota[0]) / int(quota[1])
        self._before = time.monotonic(), self._cpu_seconds(processes())

    def sample(self) -> Values:
        """Return the CPU time since the last call, in percent of the CPUs that may be used, and the memory."""
        now, (then, seconds_before) = time.monotonic(), self._before
        own = [] if self._cgroup else processes()
        seconds = self._cpu_seconds(own)
        self._before = now, seconds
        share = (seconds - seconds_before) / (now - then) / self._cpus if now > then else 0.0
        return {"cpu_percent": 100 * min(max(share, 0.0), 1.0), "ram_bytes": self._ram_bytes(own)}

    def _cpu_seconds(self, own: list[psutil.Process]) -> float:
        if self._cgroup:
            return read_table(self._cgroup / "cpu.stat")["usage_usec"] / 1e6
        seconds = 0.0
        for process in own:
            with suppress(psutil.Error):
                seconds += sum(process.cpu_times()[:4])  # with children that have ended
        return seconds

    def _ram_bytes(self, own: list[psutil.Process]) -> float:
        if self._cgroup:  # as Kubernetes counts it: without files that can be dropped from the cache
            cached = read_table(self._cgroup / "memory.stat")["inactive_file"]
            return int((self._cgroup / "memory.current").read_text()) - cached
        total = 0
        for process in own:
            with suppress(psutil.Error):
                info = process.memory_full_info()
                total += getattr(info, "pss", info.uss)  # a page that processes share counts once
        return total


def processes() -> list[psutil.Process]:
    """Return this process and all its descendants."""
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def limited_cgroup(proc: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> Path | None:
    """Return this process's cgroup (version 2) if it limits CPU or memory, as a container's may."""
    with suppress(OSError):
        paths = [line.removeprefix("0::/") for line in proc.read_text().splitlines() if line.startswith("0::/")]
        for folder in [root / path for path in paths if (root / path).is_dir()] or [root]:
            limits = [(folder / name).read_text().split()[0] for name in ("cpu.max", "memory.max")]
            return folder if any(limit != "max" for limit in limits) else None
    return None


def read_table(path: Path) -> dict[str, int]:
    """Return the numbers of a file that has a name and a number on each line."""
    return {name: int(number) for name, number in map(str.split, path.read_text().splitlines())}


class Gpu(NamedTuple):
    """A GPU, or a MIG instance of one."""

    name: str
    nvml: Any
    handle: Any

    def sample(self) -> Values:
        """Return what the driver reports; of a MIG instance that is only the memory."""
        values: Values = {}
        with suppress(self.nvml.NVMLError):
            values[f"{self.name}_percent"] = self.nvml.nvmlDeviceGetUtilizationRates(self.handle).gpu
        with suppress(self.nvml.NVMLError):
            values[f"{self.name}_memory_bytes"] = self.nvml.nvmlDeviceGetMemoryInfo(self.handle).used
        return values


def find_gpus(device: str | None, visible: str | None) -> list[Gpu]:
    """Return the GPUs that DEVICE names (None: the first) among those that CUDA_VISIBLE_DEVICES leaves (None: all)."""
    numbers = [int(word) for word in (device or "0").split(",") if word.strip().isdecimal()]
    if not numbers:
        return []
    try:
        import pynvml as nvml
    except ImportError:
        return []
    try:
        nvml.nvmlInit()
        handles = visible_handles(nvml, visible)
    except nvml.NVMLError as error:
        if not isinstance(error, (nvml.NVMLError_LibraryNotFound, nvml.NVMLError_DriverNotLoaded)):
            log.warning("no metrics of the GPU: %s", error)
        return []
    name = "gpu{}" if len(numbers) > 1 else "gpu"
    return [Gpu(name.format(number), nvml, handles[number]) for number in numbers if number < len(handles)]


def visible_handles(nvml: Any, visible: str | None) -> list[Any]:
    """Return the GPUs in CUDA's order; of one with MIG its first instance. Raises: NVMLError."""
    gpus = [instances(nvml, number) for number in range(nvml.nvmlDeviceGetCount())]
    if visible is None:
        return [gpu[0] for gpu in gpus if gpu]
    handles: list[Any] = []
    for word in map(str.strip, visible.split(",")):
        named = [handle for gpu in gpus for handle in gpu if word and nvml.nvmlDeviceGetUUID(handle).startswith(word)]
        chosen = gpus[int(word)] if word.isdecimal() and int(word) < len(gpus) else named
        if not chosen:
            break  # as CUDA does: nothing after an entry that does not exist is visible
        handles.append(chosen[0])
    return handles


def instances(nvml: Any, number: int) -> list[Any]:
    """Return a GPU's MIG instances, the GPU itself if it has none, or [] if this container may not use it."""
    with suppress(nvml.NVMLError):
        gpu, parts = nvml.nvmlDeviceGetHandleByIndex(number), list[Any]()
        with suppress(nvml.NVMLError):  # a GPU without MIG
            for instance in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
                with suppress(nvml.NVMLError):
                    parts.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, instance))
        return parts or [gpu]
    return []
