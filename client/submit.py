"""What a job may be asked for on the command line: ``NAME=value``, as the fields of ``POST /v1/jobs``."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import typer

from client.api import Json


def _object(text: str) -> Json:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004 -- it is the text that is wrong
    return found


#: the fields, and how each is read
FIELDS: Mapping[str, Callable[[str], Any]] = {
    "epochs": int,
    "batch_size": int,
    "image_size": int,
    "learning_rate": float,
    "seed": int,
    "device": str,
    "workers": int,
    "gpus": int,
    "gpu_type": str,
    "nodes": int,
    "queue": str,
    "priority": str,
    "hyperparameters": _object,
    "checkpoint_key": str,
    "attempt_limit": int,
    "longest_pending_seconds": float,
    "longest_running_seconds": float,
    "longest_stalled_seconds": float,
    "heartbeat_seconds": float,
}
_KINDS = {int: "a whole number", float: "a number", _object: "one JSON object"}


def fields(settings: Iterable[str]) -> Json:
    """Return ``epochs=12`` and the like as the request's fields.

    Raises:
        typer.BadParameter: there is no such field, or its value cannot be read; it says what may be written.
    """
    return dict(_field(setting) for setting in settings)


def _field(setting: str) -> tuple[str, Any]:
    name, separator, text = setting.partition("=")
    name = name.lower().replace("-", "_")
    if not separator or name not in FIELDS:
        raise typer.BadParameter(f"{setting!r}: write NAME=value, where NAME is one of {', '.join(FIELDS)}")
    read = FIELDS[name]
    try:
        return name, read(text)
    except ValueError as error:
        raise typer.BadParameter(f"{name}: write {_KINDS[read]}, not {text!r}") from error


def prediction(job: Json, dataset_id: str) -> Json:
    """Return the request to look through a dataset with what a training has made.

    Raises:
        typer.BadParameter: the job has made nothing that can be used.
    """
    if job["task"] != "train" or job["state"] != "SUCCEEDED":
        raise typer.BadParameter(
            f"job {job['id']} is a {job['task']} job that is {job['state']}; take a training that SUCCEEDED"
        )
    same = ("framework", "model_name")
    alike = {name: job["spec"][name] for name in ("image_size", "device", "workers") if name in job["spec"]}
    best = {"task": "predict", "dataset_id": dataset_id, "checkpoint_key": f"checkpoints/job-{job['id']}/best.pt"}
    return {**{name: job[name] for name in same}, **alike, **best}
