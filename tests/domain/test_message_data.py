"""Data of messages, and the forms in which clients send it."""

import json
from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.message_data import (
    BYTES,
    JSON_TEXT,
    JSON_VALUE,
    TEXT,
    as_sent,
    bytes_as_string,
    data_of,
    data_of_base64,
    is_json,
    is_json_text,
    most_bytes_as_sent,
    pieces_as_sent,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.sampled_from([None, "application/json", "application/a+json", "text/plain", "image/png"]))
def test_value_comes_back_as_it_was_sent(value: object, media_type: str | None) -> None:
    sent = json.dumps(value).encode()
    body, codec = data_of(sent, media_type)
    shown = as_sent(body, codec)
    assert not shown.is_base64
    # Escapes of a string may differ, and nothing of other values.
    assert json.loads(shown.value) == value if isinstance(value, str) else shown.value == sent
    if is_json(codec):
        json.loads(body)
    assert data_of(shown.value, media_type) == (body, codec)


@given(st.binary())
def test_bytes_come_back_as_they_were_sent(content: bytes) -> None:
    shown = as_sent(*data_of_base64(json.dumps(b64encode(content).decode()).encode(), "/data_base64"))
    assert shown.is_base64
    assert b64decode(json.loads(shown.value)) == content


@pytest.mark.parametrize(
    ("text", "is_json"),
    [
        (b'{"a": 1}', True),
        (b"12", True),
        (b"true", True),
        (b'"quoted"', True),
        (b"", False),
        (b"plain text", False),
        (b"truth", False),
        (b'{"a": }', False),
        ("é\n".encode(), False),
        (b"[" * 100_000 + b"]" * 100_000, False),
    ],
    ids=lambda value: str(value)[:20],
)
def test_text_is_json_if_it_parses_and_is_not_nested_too_deeply(text: bytes, *, is_json: bool) -> None:
    assert is_json_text(text) is is_json


@pytest.mark.parametrize("codec", [TEXT, JSON_VALUE, BYTES])
@pytest.mark.parametrize("length", [0, 1, 196_607, 196_608, 600_001])
def test_pieces_of_data_are_the_data_as_it_was_sent(codec: int, length: int) -> None:
    body = ('"é\n"' * (length // 5 + 1))[:length].encode() if codec == TEXT else b"7" * length
    assert b"".join(pieces_as_sent(body, codec)) == as_sent(body, codec).value


@given(st.text() | st.text(st.sampled_from('\0\x01\x1f\x7f"\\\b\f\n\r\t/a\u00e9\U0001f600')))
def test_size_of_json_is_known_before_it_is_made(text: str) -> None:
    body = text.encode()
    for codec in (TEXT, BYTES):
        size = len(as_sent(body, codec).value)
        assert bytes_as_string(body, codec) == size
        assert size <= most_bytes_as_sent(len(body), codec)
    value = json.dumps(text).encode()
    assert most_bytes_as_sent(len(value), JSON_VALUE) == len(as_sent(value, JSON_VALUE).value)
    assert len(as_sent(value, JSON_TEXT).value) <= most_bytes_as_sent(len(value), JSON_TEXT)
