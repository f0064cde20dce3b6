"""Decoding of untrusted JSON with limited nesting, so that code which traverses the value cannot overflow the stack."""

from collections.abc import Iterable
from typing import Any

import msgspec

#: the deepest nesting of arrays and objects
DEPTH_LIMIT = 32
_TOO_DEEP = f"it is nested deeper than {DEPTH_LIMIT} levels"


def decode(text: bytes | str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is not JSON in UTF-8, or it is nested too deep.
    """
    try:
        value = msgspec.json.decode(text)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    except ValueError as error:
        raise ValueError(f"it is not JSON in UTF-8 (which has no NaN or Infinity): {error}") from error
    if is_too_deep(value):
        raise ValueError(_TOO_DEEP)
    return value


def is_too_deep(value: object) -> bool:
    """Whether a JSON value is nested deeper than ``DEPTH_LIMIT``; without recursion."""
    level = _nested([value])
    for _ in range(DEPTH_LIMIT):
        level = [inner for one in level for inner in _nested(one.values() if isinstance(one, dict) else one)]
    return bool(level)


def _nested(values: Iterable[Any]) -> list[dict[str, Any] | list[Any]]:
    return [value for value in values if isinstance(value, dict | list)]
