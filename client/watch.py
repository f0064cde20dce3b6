"""Show a job live: a bar on a terminal, a line an epoch elsewhere, JSON for scripts."""

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from client import show
from client.api import Json
from client.follow import News

#: so that all of the line fits into 80 columns
_BAR_WIDTH, _MOST_METRICS = 16, 2
Watcher = Callable[[Iterable[News]], Json]


def watcher(*, as_json: bool) -> Watcher:
    """Return the way to show a job that suits who reads; each returns the job as it was last."""
    if as_json:
        return _as_json
    return _live if sys.stdout.isatty() else _as_lines


def _as_json(news: Iterable[News]) -> Json:
    """Print each event as a line of JSON, and at last the job."""
    job: Json = {}
    for one in news:
        job = one.job
        for event in one.events:
            print(json.dumps(event))
    print(json.dumps(job))
    return job


@dataclass
class Told:
    """What the lines so far have said."""

    epoch: int = 0
    is_away: bool = False


def _as_lines(news: Iterable[News]) -> Json:
    """Print a line a state, an epoch, a word of the trainer."""
    job: Json = {}
    told = Told()
    for one in news:
        job = one.job
        for line in lines(one, told):
            print(line, flush=True)
    return job


def lines(one: News, told: Told) -> Iterable[str]:
    """Yield what of a look is worth a line, and has not been told."""
    if one.away and not told.is_away:
        yield f"{one.away}; waiting"
    told.is_away = one.away is not None
    for event in one.events:
        if event["kind"] == "state":
            yield " ".join(word for word in (event["type"], show.plain(event["message"])) if word)
        elif event["kind"] == "event":
            # Another attempt may begin anew.
            told.epoch = 0 if event["type"] == "started" else told.epoch
            if event["message"]:
                yield f"{event['type']}: {show.plain(event['message'])}"
        elif (event["epoch"] or 0) > told.epoch:
            told.epoch = event["epoch"]
            yield f"epoch {told.epoch}/{one.job['epochs']}  {show.metrics(event['metrics'] or {})}"


def _live(news: Iterable[News]) -> Json:
    """Show a bar that moves, and print above it what the trainer says."""
    job: Json = {}
    with _bar() as bar:
        task = bar.add_task("", total=None, numbers="")
        for one in news:
            job = one.job
            for event in one.events:
                if event["kind"] == "event" and event["message"]:
                    bar.console.print(f"{event['type']}: {show.plain(event['message'])}", style="dim", markup=False)
            _move(bar, task, one)
    return job


def _bar() -> Progress:
    state = TextColumn("{task.description}", style="bold", markup=False)
    numbers = TextColumn("{task.fields[numbers]}", markup=False)
    return Progress(state, BarColumn(bar_width=_BAR_WIDTH), numbers, console=Console(highlight=False))


def _move(bar: Progress, task: TaskID, one: News) -> None:
    job = one.job
    total = job["epochs"] if job["epochs"] and job["task"] == "train" else None
    is_over = job["state"] in show.FINAL
    bar.update(
        task,
        description=show.state(job),
        numbers="the functions do not answer; waiting" if one.away else numbers(job),
        total=total or (1 if is_over else None),
        completed=(job["epoch"] or 0) if total else int(is_over),
    )


def numbers(job: Json) -> str:
    """Return what stands beside a job's bar."""
    if job["state"] in {"PENDING", "QUEUED"}:
        return show.plain(job["message"])
    epoch = f"epoch {show.epochs(job)}" if job["epoch"] else ""
    left = f"{show.duration(job['eta_seconds'])} left" if job["eta_seconds"] and job["state"] == "RUNNING" else ""
    return "  ".join(word for word in (epoch, show.metrics(job["metrics"], _MOST_METRICS), left) if word)
