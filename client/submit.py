"""Parse the command line's ``NAME=value`` settings into the fields of ``POST /v1/jobs``."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import typer

from client.api import Json


def _object(text: str) -> Json:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 -- the text has the wrong value
    return value


#: the fields, and the function that parses each
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
    """Return settings such as ``epochs=12`` as the fields of the request.

    Raises:
        typer.BadParameter: there is no such field, or its value is invalid; the message says what is valid.
    """
    return dict(_field(setting) for setting in settings)


def _field(setting: str) -> tuple[str, Any]:
    name, separator, text = setting.partition("=")
    name = name.lower().replace("-", "_")
    if not separator or name not in FIELDS:
        raise typer.BadParameter(f"{setting!r}: write NAME=value, where NAME is one of {', '.join(FIELDS)}")
    parse = FIELDS[name]
    try:
        return name, parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{name}: write {_KINDS[parse]}, not {text!r}") from error


def prediction(job: Json, dataset_id: str) -> Json:
    """Return the request that predicts on a dataset with the best.pt of a training.

    Raises:
        typer.BadParameter: the job is not a training that succeeded.
    """
    if job["task"] != "train" or job["state"] != "SUCCEEDED":
        raise typer.BadParameter(
            f"job {job['id']} is a {job['task']} job that is {job['state']}; name a training that SUCCEEDED"
        )
    model = {name: job[name] for name in ("framework", "model_name")}
    settings = {name: job["spec"][name] for name in ("image_size", "device", "workers") if name in job["spec"]}
    best = {"task": "predict", "dataset_id": dataset_id, "checkpoint_key": f"checkpoints/job-{job['id']}/best.pt"}
    return model | settings | best
