"""Supervises one local trainer: outlives the functions, enforces the stop grace, and writes the exit code.

``python -m functions.launchers.supervisor RUN_DIR GRACE_SECONDS LOCK_FD COMMAND…``; see the module ``local``.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

_CANNOT_EXECUTE = 127
_POLL_SECONDS = 0.5
#: errors of starting a program that persist until the operator corrects them
_FINAL = {
    errno.E2BIG, errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.ENOTDIR, errno.EISDIR, errno.ELOOP,
    errno.ENAMETOOLONG, errno.EINVAL,
}  # fmt: skip


def main(run: Path, grace_seconds: float, command: list[str]) -> None:
    """Run a trainer to its end."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopping.append(number))
    supervisor_pid = os.getpid()

    def write_pids() -> None:
        pids = {"supervisor_pid": supervisor_pid, "trainer_pid": os.getpid()}
        write(run / "process.json", pids | {"trainer_created": psutil.Process().create_time()})

    try:
        # The child writes its own pid before exec, while it still holds the lock. If the supervisor wrote it and died
        # first, the trainer would run unrecorded, and the launch would be started again.
        trainer = subprocess.Popen(command, start_new_session=True, preexec_fn=write_pids)  # noqa: S603, PLW1509 -- the operator's own command; no threads here
    except (OSError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)  # noqa: T201 -- into trainer.log
        is_final = getattr(error, "errno", None) in _FINAL
        write(run / "exit.json", {"code": _CANNOT_EXECUTE, "error": str(error), "is_final": is_final})
        return
    if (run / "stop.json").exists():
        stopping.append(signal.SIGTERM)
    while not stopping and _is_running_after(trainer, _POLL_SECONDS):
        pass
    if stopping:
        trainer.terminate()
        _is_running_after(trainer, grace_seconds)
    # Kill all that remains of the trainer's process group.
    with suppress(ProcessLookupError):
        os.killpg(trainer.pid, signal.SIGKILL)
    write(run / "exit.json", {"code": trainer.wait()})
    shutil.rmtree(run / "scratch", ignore_errors=True)


def _is_running_after(trainer: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        trainer.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def write(path: Path, content: dict[str, Any]) -> None:
    """Write one of a run's files atomically."""
    # A partial file would make every later inspection of this run fail. The random suffix separates two writers.
    part = path.with_suffix(f".{os.urandom(4).hex()}.part")
    part.write_text(json.dumps(content))
    part.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[4:])
