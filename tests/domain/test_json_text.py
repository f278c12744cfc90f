"""The depth of JSON, without a decoder: its own limit depends on the version of Python."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.json_text import MOST_LEVELS, SHORTEST_TOO_DEEP, decode_value, is_too_deep

LIMIT = MOST_LEVELS
ARRAYS = b"[" * LIMIT + b"]" * LIMIT
OBJECTS = b'{"a":' * LIMIT + b"1" + b"}" * LIMIT


@pytest.mark.parametrize("deepest", [ARRAYS, OBJECTS], ids=["arrays", "objects"])
def test_900_levels_are_allowed_and_901_are_not(deepest: bytes) -> None:
    assert not is_too_deep(deepest)
    assert not is_too_deep(b" " * 5_000 + deepest)
    assert is_too_deep(b"[" + deepest + b"]")
    assert is_too_deep(b'{"first":[],"next":' + deepest + b',"last":{"a":[]}}')


@pytest.mark.parametrize(
    "flat",
    [
        pytest.param(b"[" + b"[]," * 5_000 + b"{}]", id="many next to each other"),
        pytest.param(json.dumps(["[{" * 5_000, 'a "quoted" \\ [' * 500, "\\"]).encode(), id="brackets in strings"),
        pytest.param(json.dumps([{"a": [{"b": [[[]]]}]}] * 1_000).encode(), id="many small values"),
    ],
)
def test_number_of_brackets_is_not_their_depth(flat: bytes) -> None:
    assert not is_too_deep(flat)


@given(st.integers(LIMIT - 3, LIMIT + 3), st.sampled_from([b"[]", b'"[{"', b'{"]":[{}]}', b"1"]))
def test_levels_of_the_innermost_value_count(levels: int, inner: bytes) -> None:
    held = {b"[]": 1, b'"[{"': 0, b'{"]":[{}]}': 3, b"1": 0}[inner]
    text = b"[" * levels + inner + b"]" * levels

    assert is_too_deep(text) is (levels + held > LIMIT)


def test_shortest_text_that_is_too_deep_is_not_overlooked() -> None:
    assert len(ARRAYS) == SHORTEST_TOO_DEEP
    assert is_too_deep(b"[" + ARRAYS + b"]")


@pytest.mark.parametrize("number", ["1e308", "-1.5e-310", "5e-324", "17", "1.25"])
def test_numbers_have_the_values_that_python_gives_them(number: str) -> None:
    assert decode_value(f"[{number},{number}]".encode()) == json.loads(f"[{number},{number}]")


@pytest.mark.parametrize("text", [b"1e309", b"[-1e400]", b"NaN", b"{"])
def test_texts_without_a_value_are_refused(text: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_value(text)
