"""Format jobs and events for a terminal, as plain text without colours, so that tests can read them."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

Json = Mapping[str, Any]

FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
#: the metrics that are shown, in order: label, and the names that trainers use
METRICS: Mapping[str, tuple[str, ...]] = {
    "loss": ("train/loss", "loss"),
    "mAP50": ("metrics/mAP50(B)", "mAP50"),
    "mAP50-95": ("metrics/mAP50-95(B)", "mAP50-95"),
    "top-1": ("val/top1", "metrics/accuracy_top1", "top1"),
}
#: the kinds of YOLO's results; most of its models predict boxes
_PARTS = {"B": "", "M": " of masks", "P": " of keypoints"}
#: prefix of system metrics
SYSTEM = "system/"
_FEW, _MINUTE, _HOUR = 9.95, 60, 3600
_KIB = 1024
_LIST_METRICS = 2
#: the counts in reports on datasets
_PLURAL = re.compile(r"\b(file|image|annotation|label|object)s\b")


def metrics(values: Mapping[str, float], limit: int | None = None) -> str:
    """Return the main metrics, at most ``limit`` of them; all metrics of the model if none of them is a main one."""
    values = {name: value for name, value in values.items() if not name.startswith(SYSTEM)}
    main = {label: values[name] for label, names in METRICS.items() for name in names if name in values}
    if "loss" not in main and (parts := [value for name, value in values.items() if is_training_loss(name)]):
        main = {"loss": sum(parts), **main}
    return "  ".join(f"{name} {number(value)}" for name, value in list((main or values).items())[:limit])


def main_metric(values: Mapping[str, float]) -> str:
    """Return the metric by which the model is judged, or else its loss, or any other."""
    known = metrics(values).split("  ")
    return next((each for each in known if not each.startswith("loss ")), known[0])


def label(name: str, known: Iterable[str]) -> str:
    """Return a metric's readable name, unless another one of a job's ``known`` metrics has it."""
    shown = _readable(name)
    return name if any(_readable(other) == shown for other in known if other != name) else shown


def _readable(name: str) -> str:
    """Return a main metric's label; of others ``val box loss``, ``recall``, ``mAP50 of masks``, as in the console."""
    if main := next((label for label, names in METRICS.items() if name in names), None):
        return main
    plain_name = re.sub(r"\(([BMP])\)$", lambda part: _PARTS[part[1]], name.removeprefix("metrics/"))
    return re.sub(r"^(train|val|test)/", r"\1 ", plain_name).replace("_", " ")


def system(values: Mapping[str, float]) -> str:
    """Return a training's use of its machine: CPUs, memory, GPUs, and the time that it waits for data."""
    own = {name.removeprefix(SYSTEM): value for name, value in values.items() if name.startswith(SYSTEM)}
    words = []
    for unit, label in (("cpu", "CPU"), ("ram", "RAM"), *((name, _gpu(name)) for name in _gpus(own))):
        percent, used = own.get(f"{unit}_percent"), own.get(f"{unit}_memory_bytes", own.get(f"{unit}_bytes"))
        parts = [f"{percent:.0f}%" if percent is not None else "", size(int(used)) if used is not None else ""]
        words += [" ".join([label, *filter(None, parts)])] if any(parts) else []
    waits = own.get("data_wait_percent")
    return "  ".join([*words, *([f"waits for data {waits:.0f}%"] if waits is not None else [])])


def _gpus(names: Mapping[str, float]) -> list[str]:
    """Return ``gpu``, or ``gpu0``, ``gpu1``, …, as far as there are metrics of them."""
    return sorted({name.partition("_")[0] for name in names if name.startswith("gpu")}, key=lambda gpu: (len(gpu), gpu))


def _gpu(name: str) -> str:
    number = name.removeprefix("gpu")
    return f"GPU {number}" if number else "GPU"


def is_training_loss(name: str) -> bool:
    """Return whether a metric is a component of the training loss."""
    return name.startswith("train/") and name.endswith("_loss")


def number(value: float) -> str:
    """Return a number with three decimals, or four significant digits when it is large or whole."""
    return f"{value:.3f}" if abs(value) < 1000 and value != int(value) else f"{value:.4g}"  # noqa: PLR2004 -- see the docstring


def duration(seconds: float | None) -> str:
    """Return seconds as ``0.4 s``, ``42 s``, ``3 min 05 s`` or ``2 h 07 min``."""
    if seconds is None:
        return ""
    if seconds < _FEW:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"


def brief_duration(seconds: float | None) -> str:
    """Return seconds in one unit: ``42 s``, ``3 min`` or ``2.1 h``."""
    if seconds is None or round(seconds) < _MINUTE:
        return duration(seconds)
    return f"{seconds // _MINUTE:.0f} min" if seconds < _HOUR else f"{seconds / _HOUR:.1f} h"


def size(count: int) -> str:
    """Return bytes as ``512 B`` or ``6.4 KiB``, up to TiB."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= _KIB and len(units) > 1:
        value, units = value / _KIB, units[1:]
    return f"{value:.0f} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def counted(count: int, kind: str) -> str:
    """Return a number with what it counts: ``1 broken image``, ``2,400 broken images``."""
    return f"{count:,} {kind if count != 1 else _PLURAL.sub(lambda word: word[1], kind, count=1)}"


def local_time(text: str | None) -> str:
    """Return an RFC 3339 time as local time, to the second."""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S") if text else ""


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Return the seconds between two RFC 3339 times; None when one of them is missing."""
    if not start or not end:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def plain(text: str | None) -> str:
    """Return untrusted text as one line, without control characters."""
    return "".join(char if char.isprintable() else " " for char in text or "").strip()


def epochs(job: Json) -> str:
    """Return ``3/12``, or nothing before the first epoch."""
    if not job["epoch"]:
        return ""
    return f"{job['epoch']}/{job['epochs']}" if job["epochs"] else str(job["epoch"])


def state(job: Json) -> str:
    """Return the state, with the reason of a failure or the liveness if it is not live."""
    if job["state"] == "FAILED" and job["reason"]:
        return f"FAILED ({job['reason']})"
    return f"{job['state']} ({job['liveness']})" if job["liveness"] in {"silent", "waiting"} else str(job["state"])


def job_row(job: Json, *, id_length: int | None = None, is_brief: bool = False) -> list[str]:
    """Return a job as a row of the list of jobs; a brief one has the main metric only, and shorter times."""
    seconds = seconds_between(job["started_at"], job["finished_at"])
    created = local_time(job["created_at"])[:-3]
    return [
        job["id"][:id_length],
        plain(job.get("name")),
        state(job),
        job["task"],
        plain(job["dataset_id"]),
        plain(job["model_name"]),
        epochs(job),
        main_metric(job["metrics"]) if is_brief else metrics(job["metrics"], _LIST_METRICS),
        created[len("2026-") :] if is_brief else created,
        brief_duration(seconds) if is_brief else duration(seconds),
    ]


def event_line(event: Json) -> str:
    """Return one event of a job's timeline as a line."""
    name = event["type"] if event["kind"] != "heartbeat" else "heartbeat"
    epoch = f"epoch {event['epoch']}" if event["epoch"] is not None else ""
    step = f"step {event['step']}" if event["step"] is not None else ""
    phase = plain(str((event.get("data") or {}).get("phase") or ""))
    words = [epoch, step, metrics(event["metrics"] or {}), plain(event["message"]) or phase]
    details = "  ".join(word for word in words if word)
    return f"{local_time(event['at'])}  {event['kind']:<9}  {name:<11}  {details}".rstrip()


def end(job: Json) -> str:
    """Return how a job ended, in one line."""
    took = seconds_between(job["started_at"], job["finished_at"])
    words = [f"{job['id']} {state(job)}", f"after {duration(took)}" if took is not None else "", plain(job["message"])]
    return "  ".join(word for word in words if word)
