"""Ordering keys and receipt handles of messages."""

from hypothesis import given
from hypothesis import strategies as st

from discue.domain.messages import NO_KEY_HASH, ReceiptHandle, hash_key, parse_receipt_handle

NUMBERS = st.integers(0, (1 << 63) - 1)


@given(st.text(max_size=20), st.text(max_size=20))
def test_key_hash_fits_a_signed_column(key: str, other: str) -> None:
    assert -(1 << 63) <= hash_key(key) < 1 << 63
    assert (hash_key(key) == hash_key(other)) == (key == other)
    assert hash_key(key) != NO_KEY_HASH


@given(NUMBERS, NUMBERS)
def test_receipt_handle_is_parsed_from_its_text(seq: int, token: int) -> None:
    handle = ReceiptHandle(seq, token)
    assert parse_receipt_handle(str(handle)) == handle
    assert parse_receipt_handle(str(handle)[1:]) is None
    assert parse_receipt_handle(str(ReceiptHandle(seq, token | 1 << 63))) is None
