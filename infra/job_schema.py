"""The JSON schema of job files, generated from the model of a job's specification (``./taskw openapi`` writes it)."""

import json
from typing import Any

import msgspec

from client.fields import SCHEMA_FILE
from functions.domain.spec import Spec

_SHORT = {"dataset_id": "dataset", "model_name": "model"}
#: what each field is, for the editor and for ``stoker submit --help``
_DESCRIPTIONS = {
    "dataset": "the dataset's name: cats for datasets/cats.zip in the bucket",
    "model": "the model's name, such as yolo11n.pt or resnet18",
    "framework": "the trainer; by default the one that knows the model",
    "name": "a name for the job",
    "tags": "tags to find the job by",
    "notes": "notes on the job",
    "task": "what to do with the dataset",
    "check_first": "check the dataset in a launch without GPUs before the training",
    "dataset_etag": "the version of the dataset; by default the current one",
    "epochs": "number of epochs",
    "batch_size": "images in a batch",
    "image_size": "images are scaled to this many pixels",
    "learning_rate": "initial learning rate",
    "seed": "seed of the random numbers",
    "device": "cpu, mps, or the numbers of GPUs, such as 0,1",
    "workers": "processes that load images",
    "gpus": "number of GPUs to ask the cluster for",
    "gpu_type": "the GPU's type, as the cluster's nodes are labelled",
    "nodes": "number of nodes to train on at once",
    "queue": "the cluster's queue to wait in",
    "priority": "the priority in the queue",
    "hyperparameters": "options of the trainer, by name; stoker models lists them",
    "checkpoint_key": "weights in the bucket to start from",
    "attempt_limit": "launches at most; evictions and lost nodes are tried again",
    "longest_pending_seconds": "fail if the job waits longer for its start",
    "longest_running_seconds": "fail if the job runs longer",
    "longest_stalled_seconds": "fail if the job makes no progress for longer",
    "heartbeat_seconds": "how often the trainer reports its progress",
}


def schema() -> dict[str, Any]:
    """Return the schema: the fields of a job, with the short names that people write."""
    (reference,), components = msgspec.json.schema_components([Spec], ref_template="#/{name}")
    properties = components[reference["$ref"].removeprefix("#/")]["properties"]
    fields = {_SHORT.get(name, name): _field(value) for name, value in properties.items()}
    text: dict[str, Any] = {"type": "string"}
    fields = {"name": text, "notes": text, "tags": {"type": "array", "items": text}} | fields
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A job of Stoker",
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _described(name) | fields[name] for name in [*_DESCRIPTIONS, *fields]},
    }


def _described(name: str) -> dict[str, Any]:
    return {"description": _DESCRIPTIONS[name]} if name in _DESCRIPTIONS else {}


def _field(value: dict[str, Any]) -> dict[str, Any]:
    """Return a field's type and bounds; patterns are left to the server, whose messages are for people."""
    kind = next((each for each in value["anyOf"] if each.get("type") != "null"), {}) if "anyOf" in value else value
    kept = {name: kind[name] for name in kind if name not in {"pattern", "description", "default"}}
    kept |= {"items": _field(kept["items"])} if "items" in kept else {}
    return {"type": "string", **kept} if "enum" in kept else kept


def write() -> None:
    """Write the file."""
    SCHEMA_FILE.write_text(json.dumps(schema(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
