"""Examples of JSON Schemas stay small, whatever the schema asks for, and those of queues are valid."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.dashboard.json_example import MOST_CHARACTERS, NoExample, accepted_example, example_of
from discue.domain.errors import Unprocessable
from discue.domain.schemas import compile_schema
from tests.support.clocks import no_time

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
        pytest.param(
            _nested({"type": "null", "oneOf": [True]} | {f"k{number}": 1 for number in range(1_000)}, 2, 10),
            id="copies of a wide schema with a small value",
        ),
        pytest.param(_nested({"type": ["null"] * 1_000}, 2, 10), id="copies of a long list of types"),
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


def _bounded(kind: str, bounds: st.SearchStrategy[int]) -> st.SearchStrategy[dict[str, Any]]:
    pairs = st.tuples(bounds, bounds).map(sorted)
    return st.tuples(st.booleans(), pairs, st.sets(st.sampled_from(["min", "max"]))).map(
        lambda parts: {
            "type": kind,
            "required": parts[0],
            **{name: value for name, value in zip(("min", "max"), parts[1], strict=True) if name in parts[2]},
        }
    )


WORDS = st.lists(st.sampled_from(["paid", "open", ""]), min_size=1, max_size=3)
ENUMS = st.fixed_dictionaries({"type": st.just("string"), "enum": WORDS}, optional={"required": st.booleans()})
FOLLOWED = st.recursive(
    st.one_of(_bounded("string", st.integers(0, 12)), _bounded("number", st.integers(-9, 9)), ENUMS),
    lambda rule: st.one_of(
        st.fixed_dictionaries({"type": st.just("array"), "items": rule}, optional={"required": st.booleans()}),
        st.fixed_dictionaries(
            {"type": st.just("object"), "props": st.dictionaries(NAMES, rule, min_size=1, max_size=3)},
            optional={"required": st.booleans(), "strict": st.booleans()},
        ),
    ),
    max_leaves=8,
)
"""Rules without patterns: each has an example."""


@given(st.dictionaries(NAMES, FOLLOWED, min_size=1, max_size=3))
def test_example_of_rules_is_accepted_by_them(rules: dict[str, Any]) -> None:
    text = json.dumps(rules)
    checker = compile_schema(text, "rules")
    example = accepted_example(text, "rules", checker, no_time)

    assert checker.violations(example, "", no_time) == ()
    assert json.loads(example).keys() == rules.keys()


@given(SCHEMAS)
def test_example_of_a_json_schema_is_accepted_by_it(schema: Any) -> None:
    text = json.dumps(schema)
    try:
        checker = compile_schema(text, "json_schema")
        example = accepted_example(text, "json_schema", checker, no_time)
    except (Unprocessable, NoExample):
        return
    assert checker.violations(example, "", no_time) == ()


@pytest.mark.parametrize(
    ("schema", "example"),
    [
        (
            {"type": "object", "properties": {"at": {"type": "string", "format": "date-time"}}, "required": ["at"]},
            b'{"at":"2026-07-01T12:00:00Z"}',
        ),
        ({"type": "integer", "minimum": 3}, b"3"),
    ],
    ids=str,
)
def test_example_of_a_json_schema_follows_its_rules(schema: dict[str, Any], example: bytes) -> None:
    text = json.dumps(schema)
    assert accepted_example(text, "json_schema", compile_schema(text, "json_schema"), no_time) == example


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"type": "string", "pattern": "^[A-Z]{2}$"}, id="a pattern"),
        pytest.param({"type": "integer", "not": {"const": 1}}, id="a rule that examples do not follow"),
        pytest.param({"default": "none", "type": "integer"}, id="a default that is not valid"),
    ],
)
def test_schema_whose_example_would_not_be_accepted_has_none(schema: dict[str, Any]) -> None:
    text = json.dumps(schema)
    with pytest.raises(NoExample):
        accepted_example(text, "json_schema", compile_schema(text, "json_schema"), no_time)
