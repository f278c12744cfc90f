"""Rules and hashes of passwords."""

import asyncio
import queue
import threading
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.crypto import passwords
from discue.crypto.passwords import (
    SALT_BYTES,
    STANDARD,
    PasswordHashing,
    check_password,
    hash_password,
    verify_password,
)
from discue.domain.errors import Overloaded, Unprocessable
from tests.support.passwords import CHEAP

texts = st.text(min_size=1, max_size=40)
salts = st.binary(min_size=SALT_BYTES, max_size=SALT_BYTES)


@given(texts, salts)
def test_password_matches_its_hash_in_any_unicode_form(password: str, salt: bytes) -> None:
    kept = hash_password(password, salt, CHEAP)
    assert verify_password(password, kept)
    assert verify_password(unicodedata.normalize("NFD", password), kept)


@given(texts, texts, salts)
def test_other_password_does_not_match(password: str, other: str, salt: bytes) -> None:
    same = unicodedata.normalize("NFC", password) == unicodedata.normalize("NFC", other)
    assert verify_password(other, hash_password(password, salt, CHEAP)) == same


def test_missing_hash_matches_no_password() -> None:
    assert not verify_password("", None, CHEAP)
    assert not verify_password("correct horse battery", None, CHEAP)


@given(texts, salts, salts)
def test_salt_makes_hashes_of_one_password_differ(password: str, one: bytes, other: bytes) -> None:
    assert (hash_password(password, one, CHEAP) == hash_password(password, other, CHEAP)) == (one == other)


def test_hash_contains_its_parameters() -> None:
    assert hash_password("correct horse", bytes(SALT_BYTES), CHEAP).startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert (STANDARD.memory_kib, STANDARD.iterations, STANDARD.lanes) == (64 * 1_024, 3, 1)


@given(st.text(max_size=300))
def test_password_length_is_checked_after_normalization(text: str) -> None:
    if 8 <= len(unicodedata.normalize("NFC", text)) <= 256:
        check_password(text)
    else:
        with pytest.raises(Unprocessable) as refused:
            check_password(text)
        assert refused.value.faults[0].pointer == "/password"


def test_decomposed_accent_counts_as_one_character() -> None:
    check_password("e\N{COMBINING ACUTE ACCENT}" * 256)
    with pytest.raises(Unprocessable):
        check_password("e\N{COMBINING ACUTE ACCENT}" * 7)


@pytest.mark.parametrize(("length", "normalized"), [(1_024, [1_024]), (1_025, []), (1_000_000, [])])
def test_text_that_is_too_long_is_refused_before_normalization(
    monkeypatch: pytest.MonkeyPatch, length: int, normalized: list[int]
) -> None:
    lengths: list[int] = []

    def record(text: str) -> str:
        lengths.append(len(text))
        return text

    monkeypatch.setattr(passwords, "normalized", record)
    with pytest.raises(Unprocessable, match="8 to 256 characters"):
        check_password("\N{COMBINING ACUTE ACCENT}" * length)
    assert lengths == normalized


def _held(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, queue.Queue[str]]:
    """Hold every check of a password until the event is set. The queue has the passwords whose check has begun."""
    release, begun = threading.Event(), queue.Queue[str]()

    def check(password: str, *_: object) -> bool:
        begun.put(password)
        assert release.wait(10)
        return True

    monkeypatch.setattr(passwords, "verify_password", check)
    return release, begun


async def _next_begun(begun: queue.Queue[str]) -> str:
    return await asyncio.to_thread(begun.get, timeout=10)


def test_flood_of_passwords_is_refused_and_the_waiting_ones_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    release, begun = _held(monkeypatch)
    hashing = PasswordHashing(CHEAP)

    async def flood() -> None:
        checks = [asyncio.ensure_future(hashing.matches(f"{number}", None)) for number in range(40)]
        assert {await _next_begun(begun), await _next_begun(begun)} == {"0", "1"}
        with pytest.raises(Overloaded):
            await hashing.matches("one more", None)
        release.set()
        results = await asyncio.gather(*checks, return_exceptions=True)
        assert results.count(True) == 34
        assert await hashing.matches("later", None)

    asyncio.run(flood())


def test_client_that_goes_away_frees_no_thread_for_another_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    release, begun = _held(monkeypatch)
    hashing = PasswordHashing(CHEAP)

    async def leave() -> None:
        checks = [asyncio.ensure_future(hashing.matches(f"{number}", None)) for number in range(2)]
        assert {await _next_begun(begun), await _next_begun(begun)} == {"0", "1"}
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)
        last = asyncio.ensure_future(hashing.matches("last", None))
        with pytest.raises(queue.Empty):
            await asyncio.to_thread(begun.get, timeout=0.05)
        release.set()
        assert await last

    asyncio.run(leave())
