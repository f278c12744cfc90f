"""Idempotency keys: hashes, fingerprints, encrypted responses, and expiry."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.idempotency import (
    NONCE_BYTES,
    SWEEP_MS,
    IdempotencyKey,
    idempotency_key,
    is_idempotency_key,
    sweep_ranges,
)

KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)
METHODS = st.sampled_from(["POST", "PUT"])
PATHS = st.lists(st.text(max_size=8), max_size=4).map(lambda steps: "/" + "/".join(steps))
REQUESTS = st.tuples(METHODS, PATHS, st.binary(max_size=64))
NONCE = bytes(NONCE_BYTES)


def a_key(text: str = "a", organization: int = 1, body: bytes = b"{}") -> IdempotencyKey:
    return idempotency_key(organization, text, "POST", "/queues", body=body)


@given(KEYS)
def test_visible_ascii_is_a_valid_key(text: str) -> None:
    assert is_idempotency_key(text)


@given(KEYS, st.integers(0, 255), st.characters(max_codepoint=0x20) | st.characters(min_codepoint=0x7F))
def test_text_with_other_characters_is_invalid(text: str, place: int, other: str) -> None:
    assert not is_idempotency_key((text[:place] + other + text[place:])[:255] if place < 254 else other)


@pytest.mark.parametrize("text", ["", "a" * 256, "a\n", "\na", "a b"])
def test_empty_long_or_blank_text_is_invalid(text: str) -> None:
    assert not is_idempotency_key(text)


@given(KEYS, REQUESTS, REQUESTS)
def test_fingerprints_match_only_for_equal_requests(
    text: str, one: tuple[str, str, bytes], other: tuple[str, str, bytes]
) -> None:
    first, second = (idempotency_key(1, text, method, path, body=body) for method, path, body in (one, other))
    assert first.hash == second.hash
    assert (first.fingerprint == second.fingerprint) == (one == other)


def test_path_and_body_are_separated_in_the_fingerprint() -> None:
    one = idempotency_key(1, "a", "POST", "/queues ", body=b"1")
    other = idempotency_key(1, "a", "POST", "/queues", body=b" 1")
    assert one.fingerprint != other.fingerprint


@given(KEYS, KEYS, st.integers(1, 3), st.integers(1, 3))
def test_keys_differ_by_text_and_organization(text: str, other: str, one: int, two: int) -> None:
    assert (a_key(text, one).hash == a_key(other, two).hash) == ((text, one) == (other, two))


@given(KEYS, KEYS)
def test_fingerprint_depends_on_the_key(text: str, other: str) -> None:
    assert (a_key(text).fingerprint == a_key(other).fingerprint) == (text == other)


@given(KEYS)
def test_hash_fits_two_columns(text: str) -> None:
    assert all(-(1 << 63) <= half < 1 << 63 for half in a_key(text).hash)


@given(KEYS, st.binary(max_size=200), st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES))
def test_sealed_response_is_unsealed_with_its_key_and_request(text: str, content: bytes, nonce: bytes) -> None:
    sealed = a_key(text).seal(content, nonce)
    assert a_key(text).unseal(sealed) == content
    assert len(content) < 4 or content not in sealed[NONCE_BYTES:]


@pytest.mark.parametrize("other", [a_key("b"), a_key(organization=2), a_key(body=b"[]")])
def test_other_key_organization_or_request_cannot_unseal(other: IdempotencyKey) -> None:
    with pytest.raises(ValueError, match="cannot be decrypted"):
        other.unseal(a_key().seal(b"content", NONCE))


@given(st.integers(0, 30), st.integers(1, 255))
def test_modified_ciphertext_is_rejected(place: int, change: int) -> None:
    sealed = bytearray(a_key().seal(b"content", NONCE))
    sealed[place % len(sealed)] ^= change
    with pytest.raises(ValueError, match="cannot be decrypted"):
        a_key().unseal(bytes(sealed))


def test_short_ciphertext_is_rejected() -> None:
    with pytest.raises(ValueError, match="cannot be decrypted"):
        a_key().unseal(b"")


def test_repr_does_not_contain_the_key() -> None:
    assert "secret-text" not in repr(a_key("secret-text"))


HALVES = st.integers(-(1 << 63), (1 << 63) - 1)


@given(st.integers(0, 1 << 42), st.lists(st.integers(0, SWEEP_MS), max_size=12), HALVES)
def test_sweep_checks_every_key_once_per_interval(begin: int, rounds: list[int], half: int) -> None:
    instants = [begin + pause for pause in (0, *sorted(rounds), SWEEP_MS)]
    passed = [stretch for since, until in pairwise(instants) for stretch in sweep_ranges(since, until)]
    assert sum(low <= half <= high for low, high in passed) == 1


@given(st.integers(0, 1 << 42), st.integers(0, 2 * SWEEP_MS))
def test_sweep_ranges_fit_the_column(since: int, pause: int) -> None:
    found = sweep_ranges(since, since + pause)
    assert all(-(1 << 63) <= low <= high < 1 << 63 for low, high in found)
    assert bool(found) == (pause > 0)


def test_sweep_is_empty_when_the_clock_is_set_back() -> None:
    assert sweep_ranges(SWEEP_MS, SWEEP_MS) == sweep_ranges(9, 8) == ()


def test_sweep_of_a_minute_is_a_small_share() -> None:
    [(low, high)] = sweep_ranges(0, 60_000)
    assert (high - low + 1) * 360 == pytest.approx(1 << 64)
