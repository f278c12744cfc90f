"""Values of JSON texts."""

import json

import msgspec
import pytest

from discue.domain.json_text import decode_value


@pytest.mark.parametrize("number", ["1e308", "-1.5e-310", "5e-324", "17", "1.25"])
def test_numbers_have_the_values_that_python_gives_them(number: str) -> None:
    assert decode_value(f"[{number},{number}]".encode()) == json.loads(f"[{number},{number}]")


@pytest.mark.parametrize("text", [b"1e309", b"[-1e400]", b"NaN", b"{"])
def test_texts_without_a_value_are_refused(text: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_value(text)
