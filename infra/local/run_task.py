"""Run Task, and forward SIGTERM and SIGHUP to the commands that it runs (``python run_task.py task …``).

Task itself only prints that it received a signal, and waits: its commands get one only when it is sent to the whole
process group, as a terminal does with Ctrl-C.
``taskw`` runs this file before there is an environment: standard library only.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_KILLED_BY_SIGNAL = 128


def main(command: Sequence[str]) -> int:
    """Run a command to its end, and return its exit code as a shell would."""
    task = subprocess.Popen(command)  # noqa: S603 -- Task, of taskw's own folder
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: forward(task, received))
    # After the start, so that Task does not inherit it: a terminal's Ctrl-C reaches Task and its commands directly.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = task.wait()
    return _KILLED_BY_SIGNAL - code if code < 0 else code


def forward(task: "subprocess.Popen[bytes]", number: int) -> None:
    """Send a signal to Task's commands; to Task itself when it is between two commands."""
    pids = commands(task.pid)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    if not pids:
        task.kill()


def commands(task_pid: int) -> set[int]:
    """Return the processes below Task that share its process group; what a command has detached is not among them."""
    group = os.getpgid(task_pid)
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            _state, parent, process_group, *_ = path.read_bytes().rpartition(b")")[2].split()
            if int(process_group) == group:
                parents[int(path.parent.name)] = int(parent)
    return {pid for pid in parents if _is_below(task_pid, pid, parents)}


def _is_below(ancestor: int, pid: int, parents: dict[int, int]) -> bool:
    parent = parents.get(pid)
    return parent is not None and (parent == ancestor or _is_below(ancestor, parent, parents))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
