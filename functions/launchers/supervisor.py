"""What stands between the functions and a local trainer: it outlives them, keeps the grace, writes the exit code.

``python -m functions.launchers.supervisor RUN_DIR GRACE_SECONDS LOCK_FD COMMAND…``; see ``launch_local``.
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
_LOOK_SECONDS = 0.5
#: of starting a program: it fails in the same way again
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
        # By the trainer itself, before it is one, and still holding the lock: were it for us to write, then our death
        # would leave a trainer that nobody knows of, and the launch would be started once more.
        trainer = subprocess.Popen(command, start_new_session=True, preexec_fn=write_pids)  # noqa: S603, PLW1509 -- the operator's own command; no threads here
    except (OSError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)  # noqa: T201 -- into trainer.log
        is_final = getattr(error, "errno", None) in _FINAL
        write(run / "exit.json", {"code": _CANNOT_EXECUTE, "error": str(error), "is_final": is_final})
        return
    if (run / "stop.json").exists():
        stopping.append(signal.SIGTERM)
    while not stopping and _runs_on(trainer, _LOOK_SECONDS):
        pass
    if stopping:
        trainer.terminate()
        _runs_on(trainer, grace_seconds)
    # Whatever the trainer left behind in its group goes with it.
    with suppress(ProcessLookupError):
        os.killpg(trainer.pid, signal.SIGKILL)
    write(run / "exit.json", {"code": trainer.wait()})
    shutil.rmtree(run / "scratch", ignore_errors=True)


def _runs_on(trainer: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        trainer.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def write(path: Path, content: dict[str, Any]) -> None:
    """Write one of a run's files."""
    # Whole or not there: half a file would make every later look at this run fail. And of two who write, each its own.
    part = path.with_suffix(f".{os.urandom(4).hex()}.part")
    part.write_text(json.dumps(content))
    part.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[4:])
