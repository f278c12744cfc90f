"""The rule language: validation of messages and of schemas."""

import itertools
import json
import math
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.errors import Fault, Unprocessable
from discue.domain.json_text import canonical_json
from discue.domain.schemas import compile_schema, parse_schema
from tests.support.clocks import no_time

Rule = dict[str, Any]

NAMES = st.sampled_from(["a", "b", "x/y", "m~n", "é", ""])
TEXTS = st.text(alphabet="abé𝒳", max_size=5)
NUMBERS = st.one_of(st.integers(-5, 5), st.integers(), st.floats(allow_nan=False, allow_infinity=False))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4))
)


def _between(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Rule]:
    """Generate neither, one or both of `min` and `max`, in order."""
    pairs = st.tuples(numbers, numbers).map(sorted)
    both = pairs.map(lambda pair: {"min": pair[0], "max": pair[1]})
    return st.one_of(st.just({}), both, both.map(lambda rule: {"min": rule["min"]}), st.builds(dict, max=numbers))


def _rule(kind: str, *parts: st.SearchStrategy[Rule]) -> st.SearchStrategy[Rule]:
    required = st.sampled_from([{}, {"required": True}, {"required": False}])
    return st.tuples(required, *parts).map(lambda rules: {"type": kind, **{k: v for r in rules for k, v in r.items()}})


def _perhaps(name: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Rule]:
    return st.one_of(st.just({}), values.map(lambda value: {name: value}))


# The name of a pattern says what it matches, so the reference needs no regular expressions.
PATTERNS = st.tuples(
    st.booleans(), st.text(alphabet="abé", max_size=2), st.booleans(), st.sampled_from(["{}", "/{}/"])
).map(lambda parts: parts[3].format(f"{'^' * parts[0]}{parts[1]}{'$' * parts[2]}"))

LEAVES = st.one_of(
    _rule(
        "string",
        _between(st.integers(0, 5)),
        _perhaps("pattern", PATTERNS),
        _perhaps("enum", st.lists(TEXTS, min_size=1, max_size=3)),
    ),
    _rule("number", _between(NUMBERS)),
)
RULES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        _rule("array", st.builds(dict, items=inner)),
        _rule(
            "object",
            st.builds(dict, props=st.dictionaries(NAMES, inner, min_size=1, max_size=3)),
            _perhaps("strict", st.booleans()),
        ),
    ),
    max_leaves=6,
)
SCHEMAS = st.dictionaries(NAMES, RULES, min_size=1, max_size=3)


def _step(place: str, name: str) -> str:
    return f"{place}/{name.replace('~', '~0').replace('/', '~1')}"


def _wrong(rule: Rule, value: object, place: str) -> Iterator[str]:
    """Return every invalid place, by the definition of the rules (reference implementation)."""
    kind = rule["type"]
    if value is None:
        if rule.get("required", True):
            yield place
    elif kind == "object":
        yield from _wrong_object(rule["props"], value, place, rule.get("strict", True))
    elif kind == "array" and isinstance(value, list):
        for index, each in enumerate(value):
            yield from _wrong(rule["items"], each, f"{place}/{index}")
    elif not _is_simple_and_fits(rule, value):
        yield place


def _is_simple_and_fits(rule: Rule, value: object) -> bool:
    if rule["type"] == "string":
        return isinstance(value, str) and _text_fits(rule, value)
    return rule["type"] == "number" and type(value) in {int, float} and _within(rule, cast("float", value))


def _wrong_object(props: dict[str, Rule], value: object, place: str, strict: bool) -> Iterator[str]:  # noqa: FBT001
    if not isinstance(value, dict):
        yield place
        return
    for name, rule in props.items():
        if name in value:
            yield from _wrong(rule, value[name], _step(place, name))
        elif rule.get("required", True):
            yield _step(place, name)
    if strict:
        yield from (_step(place, name) for name in value if name not in props)


def _within(rule: Rule, size: float) -> bool:
    return bool(rule.get("min", -math.inf) <= size <= rule.get("max", math.inf))


def _text_fits(rule: Rule, text: str) -> bool:
    if "enum" in rule and text not in rule["enum"]:
        return False
    return _within(rule, len(text)) and _pattern_fits(rule.get("pattern", ""), text)


def _pattern_fits(pattern: str, text: str) -> bool:
    plain = pattern.strip("/")
    word = plain.strip("^$")
    if plain.startswith("^") and plain.endswith("$") and len(plain) > 1:
        return text == word
    if plain.startswith("^"):
        return text.startswith(word)
    return text.endswith(word) if plain.endswith("$") else word in text


@st.composite
def _fitting(draw: st.DrawFn, rule: Rule) -> Any:
    """Generate a value that is close to the rule."""
    if draw(st.integers(0, 9)) == 0:
        return draw(VALUES)
    if rule["type"] == "object":
        return {name: draw(_fitting(each)) for name, each in rule["props"].items() if draw(st.integers(0, 9))}
    if rule["type"] == "array":
        return [draw(_fitting(rule["items"])) for _ in range(draw(st.integers(0, 3)))]
    if rule["type"] == "string":
        return draw(st.one_of(st.sampled_from(rule.get("enum", [""])), TEXTS))
    return draw(st.one_of(st.sampled_from([rule.get("min", 0), rule.get("max", 0)]), NUMBERS))


@st.composite
def _cases(draw: st.DrawFn) -> tuple[dict[str, Rule], Any]:
    schema = draw(SCHEMAS)
    return schema, draw(_fitting({"type": "object", "props": schema}))


def _places(schema: dict[str, Rule], value: object) -> list[str]:
    checker = compile_schema(json.dumps(schema), "rules")
    return [fault.pointer for fault in checker.violations(json.dumps(value).encode(), "/data", no_time)]


@given(_cases() | st.tuples(SCHEMAS, VALUES))
def test_violations_list_exactly_the_invalid_places(case: tuple[dict[str, Rule], Any]) -> None:
    schema, value = case
    assert set(_places(schema, value)) == set(_wrong_object(schema, value, "/data", True))


def test_violations_have_pointers_below_the_message() -> None:
    schema = {"person": {"type": "object", "props": {"tags": {"type": "array", "items": {"type": "string", "max": 3}}}}}
    checker = compile_schema(json.dumps(schema), "rules")
    assert checker.violations(b'{"person": {"tags": ["one", "three", 3], "a/b": 1}}', "/messages/3/data", no_time) == (
        Fault("/messages/3/data/person/tags/1", "must have at most 3 characters"),
        Fault("/messages/3/data/person/tags/2", "must be a string"),
        Fault("/messages/3/data/person/a~1b", "is not a property of the schema"),
    )


def test_error_lists_at_most_100_violations() -> None:
    checker = compile_schema('{"all": {"type": "array", "items": {"type": "string"}}}', "rules")
    assert len(checker.violations(b'{"all": [%s0]}' % (b"0," * 100_000), "/data", no_time)) == 100


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"n": 1e400}', "must be JSON, with numbers in the range of double precision"),
        (b'{"n": %s}' % (b"1" * 5_000), "must be JSON, with numbers in the range of double precision"),
        (b'{"n": "\\ud800"}', "must be JSON, with numbers in the range of double precision"),
        (b'{"n": NaN}', "must be JSON, with numbers in the range of double precision"),
        (b"[" * 200_000 + b"]" * 200_000, "is nested too deeply to be checked"),
        (b"[]", "must be an object"),
    ],
)
def test_message_that_is_no_object_is_invalid_as_a_whole(body: bytes, detail: str) -> None:
    checker = compile_schema('{"n": {"type": "number"}}', "rules")
    assert checker.violations(body, "/data", no_time) == (Fault("/data", detail),)


@pytest.mark.parametrize("body", [b'{"n": 1%s}' % (b"0" * 300), b'{"n": 1e308}', b'{"n": 0.1e-400}', b'{"n": -0}'])
def test_numbers_within_double_precision_are_valid(body: bytes) -> None:
    assert compile_schema('{"n": {"type": "number"}}', "rules").violations(body, "/data", no_time) == ()


def test_last_of_repeated_members_is_validated() -> None:
    checker = compile_schema('{"n": {"type": "number"}}', "rules")
    assert checker.violations(b'{"n": "x", "n": 1}', "/data", no_time) == ()
    assert checker.violations(b'{"n": 1, "n": "x"}', "/data", no_time) == (Fault("/data/n", "must be a number"),)


@pytest.mark.parametrize(
    ("pattern", "fits", "fails"),
    [
        ("b", "abc", "aac"),
        ("/^a+$/", "aaa", "aab"),
        ("^/v1/", "/v1/x", "v1/x"),
        (r"\/", "a/b", "ab"),
        ("/", "a/b", "ab"),
        ("//", "anything", None),
        (r"^\d{4}-\d{2}$", "2026-11", "2026-1"),
        (r"^\p{L}+$", "grün", "gr1n"),
        (r"^(?i)abc$", "aBC", "abd"),
        (".", "𝒳", ""),
        ("^.$", "𝒳", "𝒳𝒳"),
    ],
)
def test_pattern_matches_anywhere_and_may_be_delimited(pattern: str, fits: str, fails: str | None) -> None:
    schema = {"s": {"type": "string", "pattern": pattern}}
    assert _places(schema, {"s": fits}) == []
    assert fails is None or _places(schema, {"s": fails}) == ["/data/s"]


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "^(a?){30}a{30}$", r"^(\w+\s?)*$", "(.*a){20}b", "(a*)*b"])
def test_pattern_never_backtracks(pattern: str) -> None:
    # A backtracking engine would never finish.
    assert _places({"s": {"type": "string", "pattern": pattern}}, {"s": "a" * 5_000 + "!"}) == ["/data/s"]


def test_text_is_counted_with_the_compiled_size_of_its_pattern() -> None:
    checker = compile_schema('{"s": {"type": "array", "items": {"type": "string", "pattern": "x*"}}}', "rules")
    most = [b'{"s": ["%b"' % (b"a" * 200_000), b'"%b"' % (b"a" * 62_136)]
    assert checker.violations(b", ".join(most) + b"]}", "/data", no_time) == ()
    (fault,) = checker.violations(b", ".join([*most, b'""']) + b"]}", "/data", no_time)
    assert fault.pointer == "/data"
    assert fault.detail == (
        "has too much text for the patterns of the schema: its characters, each multiplied by the compiled size of "
        "its pattern in KiB, exceed 262144; send shorter texts, or simplify the patterns"
    )


def _refused(schema: object) -> dict[str, str]:
    with pytest.raises(Unprocessable) as refused:
        parse_schema(json.dumps(schema).encode(), "rules")
    return dict(refused.value.faults)


@pytest.mark.parametrize(
    ("schema", "pointers"),
    [
        ([], ["/schema"]),
        ("string", ["/schema"]),
        ({}, ["/schema"]),
        ({"a": None, "b": 3}, ["/schema/a", "/schema/b"]),
        (
            {"a": {}, "b": {"type": "integer"}, "c/d": {"type": []}},
            ["/schema/a/type", "/schema/b/type", "/schema/c~1d/type"],
        ),
        ({"a": {"type": "object"}}, ["/schema/a/props"]),
        ({"a": {"type": "object", "props": {}}}, ["/schema/a/props"]),
        ({"a": {"type": "object", "props": {"b": {"type": "array", "items": {}}}}}, ["/schema/a/props/b/items/type"]),
        ({"a": {"type": "array"}}, ["/schema/a/items"]),
        ({"a": {"type": "string", "min": -1, "max": 1.5}}, ["/schema/a/min", "/schema/a/max"]),
        ({"a": {"type": "string", "min": True}}, ["/schema/a/min"]),
        ({"a": {"type": "string", "min": 3, "max": 2}}, ["/schema/a/min"]),
        ({"a": {"type": "number", "min": "1", "max": None}}, ["/schema/a/min", "/schema/a/max"]),
        ({"a": {"type": "number", "min": 0.2, "max": 0.1}}, ["/schema/a/min"]),
        ({"a": {"type": "string", "enum": []}}, ["/schema/a/enum"]),
        ({"a": {"type": "string", "enum": ["x", 1]}}, ["/schema/a/enum/1"]),
        ({"a": {"type": "string", "required": None, "pattern": 5}}, ["/schema/a/required", "/schema/a/pattern"]),
        ({"a": {"type": "object", "strict": 1, "props": {"b": {"type": "string"}}}}, ["/schema/a/strict"]),
        ({"a": {"type": "string", "strict": True}}, ["/schema/a/strict"]),
        ({"a": {"type": "number", "enum": [1], "patern": "x"}}, ["/schema/a/enum", "/schema/a/patern"]),
    ],
)
def test_invalid_schema_lists_every_invalid_place(schema: object, pointers: list[str]) -> None:
    assert list(_refused(schema)) == pointers


@pytest.mark.parametrize(
    "pattern", ["(?=a)", "(?<!a)b", r"(a)\1", "[", "(", "a{2,1}", "*", "(a{1000}){1000}", "/abc/i"]
)
def test_unsupported_pattern_is_rejected_with_its_pointer(pattern: str) -> None:
    schema = {"a": {"type": "array", "items": {"type": "string", "pattern": pattern}}}
    assert list(_refused(schema)) == ["/schema/a/items/pattern"]


def _nested(levels: int) -> Rule:
    rule: Rule = {"type": "string"}
    for level in range(levels - 1):
        rule = {"type": "object", "props": {"in": rule}} if level % 2 else {"type": "array", "items": rule}
    return {"top": rule}


def test_schema_has_at_most_32_levels_1000_rules_and_64_kib() -> None:
    parse_schema(json.dumps(_nested(32)).encode(), "rules")
    assert "32 levels" in next(iter(_refused(_nested(33)).values()))
    parse_schema(json.dumps({f"p{n}": {"type": "string"} for n in range(1_000)}).encode(), "rules")
    assert _refused({f"p{n}": {"type": "string"} for n in range(1_001)}) == {"/schema": "has more than 1000 rules"}
    large = b'{"a": {"type": "string"%s}}'
    room = 65_536 - len(large) + 2
    parse_schema(large % (b" " * room), "rules")
    with pytest.raises(Unprocessable, match="at most 65536"):
        parse_schema(large % (b" " * (room + 1)), "rules")


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (b'{"a": {"type": "number", "min": 1e400}}', "has a number beyond the range of double precision"),
        (b'{"a": {"type": "number", "min": %s}}' % (b"9" * 400), "has a number beyond the range of double precision"),
        (b'{"a": {"type": "string", "enum": ["\\ud800"]}}', "has an unpaired surrogate"),
        (b'{"a": {"type": "string", "type": "number"}}', "has 'type' twice in one object"),
        (b"[" * 30_000 + b"]" * 30_000, "is nested too deeply"),
    ],
)
def test_ambiguous_json_is_rejected(text: bytes, detail: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        parse_schema(text, "rules")
    assert refused.value.faults == (Fault("/schema", detail),)


def test_schema_id_does_not_depend_on_formatting() -> None:
    one = parse_schema(b'{"a": {"type": "number", "min": 1, "max": 100}}', "rules")
    other = parse_schema(b'{"a":{"max":1e2,  "min":1.0,\n"type":"n\\u0075mber"}}', "rules")
    assert (one.text, other.text) == (
        '{"a": {"type": "number", "min": 1, "max": 100}}',
        '{"a":{"max":1e2,  "min":1.0,\n"type":"n\\u0075mber"}}',
    )
    assert one.id == other.id
    assert one.id == sha256(b'{"a":{"max":100,"min":1,"type":"number"}}').hexdigest()
    assert parse_schema(b'{"a": {"type": "number", "min": 1, "max": 101}}', "rules").id != one.id


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ('{"b": [1, 2.0, {}], "a": null}', '{"a":null,"b":[1,2,{}]}'),
        ("1e21", "1e+21"),
        ("1e-7", "1e-7"),
        ("0.000001", "0.000001"),
        ("1.5e-5", "0.000015"),
        ("123456789012345680000.0", "123456789012345680000"),
        ("-0.0", "0"),
        ("0.1", "0.1"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ('"\\u20ac\\u000f\\n\\"\\/"', '"€\\u000f\\n\\"/"'),
        # Sorted by UTF-16 code units, not by code points: the last one is outside the basic plane.
        ('{"\\ufb33": 1, "\\ud83d\\ude00": 2}', '{"😀":2,"\ufb33":1}'),
    ],
)
def test_value_has_one_canonical_text(text: str, canonical: str) -> None:
    assert canonical_json(json.loads(text)) == canonical


@given(VALUES)
def test_canonical_text_is_equivalent_and_idempotent(value: object) -> None:
    text = canonical_json(value)
    # Beyond 2^53 a float is printed as the shortest integer that rounds to it, which may be a different one.
    assert json.loads(text, parse_int=float) == json.loads(json.dumps(value), parse_int=float)
    assert canonical_json(json.loads(text)) == text


def test_violation_that_takes_too_long_to_find_is_not_located() -> None:
    checker = compile_schema('{"items": {"type": "integer"}}', "json_schema")
    body = b"[%s0.5]" % (b"1," * 1_000)
    ticks = itertools.count()
    assert checker.violations(body, "/data", lambda: next(ticks) / 100) == (
        Fault("/data", "does not match the schema"),
    )
    assert checker.violations(body, "/data", no_time) == (Fault("/data/1000", "must be an integer"),)
