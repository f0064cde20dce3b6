"""The fields of a job: their names and types, and parsing of ``NAME=value``.

The fields come from ``job.schema.json``, which is generated from the functions' own model (``./taskw openapi``).
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from client.errors import Json, invalid

SCHEMA_FILE = Path(__file__).with_name("job.schema.json")
#: other names for fields: those of job files, of the command line, and of other tools
ALIASES: Mapping[str, str] = {
    "dataset": "dataset_id",
    "model": "model_name",
    "lr": "learning_rate",
    "batch": "batch_size",
    "imgsz": "image_size",
    "options": "hyperparameters",
}
#: how similar an unknown name must be to a known one to be taken for a typo
_SIMILAR = 0.72
#: names less similar than this are not worth a mention
_NEAR = 0.5
#: up to this many names, all are listed; of more, only the nearest
_FEW, _NEAREST = 12, 3
_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "one JSON object",
    "array": "a list",
}


@cache
def schema() -> Json:
    """Return the JSON schema of a job file."""
    content: Json = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return content


def kinds() -> dict[str, str]:
    """Return the type of each field, by its name in the API."""
    properties = schema()["properties"].items()
    return {ALIASES.get(name, name): value["type"] for name, value in properties}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that an unknown one is most likely a typo of; None if none is similar."""
    names = {each.lower(): each for each in known}
    wanted = name.lower().replace("-", "_")
    alias = ALIASES.get(wanted)
    if alias in names:
        return names[alias]
    close = difflib.get_close_matches(wanted, names, n=1, cutoff=_SIMILAR)
    return names[close[0]] if close else None


def unknown(name: str, known: Iterable[str], what: str = "field", advice: str = "") -> str:
    """Return the message for an unknown name: with the nearest known one, or all of them, or the nearest of many.

    ``advice``: what to do if none of many is near.
    """
    known = list(known)
    near = nearest(name, known)
    if near:
        return f"there is no {what} {name}; did you mean {near}?"
    if len(known) <= _FEW:
        return f"there is no {what} {name}; use one of {', '.join(known)}"
    close = difflib.get_close_matches(name, known, n=_NEAREST, cutoff=_NEAR)
    if not close:
        return f"there is no {what} {name}{f'; {advice}' if advice else ''}"
    return f"there is no {what} {name}; the nearest are {', '.join(close)}"


def from_settings(settings: Iterable[str], options: Mapping[str, str] | None = None) -> Json:
    """Return ``NAME=value`` settings as fields of a job; names that are no field become options of the trainer.

    ``options``: the trainer's names, if known, each with the field that it means, or with nothing for an option.

    Raises:
        CallError: a name is unknown or looks like a typo, or a value has the wrong type.
    """
    fields: Json = {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator or not name:
            raise invalid(f"{setting}: write NAME=VALUE, such as epochs=20")
        field = (options or {}).get(name, _field_of(name))
        if field:
            fields[field] = parsed(field, text)
        else:
            _check_option(name, options)
            fields.setdefault("hyperparameters", {})[name] = _value(text)
    return fields


def unset(names: Iterable[str], hyperparameters: Iterable[str], options: Mapping[str, str] | None = None) -> Json:
    """Return the fields of a request, with null, that give settings of an earlier job their defaults.

    ``hyperparameters``: the names of the job's own; ``options``: as in ``from_settings``.

    Raises:
        CallError: a name is no field, and no hyperparameter of the job.
    """
    own = list(hyperparameters)
    removed: Json = {}
    for name in names:
        field = (options or {}).get(name) or _field_of(name)
        if field == "hyperparameters":
            removed.setdefault(field, {}).update(dict.fromkeys(own))
        elif name in own:
            removed.setdefault("hyperparameters", {})[name] = None
        elif field:
            removed[field] = None
        elif name not in (options or {}):  # an option that the job does not set has its default
            raise invalid(unknown(name, [*kinds(), *own], "setting of this job"))
    return removed


def _field_of(name: str) -> str | None:
    """Return the field that a name means, in any case and with dashes or underscores."""
    plain = name.lower().replace("-", "_")
    plain = ALIASES.get(plain, plain)
    return plain if plain in kinds() else None


def _check_option(name: str, options: Mapping[str, str] | None) -> None:
    if options is not None:
        if name not in options:
            known = [*kinds(), *options]
            raise invalid(unknown(name, known, "field or option of the trainer", "stoker models TRAINER lists them"))
    elif near := nearest(name, kinds()):
        raise invalid(unknown(name, [near]))


def parsed(field: str, text: str) -> Any:
    """Return a field's value from text.

    Raises:
        CallError: the text is not of the field's type.
    """
    kind = kinds()[field]
    try:
        match kind:
            case "integer":
                return int(text)
            case "number":
                return float(text)
            case "boolean":
                return {"true": True, "false": False}[text.lower()]
            case "array":
                return [word.strip() for word in text.split(",") if word.strip()]
            case "object":
                value = json.loads(text)
                if isinstance(value, dict):
                    return value
            case _:
                return text
    except (ValueError, KeyError):
        pass
    raise invalid(f"{field}: write {_KINDS[kind]}, not {text}")


def check_bounds(job: Json) -> None:
    """Check numbers against the schema, before a long upload.

    Raises:
        CallError: one is out of its bounds, which the message names.
    """
    for name, rule in schema()["properties"].items():
        value = job.get(ALIASES.get(name, name))
        low, above, high = (rule.get(bound) for bound in ("minimum", "exclusiveMinimum", "maximum"))
        if not isinstance(value, int | float) or high is None:
            continue
        if value > high or (low is not None and value < low) or (above is not None and value <= above):
            bounds = f"from {low:,} to {high:,}" if low is not None else f"above {above:,} and up to {high:,}"
            raise invalid(f"{name}: use {_KINDS[rule['type']]} {bounds}, not {value}")


def _value(text: str) -> Any:
    """Return an option's value: parsed as JSON if possible, else text."""
    try:
        return json.loads(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)
