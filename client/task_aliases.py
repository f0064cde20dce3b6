"""The tasks `./taskw submit`, `./taskw jobs`, …: aliases of `stoker` that take ``NAME=value`` in place of options.

Task would ignore a name that no task uses, and train with unintended settings. Therefore ``run_task.py`` passes the
words on in ``TASKW_WORDS``, and unknown names are refused here, with the nearest name.
"""

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from client import home
from client.contexts import LOCAL
from client.errors import USAGE, CallError, invalid
from client.fields import kinds, unknown
from client.output import print_error
from client.running import run

_SWITCHES = {"FOLLOW", "RAW", "WATCH", "ALL", "YES", "JSON"}


class Alias(NamedTuple):
    """The arguments and options of a task."""

    #: names whose values are arguments, in order
    arguments: tuple[str, ...] = ()
    #: names whose values are options: EPOCHS=3 is --epochs 3
    options: tuple[str, ...] = ()
    #: whether every field of a job may be set
    takes_fields: bool = False


_TRAINING = ("MODEL", "FRAMEWORK", "FROM_JOB", "WATCH")
ALIASES = {
    "train": Alias(("DATA",), (*_TRAINING, "DATASET"), takes_fields=True),
    "submit": Alias(("DATASET",), _TRAINING, takes_fields=True),
    "resume": Alias(("ID",), ("WATCH",), takes_fields=True),
    "clone": Alias(("ID",), ("FROM_JOB", "WATCH"), takes_fields=True),
    "jobs": Alias((), ("STATE", "NAME", "TAG", "OWNER", "DATASET", "FRAMEWORK", "SINCE", "UNTIL", "LIMIT")),
    "watch": Alias(("ID",)),
    "logs": Alias(("ID",), ("FOLLOW", "ATTEMPT", "RAW")),
    "events": Alias(("ID",), ("KIND",)),
    "cancel": Alias(("ID",), ("MESSAGE",)),
    "rm": Alias(("ID",), ("YES",)),
    "artifacts": Alias(("ID",)),
    "download": Alias(("ID",), ("TO",)),
    "predict": Alias(("ID", "IMAGES"), ("TO",)),
    "upload": Alias(("FILE",), ("NAME",)),
    "datasets": Alias(),
    "check": Alias(("ZIP",), ("FRAMEWORK", "MODEL")),
    "env": Alias(),
}


def command_line(task: str, words: Sequence[str]) -> list[str]:
    """Return the command line of `stoker` for a task and its ``NAME=value`` words.

    Raises:
        CallError: a name is unknown, or one is missing.
    """
    alias = ALIASES[task]
    fields = [name.upper() for name in kinds()] if alias.takes_fields else []
    fields = [name for name in fields if name not in {"DATASET_ID", "MODEL_NAME", "FRAMEWORK", "TASK"}]
    known = dict.fromkeys([*alias.arguments, *alias.options, *fields, "JSON"])
    values: dict[str, str] = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not separator:
            raise invalid(f"{word}: write NAME=value, such as {next(iter(known))}=…; ./taskw help NAME={task}")
        if name not in known:
            raise invalid(unknown(name, known, "variable"))
        if value:
            values[name] = value
    for name in alias.arguments:
        if name not in values:
            raise invalid(f"{name} is missing: ./taskw {task} {' '.join(f'{each}=…' for each in alias.arguments)}")
    return [task, *_options(alias, values), "--", *(values[name] for name in alias.arguments)]


def _options(alias: Alias, values: Mapping[str, str]) -> Iterator[str]:
    for name, value in values.items():
        if name in _SWITCHES:
            yield from [f"--{name.lower()}"] if value.lower() not in {"0", "false", "no"} else []
        elif name in alias.options:
            yield from (f"--{name.lower().replace('_', '-')}", value)
        elif name not in alias.arguments:
            yield from ("--set", f"{name.lower()}={value}")


def main() -> None:
    """Run the task that the command line names."""
    task, words = sys.argv[1], shlex.split(os.environ.get("TASKW_WORDS", ""))
    os.environ.setdefault("STOKER_CONTEXT", LOCAL)  # a checkout's tasks are for its own stack
    os.environ.setdefault("STOKER_HOME", str(home.home()))
    os.chdir(os.environ.get("TASKW_FOLDER", "."))  # paths are relative to the user's folder, not to Task's
    try:
        line = command_line(task, [word for word in words if word != task])
    except CallError as error:
        print_error(str(error), error.problem, as_json=any(word.startswith("JSON=") for word in words))
        sys.exit(USAGE)
    sys.exit(run(line))


if __name__ == "__main__":
    main()
