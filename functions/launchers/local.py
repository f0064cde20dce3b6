"""The local launcher: one subprocess per job, in the trainer's own environment, that outlives the functions.

Each launch has its own folder below ``LOCAL_RUNS_DIR``::

    {job_id}/{launch}/alive.lock     locked while the supervisor lives: the kernel releases it, unlike a stale pid
                      process.json   the supervisor's and the trainer's pids
                      exit.json      the trainer's exit code, once it has ended
                      paused         exists if the trainer was stopped with the stack and will be started again
                      trainer.log    the trainer's output
                      scratch/       the trainer's working folder, removed when it ends

``.open/{job_id}.{launch}`` names each launch that may be alive, so that the ended ones need not be searched.
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

from functions.domain.errors import ConfigurationError
from functions.domain.states import Reason, reason_of_exit
from functions.launchers.base import (
    MESSAGE_LENGTH,
    LaunchRejectedError,
    Phase,
    Status,
    message_of_exit,
    task_of,
    trainer_of,
)
from functions.launchers.supervisor import write
from functions.runtime.settings import settings
from functions.store.tables import Job

#: as much as Kubernetes keeps of a failed container's log
_LOG_END_BYTES = 2048
_PAUSED = "paused"
_children: list[subprocess.Popen[bytes]] = []


class Local:
    """The ``Launcher`` of a laptop; all its state is in files, so that any process can continue another's work."""

    def submit(self, job: Job, environment: dict[str, str]) -> Status:
        """Start this launch unless it was started before, or queue it behind older jobs if no slot is free."""
        command = _command(job, environment)
        run = _run(job)
        run.mkdir(parents=True, exist_ok=True)
        with _locked(_runs() / "submit.lock"):
            status = self.inspect(job)
            if status.phase in {Phase.RUNNING, Phase.ENDED}:
                return status
            ticket, limit = _ticket(job), settings().local_job_limit
            is_repeated = ticket.exists()
            ticket.touch()
            if replaced := _replaced(job):
                for check in replaced if is_repeated else ():  # it had time to exit since the submission before
                    _stop(check)
                return Status(Phase.WAITING, "waits for its check to exit")
            older = sum(name < ticket.name for name in os.listdir(ticket.parent))  # noqa: PTH208 -- only names are needed
            if older >= limit - len(_remove_ended()):
                behind = f", behind {older} older job{'s' if older > 1 else ''}" if older else ""
                return Status(Phase.WAITING, f"waits for a free slot (LOCAL_JOB_LIMIT={limit}){behind}")
            ticket.unlink()  # before the start: a job that cannot be started must not block those behind it
            _clear_pause(run)
            (_open() / f"{job.id}.{job.launch}").touch()
            _start(run, command, environment)
        return Status(Phase.RUNNING, status.message if status.reason else None)

    def renew(self, job: Job, credentials: dict[str, str]) -> None:
        """Do nothing: a launch starts only one process, when it is submitted."""

    def stop(self, job_id: str) -> None:
        """Send SIGTERM, and leave the grace and SIGKILL to the supervisor; remove a waiting job from the queue."""
        for ticket in _waiting().glob(f"*.{job_id}.*"):
            ticket.unlink(missing_ok=True)
        for run in _runs().glob(f"{job_id}/*/"):
            _stop(run)

    def pause(self, job_id: str) -> None:
        """Stop a trainer without failing its job: the launch then waits until it is submitted again."""
        for run in _runs().glob(f"{job_id}/*/"):
            if _is_alive_run(run):
                (run / _PAUSED).touch()
        self.stop(job_id)

    def paused(self) -> set[str]:
        """Return the jobs that were paused and have not been submitted since."""
        return {run.parent.name for run in _open_runs() if (run / _PAUSED).exists()}

    def inspect(self, job: Job) -> Status:
        """Return the status of this launch from its lock and files."""
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
            return Status(Phase.RUNNING, "its supervisor has disappeared")
        return Status(Phase.ENDED, "the trainer and its supervisor have disappeared", reason_of_exit(-9))

    def list(self) -> set[str]:
        """Return the jobs with a live supervisor or trainer, and those that wait for a slot."""
        return self.running() | {ticket.name.split(".")[1] for ticket in _waiting().iterdir()}

    def running(self) -> set[str]:
        """Return the jobs with a live supervisor or trainer."""
        return {run.parent.name for run in _open_runs() if _is_alive_run(run)}


def _end(run: Path, ended: dict[str, Any]) -> Status:
    """Return the status of a launch whose process has ended, from the supervisor's exit.json."""
    if "error" in ended:
        failure = f"its trainer could not be started: {ended['error']}"[:MESSAGE_LENGTH]
        if ended["is_final"]:  # until the operator corrects it: the job stays open, and each submission tries again
            return Status(Phase.WAITING, failure, Reason.LAUNCH_REJECTED)
        return Status(Phase.ENDED, failure, Reason.LOST)
    return Status(Phase.ENDED, message_of_exit(ended["code"], _log_end(run)), reason_of_exit(ended["code"]))


def _command(job: Job, environment: dict[str, str]) -> list[str]:
    """Return the trainer's command. Raises ConfigurationError if it is not configured or not installed."""
    task = task_of(job)
    command = trainer_of(job).command.get(task, [])
    if not command:
        raise ConfigurationError(f"TRAINERS: the trainer {job.framework} has no command for the task {task}")
    missing = [word for word in command if word.startswith("/") and not Path(word).exists()]
    if missing:
        raise ConfigurationError(
            f"the trainer {job.framework} is not set up: {missing[0]} is missing; run `./taskw setup`"
        )
    if shutil.which(command[0], path=(_base() | environment)["PATH"]) is None:
        raise ConfigurationError(f"the trainer {job.framework} is not set up: {command[0]} is not executable")
    return command


def _base() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}


def _start(run: Path, command: list[str], environment: dict[str, str]) -> None:
    scratch = run / "scratch"
    scratch.mkdir(exist_ok=True)
    own = _base() | {"HOME": str(scratch), "TMPDIR": str(scratch)}
    supervisor = [sys.executable, "-m", "functions.launchers.supervisor", str(run), str(settings().stop_grace_seconds)]
    with (run / "alive.lock").open("w") as lock, (run / "trainer.log").open("ab") as output:
        # The supervisor inherits the locked file, so it is never seen running without the lock.
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
    # Reap the supervisors that have ended, so that none stays a zombie.
    _children[:] = [child, *(running for running in _children if running.poll() is None)]


@contextmanager
def _rejections() -> Iterator[None]:
    """Convert permanent start errors to LaunchRejectedError; re-raise all others, which a retry may resolve."""
    try:
        yield
    except ValueError as error:  # a NUL character, or a variable without a name
        raise LaunchRejectedError(f"its environment cannot be passed to a process: {error}") from error
    except OSError as error:
        if error.errno == errno.E2BIG:
            raise LaunchRejectedError(
                "its command and environment are larger than this system allows; use fewer hyperparameters"
            ) from error
        raise


def _stop(run: Path) -> None:
    is_first = not (run / "stop.json").exists()
    if is_first:
        # Before the signal: a supervisor that has not written its pid yet checks for this file after doing so.
        write(run / "stop.json", {"at": time.time()})
    process = _read(run / "process.json")
    if process is not None and _is_locked(run / "alive.lock"):
        _signal(process["supervisor_pid"], signal.SIGTERM)
    elif process is not None and _is_alive(process) and is_first:
        _signal(process["trainer_pid"], signal.SIGTERM)
    elif process is not None and _is_alive(process) and _grace_is_over(run):
        os.killpg(process["trainer_pid"], signal.SIGKILL)


def _replaced(job: Job) -> list[Path]:
    """Return a job's earlier launches that are alive: a check that has reported its end, and does not exit at once."""
    return [run for run in _runs().glob(f"{job.id}/*/") if run.name != str(job.launch) and _is_alive_run(run)]


def _clear_pause(run: Path) -> None:
    """Remove the files of a paused launch's process; ``paused`` last, because without it the launch has ended."""
    for name in ("exit.json", "stop.json", "process.json", _PAUSED):
        (run / name).unlink(missing_ok=True)


def _grace_is_over(run: Path) -> bool:
    stopped = _read(run / "stop.json")
    return stopped is not None and time.time() - stopped["at"] > settings().stop_grace_seconds


def _log_end(run: Path) -> str:
    """Return the end of a launch's log; empty if the log was removed."""
    try:
        with (run / "trainer.log").open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _LOG_END_BYTES))
            return log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def log_of(job_id: str, launch: int) -> Path | None:
    """Return the file with a launch's output, if it exists."""
    path = Path(settings().local_runs_dir).absolute() / job_id / str(launch) / "trainer.log"
    return path if path.is_file() else None


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


def _ticket(job: Job) -> Path:
    """Return the file that represents a waiting launch; sorting by name sorts by the jobs' age."""
    return _waiting() / f"{int(job.created_at.timestamp() * 1_000_000):020d}.{job.id}.{job.launch}"


def _open() -> Path:
    """Return the folder that lists the launches which may be alive."""
    folder = _runs() / ".open"
    if not folder.exists():  # an earlier release without this folder made these runs
        part = Path(tempfile.mkdtemp(prefix=".open-", dir=_runs()))
        for run in filter(_is_alive_run, _runs().glob("*/*/")):
            (part / f"{run.parent.name}.{run.name}").touch()
        try:
            part.rename(folder)
        except OSError:  # another process was first
            shutil.rmtree(part)
    return folder


def _open_runs() -> Iterator[Path]:
    for name in os.listdir(_open()):  # noqa: PTH208 -- only names are needed
        job_id, _, launch = name.rpartition(".")
        yield _runs() / job_id / launch


def _remove_ended() -> list[Path]:
    """Remove ended launches from ``.open``, and return the live ones. The caller must hold ``submit.lock``."""
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
    # A pid is reused; a pid together with its start time is unique.
    try:
        trainer = psutil.Process(process["trainer_pid"])
        return abs(trainer.create_time() - process["trainer_created"]) < 1 and trainer.status() != psutil.STATUS_ZOMBIE
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
            # A shared lock, so that two concurrent checks do not mistake each other for a supervisor.
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
