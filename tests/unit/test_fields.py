"""Error messages name all unusable fields with their allowed values, without Python's terms."""

from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from functions.domain import fields
from functions.domain.errors import Unusable


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    reason: Literal["a", "b"] = "a"


class Model(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern=r"^\w+\Z", description="letters only")]
    count: Annotated[int, Meta(ge=1, le=50_000)] | None = None
    rate: Annotated[float, Meta(gt=0, le=10)] | None = None
    text: Annotated[str, Meta(min_length=1, max_length=3)] = "x"
    colour: Colour | None = None
    flag: bool = False
    metrics: Annotated[dict[Annotated[str, Meta(max_length=3)], float], Meta(max_length=2)] | None = None
    keys: Annotated[list[str], Meta(max_length=2)] | None = None
    inner: Inner | None = None
    inners: list[Inner] = []
    anything: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("change", "field", "detail"),
    [
        ({"name": "a b"}, "name", "use letters only"),
        ({"count": 0}, "count", "use a whole number from 1 to 50,000"),
        ({"count": 1.5}, "count", "use a whole number from 1 to 50,000"),
        ({"rate": 0}, "rate", "use a number, more than 0 and at most 10"),
        ({"text": ""}, "text", "use text of 1 to 3 characters"),
        ({"colour": "green"}, "colour", "use one of red, blue"),
        ({"flag": "yes"}, "flag", "use true or false"),
        ({"metrics": {"abcd": 1}}, "metrics", "use an object of at most 2 names, each name text of at most 3 characters, each value a number"),
        ({"keys": ["a", 1, 2]}, "keys[1]", "use text"),
        ({"keys": ["a", "b", "c"]}, "keys", "use a list of at most 2 values, each text"),
        ({"inners": [{}, {"reason": "c"}]}, "inners[1].reason", "use one of a, b"),
        ({"inner": {"reason": "c"}}, "inner.reason", "use one of a, b"),
        ({"inner": {"x": 1}}, "inner.x", "there is no such field; use reason"),
        ({"inner": 5}, "inner", "use a JSON object"),
        ({"inners": {}}, "inners", "use a list, each a JSON object"),
        ({"anything": []}, "anything", "use a JSON object"),
        ({"key`\n": 1}, "key`\n", "there is no such field; do you mean keys?"),
        ({"Colour": 1}, "Colour", "there is no such field; do you mean colour?"),
        ({"x-y": 1}, "x-y", "there is no such field; use name, count, rate, text, colour, flag, metrics, keys, inner, inners, anything"),
    ],
)  # fmt: skip
def test_an_unusable_field_is_named_with_its_allowed_values(change: dict[str, Any], field: str, detail: str) -> None:
    with pytest.raises(Unusable) as refused:
        fields.convert({"name": "a"} | change, Model)

    assert refused.value.members["errors"] == [{"field": field, "detail": detail}]


def test_every_field_is_named_at_once() -> None:
    with pytest.raises(Unusable) as refused:
        fields.convert({"count": 0, "text": "long"}, Model)

    assert str(refused.value) == (
        "name: it is missing; use letters only; count: use a whole number from 1 to 50,000; "
        "text: use text of 1 to 3 characters"
    )


@pytest.mark.parametrize("value", [[], 5, None, "x"])
def test_a_value_that_is_not_an_object_is_refused(value: Any) -> None:
    with pytest.raises(Unusable, match="body: use a JSON object"):
        fields.convert(value, Model)


def test_text_is_converted_to_numbers_only_without_strict() -> None:
    assert fields.convert({"name": "a", "count": "5"}, Model, strict=False).count == 5
    with pytest.raises(Unusable, match="count: use a whole number"):
        fields.convert({"name": "a", "count": "5"}, Model)
