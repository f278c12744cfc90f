"""Examples of JSON Schemas stay small, whatever the schema asks for."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.json_example import MOST_CHARACTERS, NoExample, example_of

WORD = "w" * 40
LONG = "w" * 500
TYPES = ["array", "boolean", "integer", "null", "number", "object", "string"]
NAMES = st.sampled_from(["a", "b", WORD])
GIVEN = st.sampled_from([1, WORD, {WORD: WORD}, [WORD] * 4])
RULES: dict[str, st.SearchStrategy[Any]] = {
    "type": st.one_of(st.sampled_from(TYPES), st.lists(st.sampled_from(TYPES), max_size=2)),
    "const": GIVEN,
    "default": GIVEN,
    "enum": st.lists(GIVEN, min_size=1, max_size=2),
    "minItems": st.sampled_from([0, 2, 3.0, 10, 11]),
    "minLength": st.sampled_from([0, 5.0, 1_000, 1_001]),
    "maxLength": st.sampled_from([3, 4.0, 2_000]),
    "minimum": st.sampled_from([1, -1e308, 1e308]),
    "multipleOf": st.sampled_from([1, 0.5, 1e-320, 1e308]),
    "required": st.lists(NAMES, max_size=3),
    "$ref": st.sampled_from(["#/$defs/a", "#/$defs/b", "#", "#/default"]),
}


def _rules(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    nested = {"items": inner, "allOf": several, "anyOf": several, "oneOf": several}
    objects = {name: st.dictionaries(NAMES, inner, max_size=3) for name in ("properties", "$defs")}
    return st.fixed_dictionaries({}, optional={**RULES, **nested, **objects})


SCHEMAS = st.recursive(st.one_of(st.booleans(), st.fixed_dictionaries({}, optional=RULES)), _rules, max_leaves=12)


def _nested(schema: dict[str, Any], levels: int, count: int) -> dict[str, Any]:
    for _ in range(levels):
        schema = {"type": "array", "minItems": count, "items": schema}
    return schema


@given(SCHEMAS)
def test_example_is_small_or_there_is_none(schema: Any) -> None:
    try:
        example = example_of(schema)
    except NoExample:
        return
    assert len(msgspec.json.encode(example)) <= MOST_CHARACTERS


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"type": "array", "minItems": 11}, id="items"),
        pytest.param({"type": "string", "minLength": 1_001}, id="a long string"),
        pytest.param(_nested({"type": "integer"}, 4, 10), id="arrays in arrays"),
        pytest.param(_nested({"const": LONG}, 2, 10), id="copies of a small value"),
        pytest.param(_nested({"default": {LONG: [LONG] * 4}}, 2, 8), id="copies of a default"),
        pytest.param({"required": [str(number) for number in range(1_001)]}, id="required properties"),
        pytest.param(
            {"allOf": [{"$ref": "#/$defs/a"}] * 400, "$defs": {"a": {"required": list("abcdefghij" * 50)}}},
            id="parts that are merged again and again",
        ),
    ],
)
def test_schema_that_asks_for_a_large_example_has_none(schema: dict[str, Any]) -> None:
    with pytest.raises(NoExample, match="large"):
        example_of(schema)


def test_example_at_the_limits_is_made() -> None:
    assert example_of({"type": "integer", "allOf": [True, {"minimum": 3}]}) == 3
    assert example_of(_nested({"type": "integer"}, 2, 10)) == [[1] * 10] * 10
    assert len(example_of({"type": "string", "minLength": 1_000.0})) == 1_000


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 1e308, "multipleOf": 1e-320},
        {"$ref": "#/x-other", "x-other": {"examples": 5}},
    ],
    ids=str,
)
def test_schema_that_cannot_be_followed_has_no_example(schema: dict[str, Any]) -> None:
    with pytest.raises(NoExample):
        example_of(schema)
