"""The local launcher: a subprocess a job, in the trainer's own environment, that outlives the functions.

Below ``LOCAL_RUNS_DIR``, each launch has a folder of its own::

    {job_id}/{launch}/alive.lock     locked for as long as the supervisor lives: the kernel's word, no pid to mistake
                      process.json   the supervisor's and the trainer's pids
                      exit.json      the trainer's exit code, once it has ended
                      paused         it was stopped together with the stack, and is to be started again
                      trainer.log    what it printed
                      scratch/       its working folder, removed at its end

and ``.open/{job_id}.{launch}`` names each launch that may be alive, so that nobody looks through those that have ended.
``.waiting/{created_at}.{job_id}.{launch}`` names each launch that waits for a slot: the oldest job gets the next one.
"""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from functions.domain.states import Reason, reason_of_exit
from functions.launchers.base import LaunchRejectedError, Phase, Status, message_of_exit, trainer_of
from functions.launchers.supervisor import write
from functions.runtime.settings import settings
from functions.store.tables import Job

#: as much as Kubernetes keeps of a container that failed
_LOG_END_BYTES = 2048
_PAUSED = "paused"
_children: list[subprocess.Popen[bytes]] = []


class Local:
    """The ``Launcher`` of a laptop; all its state is in files, so any process can go on from another's."""

    def submit(self, job: Job, environment: dict[str, str]) -> Status:
        """Start this launch, unless it has been started; or let it wait for a slot, behind older jobs that wait."""
        command = _command(job, environment)
        run = _run(job)
        run.mkdir(parents=True, exist_ok=True)
        with _locked(_runs() / "submit.lock"):
            status = self.inspect(job)
            if status.phase in {Phase.RUNNING, Phase.ENDED}:
                return status
            place, limit = _place(job), settings().local_job_limit
            place.touch()
            older = sum(name < place.name for name in os.listdir(place.parent))  # noqa: PTH208 -- names are all that is wanted
            if older >= limit - len(_forget_ended()):
                behind = f", behind {older} older job{'s' if older > 1 else ''}" if older else ""
                return Status(Phase.WAITING, f"waits for one of {limit} slots{behind}")
            place.unlink()  # first: a job that cannot be started must not keep its place before those that can
            _forget_pause(run)
            (_open() / f"{job.id}.{job.launch}").touch()
            _start(run, command, environment)
        return Status(Phase.RUNNING)

    def renew(self, job: Job, credentials: dict[str, str]) -> None:
        """Do nothing: a launch starts one process, in the moment that it is submitted."""

    def stop(self, job_id: str) -> None:
        """Send SIGTERM; the supervisor sees to the grace and the SIGKILL. A job that waits, waits no longer."""
        for place in _waiting().glob(f"*.{job_id}.*"):
            place.unlink(missing_ok=True)
        for run in _runs().glob(f"{job_id}/*/"):
            is_first = not (run / "stop.json").exists()
            if is_first:
                # Before the signal: a supervisor that has not written its pid yet looks for it afterwards.
                write(run / "stop.json", {"at": time.time()})
            process = _read(run / "process.json")
            if process is not None and _is_locked(run / "alive.lock"):
                _signal(process["supervisor_pid"], signal.SIGTERM)
            elif process is not None and _is_alive(process) and is_first:
                _signal(process["trainer_pid"], signal.SIGTERM)
            elif process is not None and _is_alive(process) and _grace_is_over(run):
                os.killpg(process["trainer_pid"], signal.SIGKILL)

    def pause(self, job_id: str) -> None:
        """Stop a trainer through no fault of its job: this launch waits from then on, to be submitted again."""
        for run in _runs().glob(f"{job_id}/*/"):
            if _is_alive_run(run):
                (run / _PAUSED).touch()
        self.stop(job_id)

    def paused(self) -> set[str]:
        """Return the jobs that were paused, and not submitted since."""
        return {run.parent.name for run in _open_runs() if (run / _PAUSED).exists()}

    def inspect(self, job: Job) -> Status:
        """Return where this launch is, by its lock and its files."""
        run = _run(job)
        if _is_locked(run / "alive.lock"):
            return Status(Phase.RUNNING)
        if (run / _PAUSED).exists() and not _orphan(run):
            return Status(Phase.WAITING, "waits to go on: its trainer was stopped together with the stack")
        ended, process = _read(run / "exit.json"), _read(run / "process.json")
        if ended is not None:
            return _end(run, ended)
        if process is None:
            return Status(Phase.WAITING if run.exists() else Phase.ABSENT)
        if _is_alive(process):
            return Status(Phase.RUNNING, "its supervisor is gone")
        return Status(Phase.ENDED, "the trainer and its supervisor are gone without a trace", reason_of_exit(-9))

    def list(self) -> set[str]:
        """Return the jobs with a supervisor or a trainer alive, and those that wait for a slot."""
        return self.running() | {place.name.split(".")[1] for place in _waiting().iterdir()}

    def running(self) -> set[str]:
        """Return the jobs with a supervisor or a trainer alive."""
        return {run.parent.name for run in _open_runs() if _is_alive_run(run)}


def _end(run: Path, ended: dict[str, Any]) -> Status:
    """Return what the supervisor has written about the end of a launch."""
    if "error" in ended:
        reason = Reason.LAUNCH_REJECTED if ended["is_final"] else Reason.LOST
        return Status(Phase.ENDED, f"its trainer could not be started: {ended['error']}", reason)
    return Status(Phase.ENDED, message_of_exit(ended["code"], _printed(run)), reason_of_exit(ended["code"]))


def _command(job: Job, environment: dict[str, str]) -> list[str]:
    """Return the trainer's command. Raises LaunchRejectedError: there is none, or it is not installed."""
    command = trainer_of(job).command.get(job.task, [])
    if not command:
        raise LaunchRejectedError(f"the trainer {job.framework} has no command for the task {job.task} in TRAINERS")
    missing = [word for word in command if word.startswith("/") and not Path(word).exists()]
    if missing:
        raise LaunchRejectedError(
            f"the trainer {job.framework} is not set up: {missing[0]} is missing; run `./taskw setup`"
        )
    if shutil.which(command[0], path=(_base() | environment)["PATH"]) is None:
        raise LaunchRejectedError(f"the trainer {job.framework} is not set up: {command[0]} is no program that can run")
    return command


def _base() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}


def _start(run: Path, command: list[str], environment: dict[str, str]) -> None:
    scratch = run / "scratch"
    scratch.mkdir(exist_ok=True)
    own = _base() | {"HOME": str(scratch), "TMPDIR": str(scratch)}
    supervisor = [sys.executable, "-m", "functions.launchers.supervisor", str(run), str(settings().stop_grace_seconds)]
    with (run / "alive.lock").open("w") as lock, (run / "trainer.log").open("ab") as output:
        # Locked here and handed on: there is no moment at which a started supervisor is not locked.
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _rejections():
            child = subprocess.Popen(  # noqa: S603 -- the operator's own command
                [*supervisor, str(lock.fileno()), *command],
                cwd=scratch,
                env=own | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=(lock.fileno(),),
            )
    # The ended ones are reaped here, so that none stays a zombie.
    _children[:] = [child, *(one for one in _children if one.poll() is None)]


@contextmanager
def _rejections() -> Iterator[None]:
    """Turn what can never be started into a LaunchRejectedError; other errors may pass, and are raised on."""
    try:
        yield
    except ValueError as error:  # a NUL character, or a variable without a name
        raise LaunchRejectedError(f"its environment cannot be handed to a process: {error}") from error
    except OSError as error:
        if error.errno == errno.E2BIG:
            raise LaunchRejectedError(
                "its command and environment are larger than this system hands to a process; use fewer hyperparameters"
            ) from error
        raise


def _forget_pause(run: Path) -> None:
    """Remove what the process of a paused launch has left; the mark last, because without it the launch has ended."""
    for name in ("exit.json", "stop.json", "process.json", _PAUSED):
        (run / name).unlink(missing_ok=True)


def _grace_is_over(run: Path) -> bool:
    stopped = _read(run / "stop.json")
    return stopped is not None and time.time() - stopped["at"] > settings().stop_grace_seconds


def _printed(run: Path) -> str:
    """Return the end of a launch's log, if nobody has removed it."""
    try:
        with (run / "trainer.log").open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _LOG_END_BYTES))
            return log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _runs() -> Path:
    runs = Path(settings().local_runs_dir).absolute()
    runs.mkdir(parents=True, exist_ok=True)
    return runs


def _run(job: Job) -> Path:
    return _runs() / job.id / str(job.launch)


def _waiting() -> Path:
    folder = _runs() / ".waiting"
    folder.mkdir(exist_ok=True)
    return folder


def _place(job: Job) -> Path:
    """Return the file that names a launch while it waits; files in the order of their names are jobs by their age."""
    return _waiting() / f"{int(job.created_at.timestamp() * 1_000_000):020d}.{job.id}.{job.launch}"


def _open() -> Path:
    """Return the folder that names the launches which may be alive."""
    folder = _runs() / ".open"
    if not folder.exists():  # these runs are of a release that had none
        part = Path(tempfile.mkdtemp(prefix=".open-", dir=_runs()))
        for run in filter(_is_alive_run, _runs().glob("*/*/")):
            (part / f"{run.parent.name}.{run.name}").touch()
        try:
            part.rename(folder)
        except OSError:  # another was quicker
            shutil.rmtree(part)
    return folder


def _open_runs() -> Iterator[Path]:
    for name in os.listdir(_open()):  # noqa: PTH208 -- names are all that is wanted
        job_id, _, launch = name.rpartition(".")
        yield _runs() / job_id / launch


def _forget_ended() -> list[Path]:
    """Take those that have ended out of ``.open``, and return those that are alive; only under the lock of submit."""
    alive = []
    for run in _open_runs():
        if _is_alive_run(run):
            alive.append(run)
        else:
            (_open() / f"{run.parent.name}.{run.name}").unlink(missing_ok=True)
    return alive


def _is_alive_run(run: Path) -> bool:
    return _is_locked(run / "alive.lock") or _orphan(run)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return content


def _orphan(run: Path) -> bool:
    process = _read(run / "process.json")
    return process is not None and not (run / "exit.json").exists() and _is_alive(process)


def _is_alive(process: dict[str, Any]) -> bool:
    # A pid comes again; a pid with its start time does not.
    try:
        found = psutil.Process(process["trainer_pid"])
        return abs(found.create_time() - process["trainer_created"]) < 1 and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _is_locked(path: Path) -> bool:
    try:
        with path.open("r+") as lock:
            # Shared, so that two who look at once do not take each other for a supervisor.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
