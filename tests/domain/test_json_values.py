"""Values of JSON texts, and how long they take."""

import json
import time
from collections.abc import Callable

import msgspec
import pytest

from discue.domain.json_values import decode_value


def _took(decode: Callable[[bytes], object], text: bytes) -> int:
    started = time.thread_time_ns()
    decode(text)
    return time.thread_time_ns() - started


@pytest.mark.parametrize("number", [b"1e308", b"-1.5e-310", b"5e-324"])
def test_numbers_near_the_ends_of_the_range_take_no_longer_than_others(number: bytes) -> None:
    text = b"[" + b",".join([number] * 2_000) + b"]"
    assert decode_value(text) == json.loads(text)
    assert min(_took(decode_value, text) for _ in range(3)) < 6 * min(_took(json.loads, text) for _ in range(3))


@pytest.mark.parametrize("text", [b"1e309", b"[-1e400]", b"NaN", b"{"])
def test_texts_without_a_value_are_refused(text: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_value(text)
