"""Filters: matching, validation, and agreement with an independent implementation."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from discue.domain.errors import Unprocessable
from discue.domain.filter_parser import MAX_BYTES, MAX_CONDITIONS, MAX_DEPTH, MAX_PATTERNS, parse_filter
from discue.domain.filters import compile_filter
from discue.domain.message_data import JSON_VALUE
from discue.domain.messages import Entry, MessageOptions, encode_options
from discue.domain.patterns import MAX_MATCHED

ORDER = {"order": {"id": 17, "state": "paid", "total": 9.5, "items": [{"sku": "a-1"}, {"sku": "b-2"}]}, "a.b": None}


def entry(data: Any, headers: dict[str, str] | None = None, key: str | None = None) -> Entry:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    options = encode_options(MessageOptions(headers=tuple((headers or {}).items()), key=key))
    return Entry(1, "0", 0, JSON_VALUE, body, extra=options or b"")


def takes(condition: Any, message: Entry) -> bool:
    return compile_filter(json.dumps(condition)).accepts(message)


def refusals(condition: Any) -> list[tuple[str, str]]:
    text = condition if isinstance(condition, bytes) else json.dumps(condition).encode()
    with pytest.raises(Unprocessable) as refused:
        parse_filter(text, "/filter")
    return [(fault.pointer, fault.detail) for fault in refused.value.faults]


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"order.state": "paid"}, True),
        ({"order": {"state": "paid", "total": {"$gt": 9}}}, True),
        ({"order.items.1.sku": "b-2"}, True),
        ({"/order/items/0/sku": {"$prefix": "a", "$suffix": "1"}}, True),
        ({"order.items.-1.sku": {"$exists": True}}, False),
        ({"order.items.01.sku": {"$exists": True}}, False),
        ({"/a.b": None}, True),
        ({"a.b": None}, False),
        ({"order.state": {"$regex": "^p.i"}}, True),
        ({"order.id": {"$regex": "17"}}, False),
        ({"order.state": {"$contains": "ai"}}, True),
        ({"order": {"$or": [{"id": 1}, {"$and": [{"state": "paid"}, {"id": {"$in": [1, 17.0]}}]}]}}, True),
        ({"order.id": {"$not": {"$or": [1, {"$gt": 20}]}}}, True),
        ({"order.id": True}, False),
    ],
    ids=str,
)
def test_conditions_on_data(condition: Any, holds: bool) -> None:  # noqa: FBT001
    assert takes({"data": condition}, entry(ORDER)) == holds


@pytest.mark.parametrize(
    ("condition", "data", "holds"),
    [
        ({"a": [0, "x"]}, {"a": False}, False),
        ({"a": {"$contains": 1}}, {"a": [True, 1.0]}, True),
        ({"a": {"$gt": 0}}, {"a": True}, False),
        ({"a": 10**20}, {"a": 10**20}, True),
        ({"a": {"$exists": True}}, {"a": None}, True),
        ({"/": 5}, {"": 5}, True),
        ({"/a~1b/c~0d/~01": 5}, {"a/b": {"c~d": {"~1": 5}}}, True),
        ({"$eq": "text"}, "text", True),
        ({"/$price": 5}, {"$price": 5}, True),
    ],
    ids=str,
)
def test_values_keep_their_types_and_any_name_can_be_expressed(condition: Any, data: Any, holds: bool) -> None:  # noqa: FBT001
    assert takes({"data": condition}, entry(data)) == holds


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"headers": {"X-Shop": "north"}}, True),
        ({"headers": {"x-shop": ["north", "south"]}}, True),
        ({"headers": {"x-other": {"$exists": True}}}, False),
        ({"headers": {"x.dotted": {"$prefix": "a"}}}, True),
        ({"headers": {"$or": [{"x-other": "a"}, {"x.dotted": "ab"}]}}, True),
        ({"key": "customer-9"}, True),
        ({"key": {"$prefix": "customer-"}}, True),
        ({"key": ["a", "b"]}, False),
        ({"data": {"n": 1}, "key": "customer-9"}, True),
        ({"data": {"n": 2}, "key": "customer-9"}, False),
        ({"$or": [{"data": {"n": 2}}, {"key": "customer-9"}]}, True),
        ({"$not": {"key": "customer-9"}}, False),
        ({"$and": [{"data": {"n": 1}}, {"$not": {"headers": {"x-shop": "south"}}}]}, True),
    ],
    ids=str,
)
def test_conditions_on_headers_and_keys(condition: Any, holds: bool) -> None:  # noqa: FBT001
    message = entry({"n": 1}, {"x-Shop": "north", "X.Dotted": "ab"}, "customer-9")
    assert takes(condition, message) == holds


def test_message_without_a_key_has_no_key() -> None:
    assert not takes({"key": {"$exists": True}}, entry({}))
    assert takes({"key": {"$exists": False}}, entry({}))


@pytest.mark.parametrize("body", [b"hello", b'{"n":1e400}', b"[" * 100_000 + b"]" * 100_000, b"\xff"])
def test_condition_on_data_that_is_not_json_never_holds(body: bytes) -> None:
    message = Entry(1, "0", 0, body[:1] != b"h", body)
    assert not takes({"data": {"n": {"$exists": False}}}, message)
    assert not takes({"data": {"$not": {"n": 1}}}, message)
    assert takes({"$not": {"data": {"n": 1}}}, message)
    assert takes({"$or": [{"data": {"n": 1}}, {"key": {"$exists": False}}]}, message)
    assert compile_filter('{"data":{"n":1,"m":2}}').explain(message) == (False, [("/filter/data", False)])


@pytest.mark.parametrize(
    ("condition", "pointer"),
    [
        (1.5, ""),
        ([], ""),
        ({}, ""),
        ({"dat": {}}, "/dat"),
        ({"data": 5}, "/data"),
        ({"data": []}, "/data"),
        ({"data": {}}, "/data"),
        ({"headers": "x"}, "/headers"),
        ({"data": {"a": {}}}, "/data/a"),
        ({"data": {"a": []}}, "/data/a"),
        ({"data": {"a": [[1]]}}, "/data/a"),
        ({"data": {"a..b": 1}}, "/data/a..b"),
        ({"data": {"": 1}}, "/data/"),
        ({"data": {"a/b~c": {"$gt": None}}}, "/data/a~1b~0c/$gt"),
        ({"data": {"a": {"$gt": True}}}, "/data/a/$gt"),
        ({"data": {"a": {"$in": "x"}}}, "/data/a/$in"),
        ({"data": {"a": {"$eq": [1]}}}, "/data/a/$eq"),
        ({"data": {"a": {"$exists": 1}}}, "/data/a/$exists"),
        ({"data": {"a": {"$prefix": 1}}}, "/data/a/$prefix"),
        ({"data": {"a": {"$regex": 1}}}, "/data/a/$regex"),
        ({"data": {"a": {"$regex": "(a)\\1"}}}, "/data/a/$regex"),
        ({"data": {"a": {"$regex": "(?=a)"}}}, "/data/a/$regex"),
        ({"data": {"a": {"$regex": "("}}}, "/data/a/$regex"),
        ({"data": {"a": {"$regex": "\\w{5000}"}}}, "/data/a/$regex"),
        ({"data": {"a": {"$like": "x"}}}, "/data/a/$like"),
        ({"$or": {"key": "x"}}, "/$or"),
        ({"$or": []}, "/$or"),
        ({"$and": [{"key": "x"}, 5]}, "/$and/1"),
        ({"$not": []}, "/$not"),
        ({"$gt": 5}, "/$gt"),
        ({"key": {"a": 1}}, "/key/a"),
        ({"headers": {"x": {"a": 1}}}, "/headers/x/a"),
        (b'{"key":"a","key":"b"}', ""),
        (b'{"data":{"a":1,"a":2}}', ""),
        (b'{"key":"\\ud800"}', ""),
        (b'{"data":{"a":1e400}}', ""),
        (b" " * MAX_BYTES + b"1", ""),
    ],
    ids=lambda value: str(value)[:40],
)
def test_invalid_condition_is_rejected_with_its_pointer(condition: Any, pointer: str) -> None:
    found = refusals(condition)
    assert [place for place, _ in found] == [f"/filter{pointer}"]
    assert all(detail for _, detail in found)


def test_error_lists_every_invalid_condition() -> None:
    condition = {"data": {"a": {"$gt": None}, "b": {"$like": 1}}, "kee": 1}
    assert [place for place, _ in refusals(condition)] == ["/filter/data/a/$gt", "/filter/data/b/$like", "/filter/kee"]


def nested(levels: int) -> dict[str, Any]:
    inner: Any = 1
    for _ in range(levels - 1):
        inner = {"a": inner}
    return {"data": inner}


def test_filters_are_bounded() -> None:
    parse_filter(json.dumps(nested(MAX_DEPTH)).encode(), "/filter")
    assert [place for place, _ in refusals(nested(MAX_DEPTH + 1))] == ["/filter/data" + "/a" * (MAX_DEPTH - 1)]
    many = {"data": {f"n{n}": n for n in range(MAX_CONDITIONS)}}
    parse_filter(json.dumps(many).encode(), "/filter")
    assert [place for place, _ in refusals({**many, "key": "x"})] == ["/filter/key"]
    patterns = {"$or": [{"key": {"$regex": "a"}}] * MAX_PATTERNS}
    parse_filter(json.dumps(patterns).encode(), "/filter")
    assert [place for place, _ in refusals({"$and": [patterns, {"key": {"$regex": "a"}}]})] == [
        "/filter/$and/1/key/$regex"
    ]


def test_regular_expression_takes_linear_time() -> None:
    condition = {"data": {"a": {"$regex": "(a+)+$"}}}
    assert not takes(condition, entry({"a": "a" * 200_000 + "b"}))


def test_regular_expression_does_not_match_texts_that_are_too_long_for_its_filter() -> None:
    small = {"data": {"a": {"$regex": "^(a|b)*$"}}}
    assert takes(small, entry({"a": "a" * MAX_MATCHED}))
    assert not takes(small, entry({"a": "a" * (MAX_MATCHED + 1)}))
    several = {"data": {"a": {"$or": [{"$regex": f"^{n}[ab]{{1,60}}x$|^a*$"} for n in range(4)]}}}
    longest = MAX_MATCHED // (4 * 8)
    assert takes(several, entry({"a": "a" * longest}))
    assert not takes(several, entry({"a": "a" * (longest + 1)}))


# The reference implementation interprets the JSON of the filter and compiles nothing.
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, 1.0, 2.5]), st.text("ab1", max_size=2)
)
NAMES = st.sampled_from(["a", "b", "0", "1"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=12
)
_ORDERED = st.sampled_from(["$gt", "$gte", "$lt", "$lte"])
_TEXTS = st.sampled_from(["$prefix", "$suffix"])
_TESTS = st.one_of(
    SCALARS,
    st.lists(SCALARS, min_size=1, max_size=3),
    st.fixed_dictionaries({"$eq": SCALARS}),
    st.fixed_dictionaries({"$contains": SCALARS}),
    st.fixed_dictionaries({"$in": st.lists(SCALARS, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"$exists": st.booleans()}),
    st.dictionaries(_ORDERED, st.integers(-3, 3) | st.text("ab1", max_size=2), min_size=1),
    st.dictionaries(_TEXTS, st.text("ab1", max_size=2), min_size=1),
)
_PATHS = st.sampled_from(["a", "b", "a.b", "a.0", "/a", "/b/1", "0", "a.b.0"])


def _maps(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.dictionaries(_PATHS, inner, min_size=1, max_size=3)
        | st.fixed_dictionaries({"$not": inner})
        | st.dictionaries(st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=1, max_size=3), min_size=1)
    )


_CONDITIONS = st.recursive(_TESTS, _maps, max_leaves=10)
DATA_CONDITIONS = _maps(_CONDITIONS)
ABSENT = ("nothing",)


def kind(value: Any) -> str:
    if isinstance(value, bool):
        return "truth"
    return "number" if isinstance(value, int | float) else type(value).__name__


def same(left: Any, right: Any) -> bool:
    return kind(left) == kind(right) and bool(left == right)


def found(value: Any, path: str) -> Any:
    for step in path[1:].split("/") if path.startswith("/") else path.split("."):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step in {str(index) for index in range(len(value))}:
            value = value[int(step)]
        else:
            return ABSENT
    return value


def compared(name: str, operand: Any, value: Any) -> bool:
    if name == "$exists" or value == ABSENT:
        return name == "$exists" and bool(operand) == (value != ABSENT)
    if name in {"$eq", "$in"}:
        return any(same(value, each) for each in (operand if name == "$in" else [operand]))
    if name == "$contains" and isinstance(value, list):
        return any(same(each, operand) for each in value)
    if kind(value) != kind(operand):
        return False
    answers: dict[str, Callable[[], Any]] = {
        "$contains": lambda: kind(value) == "str" and operand in value,
        "$gt": lambda: value > operand,
        "$gte": lambda: value >= operand,
        "$lt": lambda: value < operand,
        "$lte": lambda: value <= operand,
        "$prefix": lambda: value[: len(operand)] == operand,
        "$suffix": lambda: value[::-1][: len(operand)] == operand[::-1],
    }
    return bool(answers[name]())


def fulfils(condition: Any, value: Any) -> bool:
    if isinstance(condition, list):
        return compared("$in", condition, value)
    if not isinstance(condition, dict):
        return compared("$eq", condition, value)
    results = []
    for name, inner in condition.items():
        if name == "$not":
            results.append(not fulfils(inner, value))
        elif name in {"$and", "$or"}:
            each = [fulfils(one, value) for one in inner]
            results.append(all(each) if name == "$and" else any(each))
        elif name.startswith("$"):
            results.append(compared(name, inner, value))
        else:
            results.append(fulfils(inner, ABSENT if value == ABSENT else found(value, name)))
    return all(results)


def depth(condition: Any) -> int:
    if isinstance(condition, list):
        return max((depth(each) for each in condition), default=0)
    return 1 + max(map(depth, condition.values())) if isinstance(condition, dict) else 0


@given(condition=DATA_CONDITIONS.filter(lambda each: depth(each) < MAX_DEPTH), data=VALUES)
@example(condition={"a": {"$not": 1}}, data={})
@example(condition={"a": [0]}, data={"a": False})
def test_filter_agrees_with_the_reference(condition: Any, data: Any) -> None:
    assert takes({"data": condition}, entry(data)) == fulfils(condition, data)


@given(condition=DATA_CONDITIONS.filter(lambda each: depth(each) < MAX_DEPTH), data=VALUES)
def test_explanation_evaluates_each_condition_alone(condition: Any, data: Any) -> None:
    matches, answers = compile_filter(json.dumps({"data": condition})).explain(entry(data))
    assert matches == fulfils(condition, data)
    pointers = [answer.pointer for answer in answers]
    assert all(pointer.startswith("/filter/data/") for pointer in pointers)
    if all(holds for _, holds in answers) and "$not" not in json.dumps(condition):
        assert fulfils(condition, data)
    if not any(holds for _, holds in answers) and "$not" not in json.dumps(condition):
        assert not fulfils(condition, data)


@given(value=VALUES)
def test_any_json_is_a_filter_or_rejected_with_pointers(value: Any) -> None:
    for pointer, _ in refusals(value):
        assert pointer == "/filter" or found(value, pointer.removeprefix("/filter")) != ABSENT


@pytest.mark.parametrize(
    "part", ["b", "x.y", "a\\d", "[(^$)]{2}", "–é\n/", "😀 #-&~", "", "c" * 300], ids=lambda part: part[:9]
)
def test_long_text_contains_what_a_short_one_does(part: str) -> None:
    condition = {"data": {"$contains": part}}
    for text in (f"a{part}z", "a\\xy" if part else "a"):
        assert takes(condition, entry(text)) == takes(condition, entry("a" * 2_000 + text)) == (part in text)


def test_members_of_a_long_list_are_told_apart() -> None:
    members = [0, 1.5, "2", None, {"a": True}, [7], *range(100, 200)]
    for operand, is_member in (
        (0, True),
        (1.5, True),
        ("2", True),
        (None, True),
        (150.0, True),
        (2, False),
        (7, False),
    ):
        assert takes({"data": {"a": {"$contains": operand}}}, entry({"a": members})) is is_member
    for operand in (True, False):
        condition = {"data": {"$or": [{"$contains": operand}, {"$contains": "none"}]}}
        assert not takes(condition, entry(members))
        assert takes(condition, entry([*members, operand]))


def test_lists_of_one_message_are_not_those_of_the_next() -> None:
    condition = {"data": {"$and": [{"$contains": 50}, {"$not": {"$contains": -1}}]}}
    for number in range(50):
        assert takes(condition, entry(list(range(100))))
        assert not takes(condition, entry([*range(51, 151), number]))
