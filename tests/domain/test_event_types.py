"""Types of messages, and the patterns that match them."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.errors import Unprocessable
from discue.domain.event_types import (
    MAX_CHARACTERS,
    MAX_PATTERNS,
    check_pattern,
    check_patterns,
    check_type,
    checked_type,
    parse_pattern,
)
from discue.domain.filters import TypeFilter
from discue.domain.message_data import JSON_VALUE
from discue.domain.messages import Entry, MessageOptions, encode_options

words = st.sampled_from(["a", "b", "orders", "paid", "#!", "x-1"])
types = st.lists(words, min_size=1, max_size=6)
patterns = st.builds(
    lambda chosen, rest: [*chosen, *rest],
    st.lists(st.one_of(words, st.just("*")), max_size=6),
    st.sampled_from([[], [">"]]),
).filter(bool)


def matches(pattern: str, event_type: str) -> bool:
    check_pattern(pattern, "/pattern")
    check_type(event_type, "/type")
    return parse_pattern(pattern).matches(event_type)


@pytest.mark.parametrize(
    ("pattern", "event_type", "expected"),
    [
        ("orders.paid", "orders.paid", True),
        ("orders.paid", "orders.Paid", False),
        ("orders", "orders.paid", False),
        ("orders.paid", "orders", False),
        ("orders.*", "orders.paid", True),
        ("orders.*", "orders", False),
        ("orders.*", "orders.eu.paid", False),
        ("*.paid", "orders.paid", True),
        ("*.*.paid", "orders.eu.paid", True),
        ("orders.>", "orders.paid", True),
        ("orders.>", "orders.eu.paid", True),
        ("orders.>", "orders", False),
        ("*.>", "orders", False),
        (">", "orders", True),
        (">", "orders.eu.paid", True),
        ("*", "orders", True),
        ("*", "orders.eu", False),
    ],
)
def test_star_matches_one_word_and_arrow_the_rest(pattern: str, event_type: str, *, expected: bool) -> None:
    assert matches(pattern, event_type) is expected


def _expression(pattern: Sequence[str]) -> str:
    """Compare with an equivalent regular expression."""
    word = r"[^.]+"
    known = {"*": word, ">": rf"{word}(?:\.{word})*"}
    return r"\.".join(known.get(each) or re.escape(each) for each in pattern)


@given(patterns, types)
def test_pattern_matches_like_an_equivalent_regular_expression(pattern: list[str], event_type: list[str]) -> None:
    expected = re.fullmatch(_expression(pattern), ".".join(event_type)) is not None
    assert matches(".".join(pattern), ".".join(event_type)) is expected


@given(types)
def test_event_type_matches_its_generalizations(event_type: list[str]) -> None:
    text = ".".join(event_type)
    assert matches(text, text)
    assert matches(".".join("*" for _ in event_type), text)
    assert all(matches(".".join([*event_type[:depth], ">"]), text) for depth in range(len(event_type)))
    assert not matches(f"{text}.>", text)


@given(st.text(max_size=20))
def test_event_type_is_a_pattern_that_matches_only_itself(text: str) -> None:
    try:
        check_type(text, "/type")
    except Unprocessable:
        return
    assert matches(text, text)
    assert not matches(text, f"{text}.more")


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", "a b", "a\tb", "a\nb", "a\0", "é", "a" * (MAX_CHARACTERS + 1)]
)
def test_invalid_text_is_rejected_with_its_pointer(text: str) -> None:
    for check in (check_type, check_pattern):
        with pytest.raises(Unprocessable) as caught:
            check(text, "/here")
        assert caught.value.faults[0].pointer == "/here"


@pytest.mark.parametrize("text", ["*", "a.*", ">", "a.>", "a*", "a.b>"])
def test_event_type_with_wildcards_is_rejected(text: str) -> None:
    with pytest.raises(Unprocessable, match=r"without \* and >"):
        check_type(text, "/type")


@pytest.mark.parametrize("text", ["a*", "*a", "a.b>", ">.a", "a.>.b", ">>", "**"])
def test_partial_wildcard_is_rejected(text: str) -> None:
    with pytest.raises(Unprocessable, match="whole word"):
        check_pattern(text, "/pattern")


def test_longest_pattern_matches_in_one_pass() -> None:
    many = ".".join("a" for _ in range((MAX_CHARACTERS + 1) // 2))
    assert matches(".".join("*" for _ in range((MAX_CHARACTERS + 1) // 2)), many)


@pytest.mark.parametrize("header", [("x-type", "b"), ("ce-type", "order.50%"), ("CE-Type", "order.50%25")])
def test_header_of_the_same_type_is_accepted(header: tuple[str, str]) -> None:
    assert checked_type("order.50%", (header,)) == "order.50%"
    assert checked_type(None, (header,)) is None


@pytest.mark.parametrize("value", ["order.sent", "Order.Paid", "order%2esent", ""])
def test_header_of_another_type_is_refused(value: str) -> None:
    with pytest.raises(Unprocessable, match=r"must be the type of the message, order\.paid; leave out") as caught:
        checked_type("order.paid", (("x-a", "b"), ("Ce-Type", value)), "/messages/1")
    assert (caught.value.code, caught.value.faults[0].pointer) == ("conflicting_fields", "/messages/1/headers/Ce-Type")


def test_invalid_type_is_named_before_its_headers() -> None:
    with pytest.raises(Unprocessable) as caught:
        checked_type("a b", (("ce-type", "c"),), "/messages/1")
    assert caught.value.faults[0].pointer == "/messages/1/type"


def test_patterns_of_a_listener_are_counted_and_each_is_checked() -> None:
    check_patterns(["order.*"] * MAX_PATTERNS, "/types")
    for wrong, pointer in (([], "/types"), (["a"] * (MAX_PATTERNS + 1), "/types"), (["a", "b*"], "/types/1")):
        with pytest.raises(Unprocessable) as caught:
            check_patterns(wrong, "/types")
        assert caught.value.faults[0].pointer == pointer


@given(st.lists(patterns, min_size=1, max_size=5), types)
def test_types_of_a_listener_match_like_any_of_their_patterns(several: list[list[str]], event_type: list[str]) -> None:
    texts, text = [".".join(each) for each in several], ".".join(event_type)
    entry = Entry(1, "m", 0, JSON_VALUE, b"{", extra=encode_options(MessageOptions(type=text)) or b"")
    assert TypeFilter(texts).accepts(entry) is any(matches(each, text) for each in texts)


@pytest.mark.parametrize("options", [MessageOptions(), MessageOptions(key="k", headers=(("ce-type", "a"),))])
def test_message_without_a_type_matches_no_types(options: MessageOptions) -> None:
    entry = Entry(1, "m", 0, JSON_VALUE, b"1", extra=encode_options(options) or b"")
    assert not TypeFilter([">", "a", "*"]).accepts(entry)
