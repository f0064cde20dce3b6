"""Run Task, and forward SIGTERM and SIGHUP to the commands that it runs (``python run_task.py task …``).

Task itself only prints that it received a signal, and waits: its commands get one only when it is sent to the whole
process group, as a terminal does with Ctrl-C. It also drops variables that a task does not use: they are refused here.
``taskw`` runs this file before there is an environment: standard library only.
"""

import difflib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_KILLED_BY_SIGNAL = 128
_USAGE = 2
#: where tasks are, by their prefix
_FILES = {
    "": ("Taskfile.yml", "infra/local/Taskfile.yml", "client/Taskfile.yml", "console/Taskfile.yml"),
    "cluster:": ("infra/node/Taskfile.yml",),
    "kind:": ("infra/kind/Taskfile.yml",),
}
_TASK = re.compile(r"^  ([a-z][a-z:-]*):$", re.MULTILINE)
_VARIABLE = re.compile(r"\.([A-Z][A-Z0-9_]*)\b")
#: variables that Taskfiles set themselves
_INTERNAL = {"PYTHON", "LINTED", "TRAINERS", "JSON_FLAG", "STACK", "NODE", "ITEM", "TRAINER", "SYNC"}
#: tasks with these in them check their variables themselves
_ALIAS = "{{.ALIAS}}"


def task_blocks(root: Path) -> dict[str, str]:
    """Return the text of each task, by its name."""
    blocks: dict[str, str] = {}
    for prefix, names in _FILES.items():
        for name in names:
            file = root / name
            parts = _TASK.split(file.read_text(encoding="utf-8")) if file.is_file() else []
            blocks |= {prefix + task: text for task, text in zip(parts[1::2], parts[2::2], strict=True)}
    return blocks


def refusal(words: Sequence[str], blocks: Mapping[str, str]) -> str | None:
    """Return why the words of a command line cannot be used; None if they can."""
    tasks = [word for word in words if "=" not in word and not word.startswith("-")]
    for task in tasks:
        if task not in blocks:
            near = difflib.get_close_matches(task, blocks, n=1)
            return f"there is no task {task}; " + (f"did you mean {near[0]}?" if near else "./taskw lists them")
    texts = [blocks[task] for task in tasks]
    if not texts or any(_ALIAS in text for text in texts):
        return None
    declared = {name for text in texts for name in re.findall(r"vars: \[([A-Z]+)\]", text)}
    known = {name for text in texts for name in _VARIABLE.findall(text)} - _INTERNAL | declared
    known |= {"JSON"} if any("JSON_FLAG" in text for text in texts) else set()
    for word in words:
        name, separator, _ = word.partition("=")
        if separator and not word.startswith("-") and name not in known:
            return f"{tasks[0]} takes no variable {name}{_instead(tasks[0], word, known)}"
    return None


def _instead(task: str, word: str, known: Collection[str]) -> str:
    """Return a suggestion for an unknown variable."""
    if task == "up":
        return f"; settings of the stack are written before the command: {word} ./taskw up"
    near = difflib.get_close_matches(word.partition("=")[0].upper(), known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; it takes {', '.join(sorted(known)) or 'none'}"


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


def started(command: Sequence[str]) -> int:
    """Check the words that follow Task's own options, and run it."""
    root, words = _root_and_words(command)
    if root is not None:
        if words[1:2] in (["--help"], ["-h"]):
            command, words = [*command[: -len(words)], "help", f"NAME={words[0]}"], ["help", f"NAME={words[0]}"]
        blocks = task_blocks(root)
        why = refusal(words, blocks) if blocks else None
        if why:
            print(f"taskw: {why}", file=sys.stderr)
            return _USAGE
    os.environ["TASKW_WORDS"], os.environ["TASKW_FOLDER"] = shlex.join(words), os.getcwd()  # noqa: PTH109 -- a string
    return main(command)


def _root_and_words(command: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Return the folder of the Taskfile, and the words that the user has written."""
    if "--dir" not in command:
        return None, list(command[1:])
    place = list(command).index("--dir")
    return Path(command[place + 1]), list(command[place + 2 :])


if __name__ == "__main__":
    sys.exit(started(sys.argv[1:]))
