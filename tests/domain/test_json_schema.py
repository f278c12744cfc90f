"""JSON Schema documents, compared with another implementation; expensive or remote ones are rejected."""

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from discue.domain.errors import Fault, Unprocessable
from discue.domain.patterns import MAX_MATCHED
from discue.domain.schemas import SchemaValidator, compile_schema, parse_schema
from tests.support.clocks import no_time

Document = dict[str, Any] | bool

NAMES = st.sampled_from(["a", "b", "ab", "x/y", ""])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, 2.0]), st.text("ab", max_size=3)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)
TYPES = st.sampled_from(["array", "boolean", "integer", "null", "number", "object", "string"])
SIZES = st.integers(0, 3)
REFERENCES = st.sampled_from(["#/$defs/one", "#two"])

ASSERTIONS: dict[str, st.SearchStrategy[Any]] = {
    "type": st.one_of(TYPES, st.lists(TYPES, min_size=1, max_size=3, unique=True)),
    "const": SCALARS,
    "enum": st.lists(SCALARS, min_size=1, max_size=3),
    "minimum": st.integers(-3, 3),
    "exclusiveMaximum": st.integers(-3, 3),
    "multipleOf": st.sampled_from([1, 2, 0.5]),
    "minLength": SIZES,
    "maxLength": SIZES,
    "pattern": st.sampled_from(["a", "^a", "b$", "^(a|b)+$"]),
    "minItems": SIZES,
    "maxItems": SIZES,
    "uniqueItems": st.booleans(),
    "minProperties": SIZES,
    "required": st.lists(NAMES, max_size=2, unique=True),
    "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, max_size=2, unique=True), max_size=2),
    "$ref": REFERENCES,
}


def _applicators(inner: st.SearchStrategy[Document]) -> dict[str, st.SearchStrategy[Any]]:
    several = st.lists(inner, min_size=1, max_size=2)
    return {
        "allOf": several,
        "anyOf": several,
        "oneOf": several,
        "prefixItems": several,
        **dict.fromkeys(("not", "if", "then", "else", "items", "contains", "propertyNames"), inner),
        **dict.fromkeys(("additionalProperties", "unevaluatedProperties", "unevaluatedItems"), inner),
        "properties": st.dictionaries(NAMES, inner, max_size=2),
        "patternProperties": st.dictionaries(st.sampled_from(["a", "^b", "a$"]), inner, max_size=2),
        "dependentSchemas": st.dictionaries(NAMES, inner, max_size=1),
    }


def _some_of(keywords: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Document]:
    chosen = st.lists(st.sampled_from(sorted(keywords)), max_size=3, unique=True)
    return chosen.flatmap(lambda names: st.fixed_dictionaries({name: keywords[name] for name in names}))


LEAVES = _some_of({name: values for name, values in ASSERTIONS.items() if name != "$ref"})
PARTS = st.recursive(
    st.one_of(st.booleans(), _some_of(ASSERTIONS)),
    lambda inner: _some_of(ASSERTIONS | _applicators(inner)),
    max_leaves=5,
)


@st.composite
def _documents(draw: st.DrawFn) -> dict[str, Any]:
    second = draw(st.fixed_dictionaries({"const": SCALARS, "$anchor": st.just("two")}))
    defined = {"one": draw(LEAVES), "two": second}
    return {"allOf": [draw(PARTS)], "$defs": defined}


@example({"patternProperties": {}, "additionalProperties": False}, {"a": 1})
@given(_documents(), VALUES)
def test_validation_agrees_with_another_implementation(document: dict[str, Any], value: object) -> None:
    checker = compile_schema(json.dumps(document), "json_schema")
    expected = jsonschema.Draft202012Validator(document).is_valid(value)
    # In a long message, the text that patterns match is counted.
    for body in (json.dumps(value).encode(), json.dumps(value).encode() + b" " * MAX_MATCHED):
        assert (checker.violations(body, "/data", no_time) == ()) == expected


@pytest.mark.parametrize(
    ("document", "value", "pointers"),
    [
        ({"properties": {"a": {"type": "string"}, "b": {"minimum": 3}}}, {"a": 1, "b": 2}, ["/data/a", "/data/b"]),
        ({"required": ["a", "x/y"]}, {}, ["/data/a", "/data/x~1y"]),
        (
            {"items": {"$ref": "#/$defs/n"}, "$defs": {"n": {"type": "number"}}},
            [1, "x", 2, None],
            ["/data/1", "/data/3"],
        ),
        ({"prefixItems": [{"type": "null"}], "items": False}, [1, 2], ["/data/0", "/data/1"]),
        (
            {"patternProperties": {"^n": {"type": "number"}}, "additionalProperties": False},
            {"n": "", "m": 1},
            ["/data/n", "/data/m"],
        ),
        ({"additionalProperties": {"type": "number"}}, {"a": 1, "b": ""}, ["/data/b"]),
        ({"allOf": [{"required": ["a"]}, {"properties": {"b": {"const": 1}}}]}, {"b": 2}, ["/data/a", "/data/b"]),
        ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, {"a": 1}, ["/data/b"]),
        ({"if": {"required": ["a"]}, "else": {"required": ["c"]}}, {"b": 1}, ["/data/c"]),
        ({"dependentSchemas": {"a": {"required": ["b"]}}}, {"a": 1}, ["/data/b"]),
        ({"properties": {"a": {"anyOf": [{"type": "null"}, {"type": "number"}]}}}, {"a": ""}, ["/data/a"]),
        ({"properties": {"a": {"contains": {"const": 1}}}}, {"a": [2]}, ["/data/a"]),
        ({"properties": {"a": {}}, "unevaluatedProperties": False}, {"a": 1, "b": 2}, ["/data"]),
        # Keywords that the value fulfils are not among the violations.
        ({"anyOf": [{"type": "object"}], "required": ["a"]}, {}, ["/data/a"]),
        (False, 1, ["/data"]),
    ],
)
def test_violations_have_pointers(document: Document, value: object, pointers: list[str]) -> None:
    faults = compile_schema(json.dumps(document), "json_schema").violations(
        json.dumps(value).encode(), "/data", no_time
    )
    assert [fault.pointer for fault in faults] == pointers


def _refused(document: object) -> dict[str, str]:
    with pytest.raises(Unprocessable) as refused:
        parse_schema(json.dumps(document).encode(), "json_schema")
    return dict(refused.value.faults)


@pytest.mark.parametrize(
    ("document", "pointers"),
    [
        ([], ["/json_schema"]),
        ({"properties": {"a": {"minimum": "x", "required": [1]}}}, ["minimum", "required/0"]),
        ({"type": "text"}, ["/json_schema/type"]),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, ["/json_schema/$schema"]),
        ({"items": {"$id": "https://example.com/part"}}, ["/json_schema/items/$id"]),
        ({"properties": {"x/y": {"pattern": "(?=a)"}}}, ["/json_schema/properties/x~1y/pattern"]),
        ({"patternProperties": {"(a)\\1": {}}}, ["/json_schema/patternProperties/(a)\\1"]),
        ({"$defs": {"a": {"pattern": "["}}}, ["/json_schema/$defs/a/pattern"]),
    ],
)
def test_invalid_document_lists_every_invalid_place(document: object, pointers: list[str]) -> None:
    named = list(_refused(document))
    assert len(named) == len(pointers)
    assert all(one.endswith(other) for one, other in zip(sorted(named), sorted(pointers), strict=True))


def test_unknown_type_is_refused_with_the_types() -> None:
    [detail] = _refused({"type": "objekt"}).values()
    assert detail == "must be array, boolean, integer, null, number, object or string, or a list of these"


@pytest.mark.parametrize(
    "reference",
    [
        "https://example.com/s",
        "http://127.0.0.1:9/s",
        "file:///etc/passwd",
        "other.json",
        "//example.com/s",
        "#/$defs/b",
        "#x",
    ],
)
def test_remote_reference_is_rejected(reference: str) -> None:
    document = {"$id": "https://example.com/root", "items": {"$ref": reference}, "$defs": {"a": {}}}
    assert list(_refused(document)) == ["/json_schema/items/$ref"]


def test_document_with_a_foreign_id_refers_to_itself() -> None:
    document = {
        "$id": "https://json-schema.org/draft/2020-12/schema",
        "$ref": "#/$defs/a",
        "$defs": {"a": {"const": 1}},
    }
    checker = compile_schema(json.dumps(document), "json_schema")
    assert checker.violations(b"1", "/data", no_time) == ()
    assert checker.violations(b"{}", "/data", no_time) == (Fault("/data", "must be 1"),)


@pytest.mark.parametrize(
    "document",
    [
        {"$ref": "#"},
        {"properties": {"next": {"$ref": "#"}}},
        {
            "$ref": "#/$defs/a",
            "$defs": {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"not": {"$dynamicRef": "#/$defs/a"}}},
        },
    ],
)
def test_recursive_reference_is_rejected(document: Document) -> None:
    (detail,) = _refused(document).values()
    assert detail.startswith("is recursive")


def test_referenced_rules_count_once_per_reference() -> None:
    doubling = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)}
    (detail,) = _refused({"$ref": "#/$defs/d0", "$defs": {**doubling, "d30": {}}}).values()
    assert detail.startswith("has more than 1000 rules")


def test_unevaluated_keywords_multiply_the_cost() -> None:
    document: dict[str, Any] = {"properties": {"a": {}}}
    for _ in range(20):
        document = {"if": document, "unevaluatedProperties": True}
    assert "1000 rules" in next(iter(_refused(document).values()))


def test_repeated_rules_lower_the_message_size_limit() -> None:
    plain = compile_schema('{"items": {"properties": {"a": {"type": "string"}}}}', "json_schema")
    assert plain.max_bytes > 2**50
    several = compile_schema(json.dumps({"items": {"allOf": [{"minimum": n} for n in range(256)]}}), "json_schema")
    assert several.max_bytes == 131_072


@pytest.mark.parametrize(
    ("document", "comparisons"),
    [
        ({"items": {"minimum": 0.1, "maximum": 5, "enum": [1, 2.5, "a", 9007199254740993]}}, 10),
        ({"items": {"const": 1e-300}}, 48),
        ({"items": {"const": {"a": [1, 0.5]}}}, 8),
        ({"items": {"multipleOf": 2}}, 4),
        ({"items": {"multipleOf": 0.01}}, 8),
        ({"items": {"multipleOf": 1e-308}}, 128),
    ],
)
def test_comparisons_of_a_number_lower_the_message_size_limit(document: dict[str, Any], comparisons: int) -> None:
    assert compile_schema(json.dumps(document), "json_schema").max_bytes == 1_048_576 // comparisons


_LARGE = "[ab]{1,100}a[ab]{1,100}x"
"""Compiles to 22 KiB, so that a text may have 8,188 characters."""
_LONG = "ab" * 4_100


@pytest.mark.parametrize(
    ("document", "most", "more"),
    [
        ({"pattern": _LARGE}, _LONG[:8_188], _LONG),
        ({"items": {"not": {"pattern": _LARGE}}}, [_LONG[:4_090]] * 2, [_LONG[:4_090]] * 3),
        ({"allOf": [{"not": {"pattern": _LARGE}}, {"not": {"pattern": "b$|aaaa"}}]}, _LONG[:7_900], _LONG[:8_188]),
        ({"patternProperties": {_LARGE: True}}, {_LONG[:8_188]: 1}, {_LONG: 1}),
        ({"patternProperties": {_LARGE: True, "a$": True}}, {_LONG[:7_930]: 1}, {_LONG[:7_940]: 1}),
        ({"patternProperties": {_LARGE: True}, "unevaluatedProperties": True}, {_LONG[:2_000]: 1}, {_LONG: 1}),
        ({"propertyNames": {"not": {"pattern": _LARGE}}}, {_LONG[:8_188]: 1}, {_LONG: 1}),
        ({"anyOf": [{"pattern": _LARGE}, {"not": {"pattern": _LARGE}}]}, _LONG[:4_090], _LONG[:8_188]),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"not": {"pattern": _LARGE}}}}, _LONG[:8_188], _LONG),
    ],
)
def test_message_with_too_much_text_for_its_patterns_is_invalid(document: Document, most: object, more: object) -> None:
    schema = compile_schema(json.dumps(document), "json_schema")
    assert not any(fault.detail.startswith("has too much text") for fault in _violations(schema, most))
    (fault,) = _violations(schema, more)
    assert fault.detail.startswith("has too much text for the patterns of the schema")
    # The count begins again with each message.
    assert not any(fault.detail.startswith("has too much text") for fault in _violations(schema, most))


def _violations(schema: SchemaValidator, value: object) -> tuple[Fault, ...]:
    return schema.violations(json.dumps(value).encode(), "/data", no_time)


def test_text_that_no_pattern_matches_is_not_counted() -> None:
    document = {"properties": {"a": {"pattern": "^(yes|no)?$"}}, "additionalProperties": {"pattern": "-"}}
    schema = compile_schema(json.dumps(document), "json_schema")
    assert _violations(schema, {"a": "yes", "b": ["x" * 1_000_000]}) == ()


def test_message_with_too_many_extreme_numbers_is_invalid() -> None:
    schema = compile_schema('{"items": {"allOf": [{"maximum": 0.5}, {"minimum": -0.5}]}}', "json_schema")
    fault = Fault("/data", "has more than 800 numbers with exponents of 20 and more")
    assert schema.violations(b"[" + b",".join([b"1e-20"] * 800) + b"]", "/data", no_time) == ()
    for number in (b"1e20", b"-2.5E-020"):
        assert schema.violations(b"[" + b",".join([number] * 801) + b"]", "/data", no_time) == (fault,)
    assert schema.violations(b"[" + b", ".join([b"-2.5E-020"] * 801) + b"]", "/data", no_time) == (fault,)
    several = compile_schema(json.dumps({"items": {"allOf": [{"minimum": -n} for n in range(256)]}}), "json_schema")
    (fault,) = several.violations(b"[" + b",".join([b"1e20"] * 236) + b"]", "/data", no_time)
    assert fault.detail.startswith("has more than 235 numbers")
    assert schema.violations(b"[" + b",".join([b'"1e-20"', b"1e-19"] * 2_000) + b"]", "/data", no_time) == ()


@pytest.mark.parametrize(
    ("step", "number", "fits"),
    [("0.01", "1.25", True), ("0.01", "1.255", False), ("0.3", "1e300", True), ("7", "1e300", False), ("2", "4", True)],
)
def test_large_numbers_are_multiples_of_any_fraction(step: str, number: str, *, fits: bool) -> None:
    schema = compile_schema(f'{{"properties": {{"a": {{"multipleOf": {step}}}}}}}', "json_schema")
    faults = schema.violations(f'{{"a": {number}}}'.encode(), "/data", no_time)
    assert faults == (() if fits else (Fault("/data/a", "does not match the multipleOf of the schema"),))


@pytest.mark.parametrize(
    "allowed",
    [
        {"enum": [1, 2.0, -3, 9007199254740992]},
        {"enum": [0.5, 9007199254740993, 1e300]},
        {"enum": ["a", None, True, 1, 0.5, [1], {"b": 1}]},
        {"const": 1},
        {"const": 0.5},
        {"const": 2, "enum": [1, 2, 3]},
    ],
)
def test_constants_allow_the_values_that_equal_them(allowed: dict[str, Any]) -> None:
    schema = compile_schema(json.dumps(allowed), "json_schema")
    plain = Draft202012Validator(allowed)
    numbers = ["0", "1", "1.0", "1e0", "2", "-3.0", "0.5", "5e-1", "1e300", "9007199254740992", "9007199254740993"]
    for text in [*numbers, '"a"', '"1"', "null", "true", "false", "[1]", "[1.0]", "[2]", '{"b": 1}', "{}"]:
        faults = schema.violations(text.encode(), "/data", no_time)
        assert (not faults) is plain.is_valid(json.loads(text)), text
        assert {fault.detail for fault in faults} <= {
            f"must be {'one of ' if name == 'enum' else ''}{msgspec.json.encode(value).decode()}"
            for name, value in allowed.items()
        }


def test_objects_and_arrays_of_an_enumeration_lower_the_message_size_limit() -> None:
    enumeration = {"enum": [*({"a": str(n)} for n in range(60)), *([str(n)] for n in range(4)), "text", None]}
    for items in (enumeration, {"not": enumeration}, {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": enumeration}}):
        document = {"items": items, "$defs": {"a": enumeration}}
        assert compile_schema(json.dumps(document), "json_schema").max_bytes == 33_554_432 // (64 * 16)


@pytest.mark.parametrize(
    ("schema", "rules"),
    [
        ({"enum": [1, 2, 3]}, 8),
        ({"const": 1}, 8),
        ({"const": "a"}, 0),
        ({"properties": {name: {"enum": [1, 2]} for name in "abcdefgh"}}, 8),
        ({"anyOf": [{"const": n} for n in range(10)]}, 10 + 80),
        ({"dependentRequired": {f"k{n}": ["a"] for n in range(500)}}, 1_000),
    ],
)
def test_lookups_of_one_value_lower_the_message_size_limit(schema: dict[str, Any], rules: int) -> None:
    limit = compile_schema(json.dumps({"items": schema}), "json_schema").max_bytes
    assert limit == (33_554_432 // rules if rules else 2**53)


def test_schema_has_at_most_200_patterns() -> None:
    def document(patterns: int) -> dict[str, Any]:
        return {"properties": {f"p{n}": {"pattern": f"^{n}$"} for n in range(patterns)}}

    parse_schema(json.dumps(document(200)).encode(), "json_schema")
    too_many = "is one too many: a schema can have at most 200 different patterns"
    assert _refused(document(201)) == {"/json_schema/properties/p200/pattern": too_many}


def test_error_lists_at_most_100_places_of_a_schema() -> None:
    document = {"properties": {f"p{n}": {"pattern": f"({n}"} for n in range(990)}}
    assert len(_refused(document)) == 100
