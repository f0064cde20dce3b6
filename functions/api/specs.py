"""Job specifications from request bodies and upload metadata, checked against the registered trainers."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Any

from functions.domain import declarations, descriptions, fields, json_values, names
from functions.domain.errors import Busy, ConfigurationError, unusable_field
from functions.domain.fields import Problem
from functions.domain.spec import Spec, hyperparameters_json
from functions.runtime import storage
from functions.runtime.registry import Trainer, check_default_framework, check_default_model, trainers
from functions.runtime.settings import settings

#: Linux limits an environment variable to 128 KiB, and with a small stack all variables together.
HYPERPARAMETERS_LIMIT_BYTES = 64 * 1024


def from_request(request: Mapping[str, Any], *, is_resumed: bool = False) -> Spec:
    """Return the specification in a JSON body. A resumed job needs no weights to start from: it has a checkpoint.

    Raises:
        Unusable: a field cannot be used; ``members["errors"]`` has its name and allowed values.
        Busy, ConfigurationError: the storage is unavailable, or TRAINERS or a default cannot be used.
    """
    return _checked(_completed(request), strict=True, is_resumed=is_resumed)


def from_upload(dataset_id: str, metadata: Mapping[str, str]) -> Spec:
    """Return the specification in an uploaded dataset's ``x-amz-meta-stoker-…`` metadata.

    Raises:
        Unusable, Busy, ConfigurationError: as ``from_request``; fields are named as in the job.
    """
    requested: dict[str, Any] = {
        name.removeprefix("stoker-").replace("-", "_"): _text(value)
        for name, value in metadata.items()
        if name.startswith("stoker-")
    }
    requested.pop("owner", None)
    if "tags" in requested:
        requested["tags"] = [tag.strip() for tag in requested["tags"].split(",") if tag.strip()]
    if "model" in requested:
        requested["model_name"] = requested.pop("model")
    if "hyperparameters" in requested:
        try:
            requested["hyperparameters"] = json_values.decode(requested["hyperparameters"])
        except ValueError as error:
            raise unusable_field("hyperparameters", f"use one JSON object: {error}") from error
    return _checked({**_completed(requested), "dataset_id": dataset_id}, strict=False)


def is_without_job(metadata: Mapping[str, str]) -> bool:
    """Return whether an upload's metadata says that no job is wanted: ``x-amz-meta-job: none``."""
    return metadata.get("job", "").strip().lower() == "none"


def owner_of_upload(metadata: Mapping[str, str]) -> str | None:
    """Return the owner that an upload's metadata names; upload links set it, other uploaders may."""
    owner = _text(metadata.get("stoker-owner", "")).strip()
    return names.printable(owner) or None


#: fields with a default in the settings
DEFAULTED = ("framework", "model_name")


def _text(value: str) -> str:
    """Decode a metadata value: clients send non-ASCII text in RFC 2047 encoding or as raw UTF-8."""
    if "=?" in value:
        try:
            return str(make_header(decode_header(value)))
        except (HeaderParseError, LookupError, UnicodeError):
            return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _completed(requested: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request with the defaults, and with the framework that has the requested model, if only one has it."""
    check_default_framework()
    if "model_name" not in requested:
        check_default_model()
    defaults = {"framework": settings().default_framework, "model_name": settings().default_model}
    completed = {**{name: value for name, value in defaults.items() if value}, **requested}
    model = requested.get("model_name") or (None if "framework" in completed else completed.get("model_name"))
    if "framework" not in requested and isinstance(model, str):
        having = [framework for framework, trainer in trainers().items() if trainer.accepts(model)]
        if len(having) == 1:
            completed["framework"] = having[0]
    if "framework" not in completed:
        raise unusable_field("framework", f"it is missing; use one of {', '.join(sorted(trainers()))}")
    return completed


def _checked(requested: dict[str, Any], *, strict: bool, is_resumed: bool = False) -> Spec:
    spec = fields.convert(requested, Spec, strict=strict)
    spec.framework, spec.dataset_id = names.normalised(spec.framework), names.normalised(spec.dataset_id)
    spec.name = spec.name and names.normalised(spec.name)
    spec.tags = descriptions.normalised_tags(spec.tags)
    spec.notes = spec.notes and descriptions.normalised_notes(spec.notes)
    trainer = trainers().get(spec.framework)
    if trainer is None:
        raise unusable_field("framework", f"use one of {', '.join(sorted(trainers()))}")
    if not trainer.tasks:
        needs = "image" if settings().launcher == "kubernetes" else "command"
        raise ConfigurationError(f"TRAINERS: the trainer {spec.framework} has no {needs}")
    spec.model_name = _spelled(spec.model_name, trainer)
    if spec.task == "check":  # needs no GPU, and no model
        spec.gpus, spec.gpu_type, spec.nodes, spec.device, spec.check_first = 0, None, 1, None, None
    if problems := list(_problems(spec, trainer)):
        raise fields.unusable(problems)
    if spec.task != "check" and not is_resumed and (problem := _missing_weights(spec, trainer)):
        raise fields.unusable([problem])
    return spec


def _spelled(model: str, trainer: Trainer) -> str:
    """Return a model's name as the trainer declares it, unless the bucket has weights with the name as given."""
    declared = trainer.spelled(model)
    is_other = declared != model and declarations.accepts(trainer.declared.models, model)
    return model if is_other and storage.head(f"models/{model}") is not None else declared


def _missing_weights(spec: Spec, trainer: Trainer) -> Problem | None:
    """Return the problem of weights that the trainer expects in the bucket, and that are missing there."""
    key, model = spec.checkpoint_key, spec.model_name
    if not key and not trainer.declared.needs_weights(model):
        return None
    with suppress(Busy, ConfigurationError):  # the trainer decides, since the storage may be available by then
        if storage.head(key or f"models/{model}") is None:
            if key:
                return Problem("checkpoint_key", f"the bucket has no {names.printable(key)}; name weights that it has")
            refusal = declarations.weights_refusal(spec.framework, trainer.declared.models, model)
            return Problem("model_name", refusal)
    return None


def _problems(spec: Spec, trainer: Trainer) -> Iterator[Problem]:
    """Yield the problems for which the trainer would refuse the job, by its declaration."""
    declared = trainer.declared
    if spec.task != "check" and not trainer.accepts(spec.model_name):
        yield Problem("model_name", declarations.model_refusal(spec.framework, declared.models, spec.model_name))
    if not trainer.can_start(spec.task):
        known = " or ".join(trainer.tasks)
        yield Problem("task", f"the trainer {spec.framework} has no task {spec.task}; use {known}")
    if spec.task == "predict" and not spec.checkpoint_key:
        example = "checkpoints/job-<id>/best.pt"
        yield Problem("checkpoint_key", f"name the weights to predict with, such as {example}")
    if spec.check_first and spec.task != "train":
        yield Problem("check_first", "only the dataset of a training is checked first; leave it out")
    elif spec.check_first and "check" not in trainer.tasks:
        yield Problem("check_first", f"the trainer {spec.framework} has no task check; leave it out")
    if len((spec.checkpoint_key or "").encode()) > names.KEY_BYTES:
        yield Problem("checkpoint_key", f"use a key of at most {names.KEY_BYTES:,} bytes in UTF-8")
    if len(hyperparameters_json(spec.hyperparameters)) > HYPERPARAMETERS_LIMIT_BYTES:
        yield Problem("hyperparameters", f"use at most {HYPERPARAMETERS_LIMIT_BYTES:,} bytes of JSON")
    yield from declarations.problems(declared, spec.framework, spec.task, spec.hyperparameters)
