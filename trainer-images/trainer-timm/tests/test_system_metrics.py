"""Metrics of the machine: GPUs by a stub of NVML, since this machine may have none; all else for real."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from fixtures_storage import eventually

import system_metrics
from system_metrics import DataWait, Host, SystemMetrics, find_gpus, limited_cgroup

MIB = 1 << 20


class NVMLError(Exception):
    """As NVML's."""


class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801, N818 -- NVML's name
    """As NVML's, without a driver."""


class NVMLError_DriverNotLoaded(NVMLError):  # noqa: N801, N818 -- NVML's name
    """As NVML's, without a driver."""


class Nvml(SimpleNamespace):
    """NVML with so many GPUs, some with MIG instances. A handle is a UUID."""

    NVMLError = NVMLError
    NVMLError_LibraryNotFound = NVMLError_LibraryNotFound
    NVMLError_DriverNotLoaded = NVMLError_DriverNotLoaded

    def __init__(
        self, count: int = 1, *, mig: dict[int, list[str]] | None = None, failure: Exception | None = None
    ) -> None:
        super().__init__(count=count, mig=mig or {}, failure=failure, refused=set[str]())

    def nvmlInit(self) -> None:  # noqa: N802 -- NVML's name, as below
        if self.failure:
            raise self.failure

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return int(self.count)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> str:  # noqa: N802
        self._check(f"GPU-{number}")
        return f"GPU-{number}"

    def nvmlDeviceGetUUID(self, handle: str) -> str:  # noqa: N802
        return f"{handle}-0000"

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: str) -> int:  # noqa: N802
        number = int(handle[-1])
        if number not in self.mig:
            raise NVMLError("Not Supported")
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: str, instance: int) -> str:  # noqa: N802
        names: list[str] = self.mig[int(handle[-1])]
        if instance >= len(names):
            raise NVMLError("Not Found")
        return names[instance]

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:  # noqa: N802
        self._check(handle)
        if handle.startswith("MIG"):
            raise NVMLError("Not Supported")
        return SimpleNamespace(gpu=90 + int(handle[-1]))

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:  # noqa: N802
        self._check(handle)
        return SimpleNamespace(used=1000 + int(handle[-1]))

    def _check(self, handle: str) -> None:
        if handle in self.refused:
            raise NVMLError("Insufficient Permissions")


def measured(monkeypatch: pytest.MonkeyPatch, nvml: Nvml, device: str | None, visible: str | None) -> dict[str, float]:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    values: dict[str, float] = {}
    for gpu in find_gpus(device, visible):
        values |= gpu.sample()
    return values


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        (None, None, {"gpu_percent": 90, "gpu_memory_bytes": 1000}),
        ("0", None, {"gpu_percent": 90, "gpu_memory_bytes": 1000}),
        ("1", None, {"gpu_percent": 91, "gpu_memory_bytes": 1001}),
        (
            "0,2",
            None,
            {"gpu0_percent": 90, "gpu0_memory_bytes": 1000, "gpu2_percent": 92, "gpu2_memory_bytes": 1002},
        ),
        (None, "2", {"gpu_percent": 92, "gpu_memory_bytes": 1002}),
        ("1", "2, 1", {"gpu_percent": 91, "gpu_memory_bytes": 1001}),
        (None, "GPU-1", {"gpu_percent": 91, "gpu_memory_bytes": 1001}),
        (None, "", {}),
        (None, "-1", {}),
        (None, "7,0", {}),  # as CUDA: nothing after what does not exist
        ("5", None, {}),
        ("cpu", None, {}),
        ("cpu,cpu", None, {}),
        ("mps", None, {}),
    ],
)
def test_the_gpus_are_those_of_device_among_the_visible_ones(
    monkeypatch: pytest.MonkeyPatch, device: str | None, visible: str | None, expected: dict[str, float]
) -> None:
    assert measured(monkeypatch, Nvml(3), device, visible) == expected


@pytest.mark.parametrize(
    ("visible", "memory"), [(None, 1003), ("0", 1003), ("MIG-4", 1004), ("GPU-1", 1001), ("1", 1001)]
)
def test_of_a_mig_instance_the_memory_is_measured(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, memory: int
) -> None:
    values = measured(monkeypatch, Nvml(2, mig={0: ["MIG-3", "MIG-4"]}), None, visible)

    assert values["gpu_memory_bytes"] == memory
    assert ("gpu_percent" in values) == (memory == 1001)


def test_a_gpu_that_this_container_may_not_use_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml(2)
    nvml.refused.add("GPU-0")

    assert measured(monkeypatch, nvml, None, None) == {"gpu_percent": 91, "gpu_memory_bytes": 1001}


def test_a_gpu_that_is_lost_has_no_metrics_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    (gpu,) = find_gpus(None, None)
    nvml.refused.add("GPU-0")

    assert gpu.sample() == {}


@pytest.mark.parametrize(
    ("error", "is_logged"),
    [
        (NVMLError_LibraryNotFound("NVML Shared Library Not Found"), False),
        (NVMLError_DriverNotLoaded("Driver Not Loaded"), False),
        (NVMLError("Insufficient Permissions"), True),
    ],
)
def test_a_driver_that_fails_is_logged_and_one_that_is_not_there_is_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, *, is_logged: bool
) -> None:
    assert measured(monkeypatch, Nvml(failure=error), None, None) == {}
    assert ("Insufficient Permissions" in caplog.text) == is_logged


def test_without_the_package_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # an import of it fails

    assert find_gpus(None, None) == []


def test_the_package_itself_has_every_name_that_is_used() -> None:
    names = [name for name in dir(Nvml) if name.startswith(("nvml", "NVML"))]

    assert "nvmlInit" in names
    assert [name for name in names if not hasattr(pynvml, name)] == []
    assert issubclass(pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError)


def cgroup(folder: Path, *, cpu_max: str = "max 100000", memory_max: str = "max") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "cpu.max": cpu_max,
        "memory.max": memory_max,
        "cpu.stat": "usage_usec 1000000\nuser_usec 900000",
        "memory.current": str(300 * MIB),
        "memory.stat": f"anon 1\ninactive_file {100 * MIB}\nactive_file 5",
    }
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")
    return folder


@pytest.mark.parametrize(
    ("limits", "is_container"),
    [({}, False), ({"cpu_max": "200000 100000"}, True), ({"memory_max": "1000000"}, True)],
)
def test_a_cgroup_counts_as_a_container_if_it_has_a_limit(
    tmp_path: Path, limits: dict[str, str], *, is_container: bool
) -> None:
    proc = tmp_path / "proc"
    for path in ("", "user.slice/a.scope"):
        folder = cgroup(tmp_path / "root" / path, **limits)
        proc.write_text(f"4:memory:/other\n0::/{path}\n")
        assert limited_cgroup(proc, tmp_path / "root") == (folder if is_container else None)


def test_without_cgroups_of_version_2_there_is_no_container(tmp_path: Path) -> None:
    assert limited_cgroup(tmp_path / "none", tmp_path) is None
    (tmp_path / "proc").write_text("4:memory:/other\n0::/\n")
    assert limited_cgroup(tmp_path / "proc", tmp_path) is None


def test_a_container_is_measured_by_its_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 110.0])
    monkeypatch.setattr(system_metrics, "time", SimpleNamespace(monotonic=lambda: next(now)))
    host = Host(cgroup(tmp_path, cpu_max="200000 100000"))
    (tmp_path / "cpu.stat").write_text("usage_usec 6000000\n")

    # 5 seconds of CPU in 10 seconds on 2 CPUs; without the files that the cache can drop.
    assert host.sample() == {"cpu_percent": 25, "ram_bytes": 200 * MIB}


@contextmanager
def child(code: str) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_without_a_container_the_children_count_as_well() -> None:
    host = Host(None)
    before = host.sample()["ram_bytes"]
    assert before > 10 * MIB

    with child(f"content = bytearray(b'x' * {300 * MIB})\nwhile True: pass"):
        eventually(lambda: host.sample()["ram_bytes"] > before + 250 * MIB)
        eventually(lambda: 0 < host.sample()["cpu_percent"] <= 100)


def test_the_wait_for_data_is_a_share_of_the_loop_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(system_metrics, "time", SimpleNamespace(monotonic=lambda: now[0]))
    wait = DataWait()

    def loader() -> Iterator[int]:
        for number in range(2):
            now[0] += 3.0  # until the batch is there
            yield number

    assert wait.take(now[0]) == {}
    now[0] = 50.0
    for _ in wait.of(loader()):
        now[0] += 1.0  # the step
    now[0] += 500.0  # not in the loop

    assert wait.take(now[0]) == {"data_wait_percent": 75}
    assert wait.take(now[0]) == {}


def test_a_wait_for_a_batch_is_measured_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_metrics, "time", SimpleNamespace(monotonic=lambda: 10.0))
    wait = DataWait()
    wait.begin()

    assert wait.take(40.0) == {"data_wait_percent": 100}
    assert wait.take(60.0) == {"data_wait_percent": 100}


def test_measurements_are_taken_once_and_not_more_often_than_the_period(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_metrics, "PERIOD_SECONDS", 0.2)
    system = SystemMetrics("cpu")
    assert system.take() == {}

    taken: list[dict[str, float]] = []

    def take() -> bool:
        taken.append(system.take())
        return bool(taken[-1])

    eventually(take)
    assert set(taken[-1]) == {"system/cpu_percent", "system/ram_bytes"}
    assert system.take() == {}
