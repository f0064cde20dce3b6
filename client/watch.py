"""Show a job live: a progress bar on a terminal, otherwise a line for each epoch, or JSON for scripts."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from client import show
from client.api import Json
from client.follow import Update
from client.output import STATE_COLOURS, fit, styled, to_json, width
from client.progress import Progress, doing, speed

_BAR_WIDTH, _METRICS_LIMIT = 30, 3
#: terminals of fewer columns get half a bar
_WIDE = 95
_FULL, _EMPTY = "━", "┄"
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
            print(to_json(event), flush=True)
    print(to_json(job))
    return job


@dataclass
class Printed:
    """The lines that were already printed."""

    epoch: int = 0
    doing: str = ""
    is_outage: bool = False
    progress: Progress = field(default_factory=Progress)


def _as_lines(updates: Iterable[Update]) -> Json:
    """Print a line for each state, each phase, each epoch and each message of the trainer."""
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
            # The line on the job's end, which follows, has its message.
            message = "" if event["type"] in show.FINAL else show.plain(event["message"])
            yield " ".join(word for word in (event["type"], message) if word)
        elif event["kind"] == "event":
            # Another attempt may start again at the first epoch.
            printed.epoch = 0 if event["type"] == "started" else printed.epoch
            if event["message"]:
                yield f"{event['type']}: {show.plain(event['message'])}"
        elif (event["epoch"] or 0) > printed.epoch:
            printed.epoch = event["epoch"]
            yield f"epoch {printed.epoch}/{update.job['epochs']}  {show.metrics(event['metrics'] or {})}"


def _live(updates: Iterable[Update]) -> Json:
    """Show a few lines that are drawn again once a second, with the trainer's messages above them."""
    job: Json = {}
    screen = _Screen()
    progress = Progress()
    try:
        for update in updates:
            job = update.job
            progress.update(job, update.events)
            messages = [
                f"{event['type']}: {show.plain(event['message'])}"
                for event in update.events
                if event["kind"] == "event" and event["message"]
            ]
            screen.draw(messages, view(job, progress, width() or 80, outage=update.outage))
    finally:
        screen.end()
    return job


class _Screen:
    """The lines at the end of the terminal that are overwritten. Plain cursor movements: a tenth of rich's cost."""

    def __init__(self) -> None:
        self._height = 0
        self._last: list[str] = []

    def draw(self, messages: list[str], view: list[str]) -> None:
        """Print messages, and below them the view in place of the previous one."""
        if not messages and view == self._last:
            return
        dim = [styled(message, "bright_black") for message in messages]
        up = f"\x1b[{self._height}A" if self._height else ""
        text = "".join(f"\x1b[2K{line}\n" for line in [*dim, *view])
        sys.stdout.write(f"{up}\r{text}\x1b[J")
        sys.stdout.flush()
        self._height, self._last = len(view), view

    def end(self) -> None:
        """Leave the last view where it is."""
        sys.stdout.flush()


def view(
    job: Json, progress: Progress, cells: int, *, outage: str | None = None, now: float | None = None
) -> list[str]:
    """Return the lines that show a job: its activity, progress and metrics."""
    title = "  ".join(word for word in (job.get("name"), job["dataset_id"], job["model_name"]) if word)
    state = show.state(job)
    first = f"{state}  {fit(f'{title}  {doing(job, progress)}'.rstrip(), max(cells - len(state) - 3, 10))}"
    lines_of_job = [styled(state, STATE_COLOURS[job["state"]]) + first[len(state) :]]
    if outage:
        lines_of_job.append(styled(fit("the functions do not answer; waiting", cells - 1), "yellow"))
    elif job["state"] == "RUNNING":
        lines_of_job.append(fit(_second_line(job, progress, now, cells), cells - 1))
    metrics = show.metrics(job["metrics"], _METRICS_LIMIT)
    best = progress.best
    at_epoch = f" (epoch {best.epoch})" if best and best.epoch else ""
    words = [metrics, f"best {best.label} {show.number(best.value)}{at_epoch}" if best else ""]
    if any(words):
        lines_of_job.append(fit("  ".join(word for word in words if word), cells - 1))
    machine = show.system(job.get("system_metrics") or {}) if job["state"] == "RUNNING" else ""
    if machine:
        lines_of_job.append(fit(machine, cells - 1))
    return lines_of_job


def _second_line(job: Json, progress: Progress, now: float | None, cells: int) -> str:
    completed = progress.completed(job)
    elapsed = show.seconds_between(job["started_at"], datetime.now(UTC).isoformat())
    left = progress.left_seconds(now)
    words = [
        bar(completed, _BAR_WIDTH if cells >= _WIDE else _BAR_WIDTH // 2) if completed is not None else "",
        f"{completed:.0%}" if completed is not None else "",
        f"{show.duration(max(elapsed, 0))} elapsed" if elapsed is not None else "",
        f"{show.duration(left)} left" if left is not None else "",
        speed(job, progress),
    ]
    return "  ".join(word for word in words if word)


def bar(completed: float, cells: int = _BAR_WIDTH) -> str:
    """Return a bar whose done and open parts differ without colours, too."""
    full = round(completed * cells)
    return _FULL * full + _EMPTY * (cells - full)
