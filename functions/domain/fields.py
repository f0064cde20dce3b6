"""Conversion of values to models, with error messages that tell people what each field may be."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import inspect

from functions.domain.errors import Unusable

Model = TypeVar("Model")
#: how much of an unknown field's name a message shows
_NAME_LENGTH = 100

_PLAIN = {inspect.AnyType: "any JSON value", inspect.BoolType: "true or false", inspect.BytesType: "text in base64"}


class Problem(NamedTuple):
    """One field that cannot be used."""

    field: str
    detail: str


def convert(value: object, model: type[Model], *, strict: bool = True) -> Model:
    """Return a value, such as decoded JSON, as a model; with ``strict=False`` its numbers may be text.

    Raises:
        Unusable: ``members["errors"]`` names each unusable field and its allowed values.
    """
    try:
        return msgspec.convert(value, model, strict=strict)
    except msgspec.ValidationError as error:
        # msgspec's message names Python types, and only the first field.
        raise unusable(list(problems(value, model, strict=strict))) from error


def unusable(problems: list[Problem]) -> Unusable:
    """Return the error that names these fields."""
    detail = "; ".join(f"{problem.field}: {problem.detail}" for problem in problems)
    return Unusable(detail, errors=[problem._asdict() for problem in problems])


def problems(value: object, model: Any, *, strict: bool = True, within: str = "") -> Iterator[Problem]:
    """Yield a problem for each unusable field of a struct; ``within`` is the struct's path, such as ``error.``."""
    if not isinstance(value, Mapping):
        yield Problem(within.rstrip(".") or "body", "use a JSON object")
        return
    known = {field.encode_name: field for field in msgspec.structs.fields(model)}
    if model.__struct_config__.forbid_unknown_fields:
        for name in filter(lambda name: name not in known, value):
            yield Problem(f"{within}{name}"[:_NAME_LENGTH], f"there is no such field; {suggestion(str(name), known)}")
    for name, field in known.items():
        if name in value:
            yield from _of_field(value[name], field.type, f"{within}{name}", strict=strict)
        elif field.required:
            yield Problem(f"{within}{name}", f"it is missing; use {allowed_values(field.type)}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Suggest the known name that is most like a wrong one, or else all known names."""
    by_key = {one.casefold().replace("-", "_"): one for one in known}
    nearest = get_close_matches(name[:_NAME_LENGTH].casefold().replace("-", "_"), by_key, n=1)
    return f"do you mean {by_key[nearest[0]]}?" if nearest else f"use {', '.join(by_key.values())}"


def _of_field(value: object, kind: Any, path: str, *, strict: bool) -> Iterator[Problem]:
    try:
        msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError:
        yield from _inside(value, _bare(kind), path, strict=strict) or [Problem(path, f"use {allowed_values(kind)}")]


def _inside(value: object, kind: Any, path: str, *, strict: bool) -> list[Problem]:
    """Return what is wrong with the fields of a struct or the values of a list; nothing where it is neither."""
    if _is_struct(kind) and isinstance(value, Mapping):
        return list(problems(value, kind, strict=strict, within=f"{path}."))
    if get_origin(kind) is list and isinstance(value, list):
        (item,) = get_args(kind)
        each = (_of_field(element, item, f"{path}[{index}]", strict=strict) for index, element in enumerate(value))
        return next((problems for problems in map(list, each) if problems), [])  # only the first unusable element
    return []


def _bare(kind: Any) -> Any:
    """Return a type without its bounds, None and UNSET."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _bare(arguments[0])
    if origin in {Union, UnionType}:
        some = [one for one in arguments if one not in {NoneType, msgspec.UnsetType}]
        return _bare(some[0]) if len(some) == 1 else kind
    return kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def allowed_values(kind: Any) -> str:
    """Describe a type's values, such as ``a whole number from 1 to 64``; a description in the type's Meta wins."""
    return _allowed_values(inspect.type_info(kind))


def _allowed_values(info: inspect.Type) -> str:
    match info:
        case inspect.Metadata(extra_json_schema={"description": str(description)}):
            return description
        case inspect.Metadata():
            return _allowed_values(info.type)
        case inspect.UnionType():
            return " or ".join(_allowed_values(one) for one in info.types if not isinstance(one, inspect.NoneType))
        case inspect.ListType() | inspect.VarTupleType():
            return f"a list{_length(info, 'values')}, each {_allowed_values(info.item_type)}"
        case inspect.DictType():
            return _object(info)
    return _scalar(info)


def _object(info: inspect.DictType) -> str:
    names, values = _allowed_values(info.key_type), _allowed_values(info.value_type)
    if (names, values) == ("text", _PLAIN[inspect.AnyType]):
        return f"a JSON object{_length(info, 'names')}"
    return f"an object{_length(info, 'names')}, each name {names}, each value {values}"


def _scalar(info: inspect.Type) -> str:
    match info:
        case inspect.IntType() | inspect.FloatType():
            return ("a whole number" if isinstance(info, inspect.IntType) else "a number") + _range(info)
        case inspect.StrType():
            return "text" + _length(info, "characters")
        case inspect.LiteralType():
            return _one_of(info.values)
        case inspect.EnumType():
            return _one_of([member.value for member in _members(info.cls)])
    return _PLAIN.get(type(info), "a JSON object")


def _members(kind: type[Enum]) -> list[Enum]:
    return list(kind)


def _one_of(values: Any) -> str:
    every = [str(value) for value in values]
    return every[0] if len(every) == 1 else f"one of {', '.join(every)}"


def _range(info: inspect.IntType | inspect.FloatType) -> str:
    if info.ge is not None and info.le is not None:
        return f" from {info.ge:,} to {info.le:,}"
    bounds = [
        f"more than {info.gt:,}" if info.gt is not None else None,
        f"at least {info.ge:,}" if info.ge is not None else None,
        f"less than {info.lt:,}" if info.lt is not None else None,
        f"at most {info.le:,}" if info.le is not None else None,
    ]
    present = [bound for bound in bounds if bound]
    return f", {' and '.join(present)}" if present else ""


def _length(info: inspect.StrType | inspect.ListType | inspect.VarTupleType | inspect.DictType, what: str) -> str:
    if info.min_length and info.max_length is not None:
        return f" of {info.min_length} to {info.max_length:,} {what}"
    if info.max_length is not None:
        return f" of at most {info.max_length:,} {what}"
    return f" of at least {info.min_length} {what}" if info.min_length else ""
