"""Creation and deletion of the signing secrets of a listener."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.crypto.signing_secrets import (
    MAX_VALID,
    LastSecret,
    SecretType,
    SigningSecret,
    TooManySecrets,
    with_new,
    without,
)

types: st.SearchStrategy[SecretType] = st.sampled_from(["hmac", "ed25519"])
ends = st.one_of(st.just(0), st.integers(1, 300))
instants = st.integers(1, 300)


def numbered(drawn: list[tuple[SecretType, int]]) -> list[SigningSecret]:
    return [SigningSecret(f"t{n}", f"id{n}", kind, 0, end) for n, (kind, end) in enumerate(drawn)]


some = st.lists(st.tuples(types, ends), max_size=MAX_VALID).map(numbered)


@given(some, types, instants, instants)
def test_new_secret_comes_first_and_never_expires(
    secrets: list[SigningSecret], fresh_type: SecretType, now: int, ends_at: int
) -> None:
    fresh = SigningSecret("fresh", "fresh", fresh_type, now)
    before = {each.id: each for each in secrets}
    try:
        first, *rest = with_new(secrets, fresh, ends_at, now)
    except TooManySecrets:
        assert sum(each.is_valid(now) for each in secrets) == MAX_VALID
        return
    assert (first, len(rest) < MAX_VALID) == (fresh, True)
    assert [each.id for each in rest] == [each.id for each in secrets if each.id in {kept.id for kept in rest}]
    for each in rest:
        old = before[each.id]
        assert each.is_valid(now)
        assert (each.text, each.type, each.created_at) == (old.text, old.type, old.created_at)
        if each.type == fresh_type:
            assert each.expires_at == min(old.expires_at or ends_at, ends_at)
            assert each.updated_at == (now if each.expires_at != old.expires_at else 0)
        else:
            assert each == old
    for old in secrets:
        if old.type != fresh_type and old.is_valid(now):
            assert old in rest


@given(some, st.integers(0, MAX_VALID), instants)
def test_deletion_keeps_a_secret_without_an_expiry(secrets: list[SigningSecret], number: int, now: int) -> None:
    others = [each for each in secrets if each.id != f"id{number}"]
    try:
        kept = without(secrets, f"id{number}", now)
    except LastSecret:
        assert all(each.expires_at for each in others)
        return
    assert list(kept) == [each for each in others if each.is_valid(now)]
    assert any(not each.expires_at for each in kept)


def test_only_secret_cannot_be_deleted() -> None:
    with pytest.raises(LastSecret):
        without([SigningSecret("x", "a"), SigningSecret("y", "b", expires_at=10)], "a", 5)
    with pytest.raises(LastSecret):
        without([], "a", 5)
