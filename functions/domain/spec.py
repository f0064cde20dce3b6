"""A job's specification, and the types of its fields."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from functions.domain import descriptions, names

Name = Annotated[str, Meta(pattern=names.NAME, max_length=names.NAME_LENGTH, description=names.NAME_RULES)]

Key = Annotated[str, Meta(pattern=names.KEY, max_length=names.KEY_LENGTH, description=names.KEY_RULES)]

#: A value of a Kubernetes label.
Label = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?\Z",
        max_length=63,
        description="1 to 63 letters, digits, dots, dashes and underscores, the first and last a letter or digit",
    ),
]

#: An ETag, with or without quotes.
Etag = Annotated[
    str, Meta(pattern=r"^[!-~]+\Z", max_length=200, description="the ETag of the dataset, as the storage shows it")
]

Seconds = Annotated[float, Meta(gt=0, le=30 * 24 * 3600)]


class Spec(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A requested job. For a field that is None the trainer uses its own default.

    Name, tags and notes are for people and may change later, so that the stored specification is without them.
    """

    framework: Name
    model_name: Key
    dataset_id: Name
    #: the version to use; by default the current one
    dataset_etag: Etag | None = None
    task: Literal["train", "predict", "check"] = "train"
    #: whether a launch without GPUs checks the dataset before the training; by default as the installation is set up
    check_first: bool | None = None
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
    #: gpu_type, nodes, queue and priority are for clusters only
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
    name: Name | None = None
    tags: descriptions.Tags = []
    notes: descriptions.Notes | None = None


#: the fields that are not part of the stored specification
DESCRIPTION = ("name", "tags", "notes")


#: Changes of another job's fields for a new job; null: as if the field was not set.
SpecChanges = msgspec.defstruct(
    "SpecChanges",
    [(field.name, field.type | msgspec.UnsetType | None, msgspec.UNSET) for field in msgspec.structs.fields(Spec)],
    kw_only=True,
    forbid_unknown_fields=True,
    module=__name__,
    namespace={"__doc__": "What differs from the old job; null takes the default, also of one hyperparameter."},
)


class Origin(NamedTuple):
    """Where a job comes from."""

    #: the ``sub`` of the token that requested it; None if unknown
    owner: str | None = None
    #: the job whose checkpoint it continues from
    resumed_from: str | None = None
    #: the job whose settings it has
    cloned_from: str | None = None


UNKNOWN = Origin()


def hyperparameters_json(hyperparameters: Mapping[str, Any]) -> bytes:
    """Return hyperparameters as a trainer receives them: compact JSON in UTF-8."""
    return msgspec.json.encode(hyperparameters)


def as_json(spec: Spec) -> dict[str, Any]:
    """Return a spec as the store saves it: without default values, and without what people may change later."""
    fields: dict[str, Any] = msgspec.to_builtins(spec)
    return {name: value for name, value in fields.items() if name not in DESCRIPTION}
