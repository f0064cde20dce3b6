"""Show a job live: a progress bar on a terminal, otherwise a line for each epoch, or JSON for scripts."""

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from client import show
from client.api import Json
from client.follow import Update

#: small enough for a line of 80 columns
_BAR_WIDTH, _METRICS_LIMIT = 16, 2
Watcher = Callable[[Iterable[Update]], Json]


def watcher(*, as_json: bool) -> Watcher:
    """Return the function that shows a job on this output; it returns the job's last state."""
    if as_json:
        return _as_json
    return _live if sys.stdout.isatty() else _as_lines


def _as_json(updates: Iterable[Update]) -> Json:
    """Print each event as a line of JSON, and the job at the end."""
    job: Json = {}
    for update in updates:
        job = update.job
        for event in update.events:
            print(json.dumps(event))
    print(json.dumps(job))
    return job


@dataclass
class Printed:
    """What was printed so far."""

    epoch: int = 0
    is_outage: bool = False


def _as_lines(updates: Iterable[Update]) -> Json:
    """Print a line for each state, each epoch and each message of the trainer."""
    job: Json = {}
    printed = Printed()
    for update in updates:
        job = update.job
        for line in lines(update, printed):
            print(line, flush=True)
    return job


def lines(update: Update, printed: Printed) -> Iterable[str]:
    """Yield the lines of an update that were not printed yet."""
    if update.outage and not printed.is_outage:
        yield f"{update.outage}; waiting"
    printed.is_outage = update.outage is not None
    for event in update.events:
        if event["kind"] == "state":
            yield " ".join(word for word in (event["type"], show.plain(event["message"])) if word)
        elif event["kind"] == "event":
            # Another attempt may start again at the first epoch.
            printed.epoch = 0 if event["type"] == "started" else printed.epoch
            if event["message"]:
                yield f"{event['type']}: {show.plain(event['message'])}"
        elif (event["epoch"] or 0) > printed.epoch:
            printed.epoch = event["epoch"]
            yield f"epoch {printed.epoch}/{update.job['epochs']}  {show.metrics(event['metrics'] or {})}"


def _live(updates: Iterable[Update]) -> Json:
    """Show a progress bar, and print the trainer's messages above it."""
    job: Json = {}
    with _bar() as bar:
        task = bar.add_task("", total=None, numbers="")
        for update in updates:
            job = update.job
            for event in update.events:
                if event["kind"] == "event" and event["message"]:
                    bar.console.print(f"{event['type']}: {show.plain(event['message'])}", style="dim", markup=False)
            _move(bar, task, update)
    return job


def _bar() -> Progress:
    state = TextColumn("{task.description}", style="bold", markup=False)
    numbers = TextColumn("{task.fields[numbers]}", markup=False)
    return Progress(state, BarColumn(bar_width=_BAR_WIDTH), numbers, console=Console(highlight=False))


def _move(bar: Progress, task: TaskID, update: Update) -> None:
    job = update.job
    total = job["epochs"] if job["epochs"] and job["task"] == "train" else None
    is_over = job["state"] in show.FINAL
    bar.update(
        task,
        description=show.state(job),
        numbers="the functions do not respond; waiting" if update.outage else numbers(job),
        total=total or (1 if is_over else None),
        completed=(job["epoch"] or 0) if total else int(is_over),
    )


def numbers(job: Json) -> str:
    """Return the text beside a job's progress bar."""
    if job["state"] in {"PENDING", "QUEUED"}:
        return show.plain(job["message"])
    epoch = f"epoch {show.epochs(job)}" if job["epoch"] else ""
    left = f"{show.duration(job['eta_seconds'])} left" if job["eta_seconds"] and job["state"] == "RUNNING" else ""
    return "  ".join(word for word in (epoch, show.metrics(job["metrics"], _METRICS_LIMIT), left) if word)
