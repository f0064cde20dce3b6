"""What a job asks for: the body of ``POST /v1/jobs``, and an upload's metadata."""

from collections.abc import Mapping
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from functions.domain import fields, json_values, names
from functions.domain.errors import unusable_field
from functions.runtime.settings import Trainer, check_defaults, settings, trainers

Name = Annotated[str, Meta(pattern=names.NAME, max_length=names.NAME_LENGTH, description=names.NAME_WORDS)]
Key = Annotated[str, Meta(pattern=names.KEY, max_length=names.KEY_LENGTH, description=names.KEY_WORDS)]
#: A value of a Kubernetes label.
Label = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?\Z",
        max_length=63,
        description="1 to 63 letters, digits, dots, dashes and underscores, the first and last a letter or digit",
    ),
]
#: Linux takes no environment variable over 128 KiB, and no more than that in all where the stack is small.
HYPERPARAMETERS_LIMIT_BYTES = 64 * 1024
#: An ETag, with or without quotes.
Etag = Annotated[
    str, Meta(pattern=r"^[!-~]+\Z", max_length=200, description="the ETag of the dataset, as the storage shows it")
]
Seconds = Annotated[float, Meta(gt=0, le=30 * 24 * 3600)]


class Spec(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One job's request. What is None is the trainer's own default."""

    framework: Name
    model_name: Key
    dataset_id: Name
    #: the version that it must be; the one that is in the bucket, where none is named
    dataset_etag: Etag | None = None
    task: Literal["train", "predict"] = "train"
    epochs: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    batch_size: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    image_size: Annotated[int, Meta(ge=16, le=8_192)] | None = None
    learning_rate: Annotated[float, Meta(gt=0, le=1_000)] | None = None
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] | None = None
    device: (
        Annotated[
            str,
            Meta(
                pattern=r"^(cpu|mps|[0-9]{1,2}(,[0-9]{1,2})*)\Z",
                max_length=200,
                description="cpu, mps, or the numbers of GPUs, such as 0,1",
            ),
        ]
        | None
    ) = None
    workers: Annotated[int, Meta(ge=0, le=256)] | None = None
    gpus: Annotated[int, Meta(ge=0, le=64)] = 0
    #: a cluster's: which GPU, on how many nodes, by which queue and priority; one machine has no choice of these
    gpu_type: Label | None = None
    nodes: Annotated[int, Meta(ge=1, le=64)] = 1
    queue: Label | None = None
    priority: Label | None = None
    hyperparameters: dict[str, Any] = {}
    checkpoint_key: Key | None = None
    attempt_limit: Annotated[int, Meta(ge=1, le=100)] = 3
    longest_pending_seconds: Seconds | None = None
    longest_running_seconds: Seconds | None = None
    longest_stalled_seconds: Seconds | None = None
    heartbeat_seconds: Annotated[float, Meta(ge=1, le=3600)] | None = None


def from_request(request: Mapping[str, Any]) -> Spec:
    """Return the job that a JSON body asks for.

    Raises:
        Unusable: a field cannot be used; ``members["errors"]`` names it and what it may be.
        ConfigurationError: no trainer can be looked up.
    """
    return _checked({**_defaults(), **request}, strict=True)


def from_upload(dataset_id: str, metadata: Mapping[str, str]) -> Spec:
    """Return the job that an uploaded dataset asks for by its ``x-amz-meta-stoker-…`` metadata.

    Raises:
        Unusable, ConfigurationError: as ``from_request``; fields are named as in the job.
    """
    asked: dict[str, Any] = {
        name.removeprefix("stoker-").replace("-", "_"): _text(value)
        for name, value in metadata.items()
        if name.startswith("stoker-")
    }
    if "model" in asked:
        asked["model_name"] = asked.pop("model")
    if "hyperparameters" in asked:
        try:
            asked["hyperparameters"] = json_values.decode(asked["hyperparameters"])
        except ValueError as error:
            raise unusable_field("hyperparameters", f"use one JSON object: {error}") from error
    return _checked({**_defaults(), **asked, "dataset_id": dataset_id}, strict=False)


#: fields of a request that the server may have defaults for
DEFAULTED = ("framework", "model_name")


def _text(value: str) -> str:
    """Return a metadata value as its sender wrote it: headers carry other than ASCII as RFC 2047 or as bare UTF-8."""
    if "=?" in value:
        try:
            return str(make_header(decode_header(value)))
        except (HeaderParseError, LookupError, UnicodeError):
            return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _defaults() -> dict[str, str]:
    check_defaults()
    configured = {"framework": settings().default_framework, "model_name": settings().default_model}
    return {name: value for name, value in configured.items() if value}


def _checked(asked: dict[str, Any], *, strict: bool) -> Spec:
    spec = fields.convert(asked, Spec, strict=strict)
    spec.framework, spec.dataset_id = names.normalised(spec.framework), names.normalised(spec.dataset_id)
    trainer = trainers().get(spec.framework)
    if trainer is None:
        raise unusable_field("framework", f"use one of {', '.join(sorted(trainers()))}")
    if not _is_known(spec.model_name, trainer):
        raise unusable_field("model_name", f"{spec.framework} knows {', '.join(trainer.models)}")
    if spec.task == "predict" and not spec.checkpoint_key:
        raise unusable_field("checkpoint_key", "name the weights to predict with, such as checkpoints/job-<id>/best.pt")
    if len(hyperparameters_json(spec.hyperparameters)) > HYPERPARAMETERS_LIMIT_BYTES:
        raise unusable_field("hyperparameters", f"use at most {HYPERPARAMETERS_LIMIT_BYTES:,} bytes of JSON")
    return spec


def _is_known(model_name: str, trainer: Trainer) -> bool:
    name = names.normalised(model_name)
    return any(fnmatchcase(name, names.normalised(pattern)) for pattern in trainer.models)


def hyperparameters_json(hyperparameters: Mapping[str, Any]) -> bytes:
    """Return hyperparameters as a trainer gets them: JSON in UTF-8, as short as it was sent."""
    return msgspec.json.encode(hyperparameters)


def as_json(spec: Spec) -> dict[str, Any]:
    """Return a spec as the store keeps it: only what was asked for."""
    asked: dict[str, Any] = msgspec.to_builtins(spec)
    return asked
