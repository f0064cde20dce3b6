"""What a job asks for: the body of ``POST /v1/jobs``, and an upload's metadata."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from functions.errors import unusable_field, unusable_fields
from functions.settings import settings, trainers

#: No slash, no "..", nothing that a URL, a file name or an environment variable would have to quote.
Name = Annotated[str, Meta(pattern=r"^\w(?:[\w +=@-]|\.(?!\.))*\Z", max_length=200)]
#: A key in the bucket: names joined by single slashes.
Key = Annotated[str, Meta(pattern=r"^\w(?:[\w +=@-]|\.(?!\.)|/(?=\w))*\Z", max_length=900)]
#: A value of a Kubernetes label.
Label = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?\Z", max_length=63)]
Seconds = Annotated[float, Meta(gt=0, le=30 * 24 * 3600)]


class Spec(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One job's request. What is None is the trainer's own default."""

    framework: Name
    model_name: Key
    dataset_id: Name
    task: Literal["train", "predict"] = "train"
    epochs: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    batch_size: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    image_size: Annotated[int, Meta(ge=16, le=8_192)] | None = None
    learning_rate: Annotated[float, Meta(gt=0, le=1_000)] | None = None
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] | None = None
    device: Annotated[str, Meta(pattern=r"^(cpu|mps|\d{1,2}(,\d{1,2})*)\Z")] | None = None
    workers: Annotated[int, Meta(ge=0, le=256)] | None = None
    gpus: Annotated[int, Meta(ge=0, le=64)] = 0
    #: a cluster's: which GPU, on how many nodes, by which queue and priority; one machine has no choice of these
    gpu_type: Label | None = None
    nodes: Annotated[int, Meta(ge=1, le=64)] = 1
    queue: Label | None = None
    priority: Label | None = None
    hyperparameters: dict[str, Any] = {}
    checkpoint_key: Key | None = None
    attempt_limit: Annotated[int, Meta(ge=1, le=100)] = 1
    longest_pending_seconds: Seconds | None = None
    longest_running_seconds: Seconds | None = None
    longest_stalled_seconds: Seconds | None = None
    heartbeat_seconds: Annotated[float, Meta(ge=1, le=3600)] | None = None


def from_request(fields: Mapping[str, Any]) -> Spec:
    """Return the job that a JSON body asks for.

    Raises:
        Unusable: a field cannot be used; ``members["errors"]`` names it and what it may be.
    """
    return _checked({**_defaults(), **fields}, strict=True)


def from_upload(dataset_id: str, metadata: Mapping[str, str]) -> Spec:
    """Return the job that an uploaded dataset asks for by its ``x-amz-meta-stoker-…`` metadata.

    Raises:
        Unusable: as ``from_request``; fields are named as in the job.
    """
    asked: dict[str, Any] = {
        name.removeprefix("stoker-").replace("-", "_"): value
        for name, value in metadata.items()
        if name.startswith("stoker-")
    }
    if "model" in asked:
        asked["model_name"] = asked.pop("model")
    if "hyperparameters" in asked:
        try:
            asked["hyperparameters"] = msgspec.json.decode(asked["hyperparameters"])
        except (msgspec.DecodeError, RecursionError) as error:
            raise unusable_field("hyperparameters", f"write one JSON object: {error}") from error
    return _checked({**_defaults(), **asked, "dataset_id": dataset_id}, strict=False)


#: fields of a request that the server may have defaults for
DEFAULTED = ("framework", "model_name")


def _defaults() -> dict[str, str]:
    configured = {"framework": settings().default_framework, "model_name": settings().default_model}
    return {name: value for name, value in configured.items() if value}


def _checked(fields: dict[str, Any], *, strict: bool) -> Spec:
    try:
        spec = msgspec.convert(fields, Spec, strict=strict)
    except msgspec.ValidationError as error:
        raise unusable_fields(error) from error
    trainer = trainers().get(spec.framework)
    if trainer is None:
        raise unusable_field("framework", f"use one of {', '.join(sorted(trainers()))}")
    if not any(fnmatchcase(spec.model_name, pattern) for pattern in trainer.models):
        raise unusable_field("model_name", f"{spec.framework} knows {', '.join(trainer.models)}")
    if spec.task == "predict" and not spec.checkpoint_key:
        raise unusable_field("checkpoint_key", "name the weights to predict with, such as checkpoints/job-<id>/best.pt")
    return spec


def as_json(spec: Spec) -> dict[str, Any]:
    """Return a spec as the store keeps it: only what was asked for."""
    asked: dict[str, Any] = msgspec.to_builtins(spec)
    return asked
