"""trainer.json: what this trainer accepts, which the functions use to check submitted jobs.

``python describe.py`` writes it; a test fails if the file is out of date.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from utils import Settings

FILE = Path(__file__).with_name("trainer.json")
#: the fields of a job that are settings of every trainer
FIELDS = {
    "epochs": "Passes over the training images.",
    "batch_size": "Images in a batch, over all GPUs.",
    "image_size": "Height and width of the model's input, in pixels. By default the model's own.",
    "learning_rate": "The initial learning rate. By default the framework chooses it.",
    "seed": "Seeds all random numbers.",
    "workers": "Processes that load images, for each GPU.",
    "device": "cpu, mps, or the numbers of GPUs, such as 0,1. By default all that there are.",
}
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


class Models(NamedTuple):
    """The models: names and patterns, and the patterns whose weights must be in the bucket."""

    names: Iterable[str]
    in_bucket: Iterable[str] = ()


def fields(defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the fields of a job with their defaults; ``defaults`` are those that the framework sets itself."""
    return [_field(name, description, defaults) for name, description in FIELDS.items()]


def _field(name: str, description: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    info = Settings.model_fields[name]
    kind = next(kind for kind in (*get_args(info.annotation), info.annotation) if kind in _TYPES)
    above = next((bound.gt for bound in info.metadata if hasattr(bound, "gt")), None)
    minimum = next((bound.ge for bound in info.metadata if hasattr(bound, "ge")), above)
    return option(
        name,
        _TYPES[kind],
        defaults.get(name, info.default),
        description=description,
        minimum=minimum,
        exclusive_minimum=None if above is None else True,
    )


def type_of(value: Any) -> str:
    """Return the JSON type of a value."""
    return _TYPES[type(value)]


def option(name: str, kind: str | Sequence[str], default: Any, **more: Any) -> dict[str, Any]:
    """Return an option: its JSON type or types, its default, and the values of ``more`` that are not None."""
    return {"name": name, "type": kind, "default": default, **{key: it for key, it in more.items() if it is not None}}


def text(
    *,
    models: Models,
    tasks: Sequence[str],
    fields: Sequence[Mapping[str, Any]],
    options: Sequence[Mapping[str, Any]],
    aliases: Mapping[str, str],
) -> str:
    """Return the file's content, with a line for each model, field and option."""
    parts: dict[str, str] = {
        "models": _lines(sorted(models.names)),
        **({"bucket_models": json.dumps(list(models.in_bucket))} if models.in_bucket else {}),
        "tasks": json.dumps(list(tasks)),
        "fields": _lines(fields),
        "options": _lines(options),
        "aliases": json.dumps(dict(aliases)),
    }
    return "{\n" + ",\n".join(f'"{name}": {part}' for name, part in parts.items()) + "\n}\n"


def _lines(values: Sequence[Any]) -> str:
    return "[\n" + ",\n".join(json.dumps(value) for value in values) + "\n]"
