"""A store with many jobs, or a long one, for the console to list: written by the tables' own columns, not by so many requests."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import create_engine, insert

from functions.domain import descriptions
from functions.domain.states import FINAL, Reason, State
from functions.store.tables import Job, JobEvent, JobTag

#: of ten jobs in a row; open jobs would keep the stack's sweep busy
STATES = [State.SUCCEEDED] * 7 + [State.FAILED] * 2 + [State.CANCELLED]
DATASETS = 40
TAGS = ("night", "baseline", "large")
APART = timedelta(minutes=7)
#: of a long job
EPOCH = timedelta(seconds=40)
LOSSES = ("box", "cls", "dfl")
SCORES = ("mAP50", "mAP50-95", "precision", "recall")


def fill(url: str, count: int, *, now: datetime | None = None) -> None:
    """Add ended jobs to a store, the newest two hours before ``now``."""
    newest = (now or datetime.now(UTC)) - timedelta(hours=2)
    rows = list(_rows(count, newest))
    tagged = [
        {"job_id": row["id"], "tag": tag, "created_at": row["created_at"]} for row in rows for tag in row["tags"] or []
    ]
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(insert(Job), rows)
        connection.execute(insert(JobTag), tagged)
    engine.dispose()


def name_of(number: int) -> str:
    """Return the name of the nth newest job."""
    return f"Sweep {number // 100}, run {number % 100:02}"


def _rows(count: int, newest: datetime) -> Iterator[dict[str, Any]]:
    for number in range(count):
        at, state = newest - number * APART, STATES[number % len(STATES)]
        assert state in FINAL
        epoch = 60 if state == State.SUCCEEDED else number % 60
        yield {
            "id": f"{int(at.timestamp()):08x}{number:012x}",
            "state": state,
            "reason": Reason.TRAINER_ERROR if state == State.FAILED else None,
            "name": name_of(number),
            "name_key": descriptions.search_key(name_of(number)),
            "tags": [TAGS[number % len(TAGS)]],
            "owner": f"person-{number % 12}",
            "framework": "planned",
            "task": "train",
            "dataset_id": f"dataset-{number % DATASETS}",
            "model_name": "yolo11n.yaml",
            "spec": {"framework": "planned", "model_name": "yolo11n.yaml", "epochs": 60, "image_size": 640},
            "trace_id": f"{number:032x}",
            "attempt": 1,
            "attempt_limit": 3,
            "launch": 1,
            "sequence": 4,
            "epoch": epoch,
            "epochs": 60,
            "step": epoch * 100,
            "metrics": {"metrics/mAP50-95(B)": 0.2 + number % 500 / 1000, "val/box_loss": 1.5 - number % 100 / 100},
            "artifacts": [],
            "created_at": at,
            "submitted_at": at,
            "queued_at": at,
            "started_at": at,
            "finished_at": at + timedelta(minutes=55),
            "heartbeat_at": at + timedelta(minutes=54),
            "progress_at": at + timedelta(minutes=54),
        }


def add_long_job(url: str, epochs: int, *, now: datetime | None = None) -> str:
    """Add a job of so many epochs with 12 metrics each to a store, and return its id."""
    ended = now or datetime.now(UTC)
    began = ended - epochs * EPOCH
    job = next(_rows(1, began)) | {"id": f"{int(began.timestamp()):08x}" + "f" * 12, "name": f"{epochs} epochs"}
    job |= {"epoch": epochs, "epochs": epochs, "finished_at": ended, "metrics": _metrics(epochs, epochs)}
    events = [
        {
            "job_id": job["id"],
            "kind": "heartbeat",
            "type": "heartbeat",
            "attempt": 1,
            "epoch": epoch,
            "step": epoch * 100,
            "metrics": _metrics(epoch, epochs),
            "at": began + epoch * EPOCH,
            "ce_source": f"/v1/jobs/{job['id']}",
            "ce_id": str(epoch),
        }
        for epoch in range(1, epochs + 1)
    ]
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(insert(Job), [job])
        connection.execute(insert(JobEvent), events)
    engine.dispose()
    return str(job["id"])


def _metrics(epoch: int, epochs: int) -> dict[str, float]:
    course = 1 - math.exp(-4 * epoch / epochs)
    noise = math.sin(epoch * 12.9898) * 0.03
    losses = {f"{split}/{name}_loss": 2.5 - 2 * course + noise for split in ("train", "val") for name in LOSSES}
    return losses | {f"metrics/{name}(B)": 0.9 * course + noise for name in SCORES} | {"lr/pg0": 0.01, "lr/pg1": 0.01}
