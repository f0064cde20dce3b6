"""A trainer's declaration (trainer.json): its models, tasks and options; and checks of jobs against it."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from functions.domain import names
from functions.domain.fields import Problem, suggestion

_SHOWN, _NEAREST = 12, 3
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "string": str,
    "array": list,
    "object": dict,
}


class Option(msgspec.Struct, frozen=True):
    """A field of a job or a hyperparameter, as a trainer declares it."""

    name: str
    #: JSON's name of its type, or several
    type: str | list[str] = []
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    #: whether the bound itself is outside
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    choices: list[str | int | float] | None = None
    description: str = ""
    #: the tasks that it is for
    tasks: list[str] = []

    def refusal(self, value: object) -> str | None:
        """Return the allowed values if the value is invalid, else None; null means the default."""
        if value is None or (self._has_type(value) and self._is_within(value)):
            return None
        if self.choices:
            return f"use one of {', '.join(str(choice) for choice in self.choices)}"
        kinds = [self.type] if isinstance(self.type, str) else self.type
        return f"use {' or '.join(_ARTICLED[kind] for kind in kinds if kind in _ARTICLED)}{self._bounds()}"

    def _has_type(self, value: object) -> bool:
        kinds = [self.type] if isinstance(self.type, str) else self.type
        if isinstance(value, bool):  # in Python, true is a number
            return not kinds or "boolean" in kinds
        return not kinds or any(isinstance(value, _TYPES[kind]) for kind in kinds if kind in _TYPES)

    def _is_within(self, value: object) -> bool:
        if self.choices is not None and value not in self.choices:
            return False
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        is_low = self.minimum is not None and (
            value < self.minimum or (self.exclusive_minimum and value == self.minimum)
        )
        is_high = self.maximum is not None and (
            value > self.maximum or (self.exclusive_maximum and value == self.maximum)
        )
        return not (is_low or is_high)

    def _bounds(self) -> str:
        lower = self.minimum is not None and f"{'more than' if self.exclusive_minimum else 'at least'} {self.minimum:g}"
        upper = self.maximum is not None and f"{'less than' if self.exclusive_maximum else 'at most'} {self.maximum:g}"
        present = [bound for bound in (lower, upper) if bound]
        return f", {' and '.join(present)}" if present else ""


_ARTICLED = {
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "array": "a list",
    "object": "a JSON object",
}


class Declaration(msgspec.Struct, frozen=True):
    """A trainer's declaration."""

    #: names, and shell patterns of names
    models: tuple[str, ...] = ("*",)
    #: patterns of names that are in ``models`` by name, or else have their weights in the bucket, below ``models/``
    bucket_models: tuple[str, ...] = ()
    #: empty: unknown
    tasks: tuple[str, ...] = ()
    #: fields of a job, such as epochs, with the trainer's defaults
    fields: list[Option] = []
    #: hyperparameters; None: unknown
    options: list[Option] | None = None
    #: the framework's own names of fields, such as lr0 for learning_rate
    aliases: dict[str, str] = {}

    def needs_weights(self, model: str) -> bool:
        """Return whether the model exists only if the bucket has its weights."""
        return names.normalised(model) not in self.models and accepts(self.bucket_models, model)


def accepts(models: Iterable[str], name: str) -> bool:
    """Return whether a model's name is among names and patterns."""
    normalised = names.normalised(name)
    return any(normalised == model or fnmatchcase(normalised, names.normalised(model)) for model in models)


def spelled(models: Iterable[str], name: str) -> str:
    """Return a model's name as it is declared, if only its case differs from a declared one; else the name itself."""
    known = list(models)
    if name in known:
        return name
    folded = name.casefold()
    same = [model for model in known if model.casefold() == folded and not _is_pattern(model)]
    return same[0] if len(same) == 1 else name


def _is_pattern(model: str) -> bool:
    return not set("*?[").isdisjoint(model)


def model_refusal(framework: str, models: Iterable[str], name: str) -> str:
    """Return the message for a model that a framework does not accept, with the nearest name."""
    known = list(models)
    nearest = _nearest(known, name, 1)
    if nearest:
        return f"{framework} has no model {names.printable(name)}; do you mean {nearest[0]}?"
    shown = ", ".join(known) if len(known) <= _SHOWN else "GET /v1/frameworks lists its models"
    return f"use a model of {framework}: {shown}"


def weights_refusal(framework: str, models: Iterable[str], name: str) -> str:
    """Return the message for a model that is neither declared nor in the bucket."""
    shown = names.printable(name)
    nearest = _nearest([model for model in models if not _is_pattern(model)], name, _NEAREST)
    advice = f"do you mean {' or '.join(nearest)}?" if nearest else "put the weights there, or use another model"
    return f"{framework} has no model {shown}, and the bucket has no models/{shown}; {advice}"


def _nearest(models: Iterable[str], name: str, count: int) -> list[str]:
    by_key = {model.casefold(): model for model in models}
    return [by_key[key] for key in get_close_matches(name.casefold(), by_key, n=count)]


def problems(
    declaration: Declaration, framework: str, task: str, hyperparameters: Mapping[str, Any]
) -> Iterator[Problem]:
    """Yield a problem for each hyperparameter that the trainer would refuse."""
    if declaration.options is None:
        return
    known = {option.name: option for option in declaration.options if not option.tasks or task in option.tasks}
    if task == "check":  # checks a dataset for a training with the same settings
        known = {option.name: option for option in declaration.options}
    for name, value in hyperparameters.items():
        field = f"hyperparameters.{name}"[:100]
        if name in declaration.aliases:
            yield Problem(field, f"{framework}'s {name} is set by the job's field {declaration.aliases[name]}")
        elif name not in known:
            yield Problem(field, _unknown(framework, task, name, known))
        elif refusal := known[name].refusal(value):
            yield Problem(field, refusal)


def _unknown(framework: str, task: str, name: str, known: Mapping[str, Option]) -> str:
    if not known:
        return f"{framework} has no hyperparameters for {task}; leave it out"
    nearest = suggestion(name, known)
    is_long = nearest.startswith("use ") and len(known) > _SHOWN
    return f"{framework} has no such hyperparameter; {'GET /v1/frameworks lists them' if is_long else nearest}"
