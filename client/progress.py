"""The progress of a job, from its events: phase, speed, time left, and the best metric so far."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from client import show
from client.errors import Json

#: the metrics by which a model is judged, best first: label, the names that trainers use
JUDGED = {
    "mAP50-95": ("metrics/mAP50-95(B)", "metrics/mAP50-95(M)", "metrics/mAP50-95(P)", "mAP50-95"),
    "top-1": ("val/top1", "metrics/accuracy_top1", "top1"),
    "accuracy": ("val/accuracy", "accuracy"),
    "score": ("score",),
}
_WAITING = {"PENDING", "QUEUED"}


class Best(NamedTuple):
    """The best value of a metric, and its epoch."""

    label: str
    value: float
    epoch: int | None


@dataclass
class Progress:
    """The progress of a job, from its events."""

    #: the phase that the trainer reports, such as ``downloading``
    phase: str = ""
    best: Best | None = None
    steps_per_second: float | None = None
    #: known from the end of the first epoch on
    steps_per_epoch: float | None = None
    _step: int = 0
    _step_at: datetime | None = None
    _eta: tuple[float, str] | None = None
    _ends_at: float | None = None

    def update(self, job: Json, events: list[Json], now: float | None = None) -> None:
        """Take in the new events of a job. ``now``: a monotonic time."""
        for event in events:
            self._take(event)
        eta, heard_at = job.get("eta_seconds"), job.get("heartbeat_at")
        if eta is None or heard_at is None:
            self._ends_at = None
        elif self._eta != (eta, heard_at):
            is_first, self._eta = self._eta is None, (eta, heard_at)
            age = max((datetime.now(UTC) - datetime.fromisoformat(heard_at)).total_seconds(), 0) if is_first else 0
            self._ends_at = (time.monotonic() if now is None else now) + eta - age

    def left_seconds(self, now: float | None = None) -> float | None:
        """Return the time left; it counts down between two heartbeats."""
        if self._ends_at is None:
            return None
        return max(self._ends_at - (time.monotonic() if now is None else now), 0)

    def completed(self, job: Json) -> float | None:
        """Return how much of the training is done, from 0 to 1; None before it is known."""
        epochs, epoch, step = job.get("epochs"), job.get("epoch") or 0, job.get("step")
        if not epochs:
            return None
        if step and self.steps_per_epoch:
            return float(min(max(step / (self.steps_per_epoch * epochs), epoch / epochs), 1.0))
        return float(min(epoch / epochs, 1.0)) if epoch else None

    def _take(self, event: Json) -> None:
        if event["kind"] == "event":
            phase = (event.get("data") or {}).get("phase")
            if phase:
                self.phase = show.plain(str(phase))
            elif event["type"] == "started":
                self.phase, self._step, self._step_at, self.steps_per_second = "starting", 0, None, None
        elif event["kind"] == "heartbeat":
            self._take_heartbeat(event)

    def _take_heartbeat(self, event: Json) -> None:
        step, at = event["step"], datetime.fromisoformat(event["at"])
        if step or event["epoch"]:
            self.phase = "training"
        if step and self._step_at and step > self._step and at > self._step_at:
            self.steps_per_second = (step - self._step) / (at - self._step_at).total_seconds()
        if step and step > self._step:
            self._step, self._step_at = step, at
        metrics = {name: value for name, value in (event["metrics"] or {}).items() if not name.startswith(show.SYSTEM)}
        if event["epoch"] and metrics and step:
            self.steps_per_epoch = step / event["epoch"]
        judged = next(
            ((label, metrics[name]) for label, names in JUDGED.items() for name in names if name in metrics), None
        )
        if judged and (self.best is None or judged[0] != self.best.label or judged[1] > self.best.value):
            self.best = Best(*judged, event["epoch"])


def speed(job: Json, progress: Progress) -> str:
    """Return images per second if the batch size is known, else steps per second."""
    if progress.steps_per_second is None:
        return ""
    batch = job["spec"].get("batch_size")
    if batch:
        return f"{show.number(progress.steps_per_second * batch)} images/s"
    return f"{show.number(progress.steps_per_second)} steps/s"


def place(job: Json) -> str:
    """Return a waiting job's place in the queue, such as ``3rd of 7 in the queue``; nothing if it is not known."""
    number = job.get("queue_position")
    if number is None:
        return ""
    endings = {1: "st", 2: "nd", 3: "rd"}
    ending = "th" if number % 100 in {11, 12, 13} else endings.get(number % 10, "th")
    return f"{number}{ending} of {job['queue_length']} in the queue"


def doing(job: Json, progress: Progress) -> str:
    """Return a job's activity as text: why it waits, its phase, or its epoch and step."""
    if job["state"] in _WAITING:
        return "; ".join(word for word in (place(job), show.plain(job["message"]) or "waiting for a trainer") if word)
    if job["state"] != "RUNNING":
        return show.plain(job["message"])
    if job["liveness"] == "waiting":
        return show.plain(job["message"]) or "waiting for its next trainer"
    epoch = f"epoch {show.epochs(job)}" if job["epoch"] else ""
    step = f"step {job['step']}" if job.get("step") else ""
    phase = progress.phase if progress.phase != "training" or not (epoch or step) else ""
    return "  ".join(word for word in (phase, epoch, step) if word) or "starting"
