"""Transforms: their values, what they refuse, and the bounds of each evaluation."""

import json
from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain import transforms
from discue.domain.cloudevents import event_of
from discue.domain.errors import Unprocessable
from discue.domain.message_data import BYTES, JSON_VALUE, TEXT
from discue.domain.messages import Entry, MessageOptions, decode_options, encode_options
from discue.domain.transforms import TransformFailed, check_transform, evaluated, transformed

OPTIONS = MessageOptions(headers=(("X-Trace", "7"),), key="customer-9", type="order.paid")
DATA = {"order": 17, "total": 12.5, "items": [{"sku": "a", "count": 2}, {"sku": "b", "count": 1}], "note": None}


def entry(data: Any = DATA, options: MessageOptions = OPTIONS) -> Entry:
    return Entry(5, "m" * 21, 1_000, JSON_VALUE, json.dumps(data).encode(), extra=encode_options(options) or b"")


def shaped(expression: str, data: Any = DATA) -> Any:
    check_transform(expression)
    return json.loads(transformed(entry(data), expression).body)


def failure(expression: str, data: Any = DATA) -> str:
    check_transform(expression)
    with pytest.raises(TransformFailed) as raised:
        transformed(entry(data), expression)
    return str(raised.value)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("{text: join(' ', ['Order', to_string(data.order), 'paid'])}", {"text": "Order 17 paid"}),
        ("data.items[?count > `1`].sku", ["a"]),
        ("[id, type, key, created_at]", ["m" * 21, "order.paid", "customer-9", 1_000]),
        ('headers.["x-trace", "discue-type"]', ["7", "order.paid"]),
        ("data.note || 'none'", "none"),
        ("data.items[].sku | reverse(@)", ["b", "a"]),
        ("sum(data.items[].count)", 3),
        ("sort_by(data.items, &count)[0].sku", "b"),
        ("data.items == data.items", True),
        ("not_null(data.note, data.order)", 17),
        ("`false`", False),
        ("data", DATA),
    ],
)
def test_result_is_the_body(expression: str, expected: Any) -> None:
    assert shaped(expression) == expected


def test_body_is_json_whatever_the_media_type_was() -> None:
    own = MessageOptions(content_type="application/vnd.shop+json", key="k")
    made = transformed(entry(options=own), "data.order")
    assert (made.body, made.codec, decode_options(made.extra)) == (b"17", JSON_VALUE, MessageOptions(key="k"))
    of_event = MessageOptions(media_type="text/json", headers=(("ce-id", "1"), ("ce-type", "t"), ("ce-source", "/")))
    made = transformed(entry(options=of_event), "data.order")
    options = decode_options(made.extra)
    event = event_of(made, "cloudevents_binary", "q", options.headers, media_type=options.media_type)
    assert (event.body, event.media_type) == (b"17", "application/json")


_TEN_TIMES = f"[{', '.join('@' * 10)}]"


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("data.missing", "returns null for the message"),
        ("join(' ', [data.note])", "calls join with a value that is not of type array of string"),
        ("data.order[::0] || data.items[::0]", "cannot be evaluated"),
        ("to_number('1e999')", "produces a number beyond double precision"),
        (" | ".join(["[@, @]"] * 30), "produces more than 65,536 bytes"),
        (" | ".join(["to_string([@, @])"] * 20), "takes more than 5,000 steps"),
        (f"`{'9' * 3_700}` | {_TEN_TIMES} | {_TEN_TIMES} | to_string(@)", "takes more than 5,000 steps"),
    ],
)
def test_message_without_a_result_fails(expression: str, reason: str) -> None:
    assert failure(expression) == reason


def test_result_has_a_limited_number_of_values() -> None:
    assert failure("[data, data]", list(range(10_000))) == "produces more than 20,000 values"


def test_separator_counts_for_each_element() -> None:
    data = {"separator": "x" * 75_000, "elements": [""] * 2_300}
    assert failure("join(data.separator, data.elements) | `1`", data) == "takes more than 5,000 steps"


def test_data_that_is_not_json_or_too_large_fails() -> None:
    for codec, body, reason in (
        (TEXT, b"text", "cannot read data that is not JSON"),
        (BYTES, b"\x00", "cannot read data that is not JSON"),
        (JSON_VALUE, b'"' + b"x" * 262_143 + b'"', "cannot read more than 262,144 bytes"),
    ):
        with pytest.raises(TransformFailed, match=reason):
            transformed(Entry(5, "m" * 21, 0, codec, body), "data")


_MISPLACED = (
    "&a",
    "{a: &b}",
    "data.bad && &a || data",
    "to_string(&b)",
    "map(&(&a), @)",
    "sort_by(&a, &b)",
    "[0] | &a",
)
"""Expressions whose value would be an expression."""


@pytest.mark.parametrize(
    ("expression", "rule"),
    [
        ("", "is empty or nested too deeply"),
        ("{text: ", "is not valid JMESPath at position 7"),
        ("data.", "is not valid JMESPath at position 5"),
        ("data # x", "is not valid JMESPath at position 5"),
        ("[" * 4_000, "is empty or nested too deeply"),
        ("a" * 4_097, "must have at most 4,096 characters"),
        ("||".join(["a"] * 400), "must have at most 300 parts in 40 levels"),
        (" | ".join(["@"] * 50), "must have at most 300 parts in 40 levels"),
        ("upper(@)", "calls the unknown function upper; known functions: abs, avg,"),
        ("join(@)", "must call join with 2 arguments, not 1"),
        ("merge()", "must call merge with 1 argument, not 0"),
        *((each, "must use & only before an argument of map,") for each in _MISPLACED),
    ],
)
def test_unsupported_expression_is_refused(expression: str, rule: str) -> None:
    with pytest.raises(Unprocessable) as raised:
        check_transform(expression)
    [fault] = raised.value.faults
    assert (fault.pointer, fault.detail[: len(rule)]) == ("/transform", rule)


def test_parser_keeps_no_expression() -> None:
    check_transform("data.kept")
    assert jmespath.parser.Parser._CACHE == {}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
_EXPRESSIONS = (
    *("a.b", "a[0]", "a[*].b", "a[]", "*.a", "a[?b].c", "[a, b]", "{x: a, y: b.c}", "a || b", "a && b", "!a"),
    *("a == b", "a[1:]", "a[::-1]", "length(@)", "keys(@)", "values(@)", "type(a)", "to_string(@)", "to_array(a)"),
    *("contains(a, b)", "sort(a)", "max(a)", "map(&b, a)", "sort_by(a, &b)", "merge(@, {z: a})", "not_null(a, b)"),
    *("join('-', a)", "sum(a)"),
)


@given(value=_JSON, expression=st.sampled_from(_EXPRESSIONS))
def test_values_are_those_of_the_library(value: Any, expression: str) -> None:
    try:
        expected = jmespath.search(expression, value)
    except ValueError:
        with pytest.raises(TransformFailed):
            evaluated(expression, value)
    else:
        assert evaluated(expression, value) == expected


@given(
    nested=st.lists(
        st.sampled_from(["[@, @]", "to_string(@)", "[0]", "[]", "{a: @, b: @}", "a", "reverse(@)"]), max_size=30
    )
)
def test_no_chain_makes_more_than_the_limit(nested: list[str]) -> None:
    chain = " | ".join(["data", *nested])
    try:
        check_transform(chain)
        assert len(transformed(entry([["x" * 100] * 20]), chain).body) <= transforms.MAX_RESULT_BYTES
    except (TransformFailed, Unprocessable):
        pass
