"""Rules and hashes of passwords."""

import asyncio
import os
import queue
import sys
import threading
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.crypto import passwords
from discue.crypto.passwords import (
    MOST_THREADS,
    SALT_BYTES,
    STANDARD,
    STRANGERS,
    PasswordHashing,
    check_password,
    hash_password,
    hash_threads,
    verify_password,
)
from discue.domain.errors import Overloaded, Unprocessable
from tests.support.passwords import CHEAP

texts = st.text(min_size=1, max_size=40)
salts = st.binary(min_size=SALT_BYTES, max_size=SALT_BYTES)

_ORDERS = 7
"""The line of an organization."""


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


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 2), (5, MOST_THREADS), (64, MOST_THREADS)])
def test_hashes_leave_one_core_to_the_rest_of_the_service(cores: int, threads: int) -> None:
    assert hash_threads(cores) == threads


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, a thread has no niceness of its own")
def test_hashes_run_with_a_lower_priority_than_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    nice: list[int] = []

    def check(*_: object) -> bool:
        nice.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return True

    monkeypatch.setattr(passwords, "verify_password", check)
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert asyncio.run(PasswordHashing(CHEAP).matches("", None, line=STRANGERS))
    assert nice == [min(own + 10, 19)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own


def test_error_of_a_hash_reaches_its_client_and_frees_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    hashing = PasswordHashing(CHEAP, threads=1)

    async def fail() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(passwords, "verify_password", lambda *_: 1 // 0)
            with pytest.raises(ZeroDivisionError):
                await hashing.matches("", None, line=STRANGERS)
        assert not await hashing.matches("", None, line=STRANGERS)

    asyncio.run(fail())


def test_flood_of_passwords_is_refused_and_the_waiting_ones_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    release, begun = _held(monkeypatch)
    hashing = PasswordHashing(CHEAP, threads=2)

    async def flood() -> None:
        checks = [asyncio.ensure_future(hashing.matches(f"{number}", None, line=_ORDERS)) for number in range(40)]
        assert {await _next_begun(begun), await _next_begun(begun)} == {"0", "1"}
        with pytest.raises(Overloaded):
            await hashing.matches("one more", None, line=_ORDERS)
        release.set()
        results = await asyncio.gather(*checks, return_exceptions=True)
        assert results.count(True) == 34
        assert await hashing.matches("later", None, line=_ORDERS)

    asyncio.run(flood())


def test_strangers_leave_one_thread_and_all_places_of_other_lines_free(monkeypatch: pytest.MonkeyPatch) -> None:
    release, begun = _held(monkeypatch)
    hashing = PasswordHashing(CHEAP, threads=2)

    async def flood() -> None:
        strangers = [asyncio.ensure_future(hashing.matches(f"{number}", None, line=STRANGERS)) for number in range(40)]
        assert await _next_begun(begun) == "0"
        known = [asyncio.ensure_future(hashing.matches("known", None, line=_ORDERS)) for _ in range(8)]
        assert await _next_begun(begun) == "known"
        release.set()
        assert all(await asyncio.gather(*known))
        results = await asyncio.gather(*strangers, return_exceptions=True)
        assert results.count(True) == 33

    asyncio.run(flood())


def test_lines_take_turns_on_a_single_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    release, begun = _held(monkeypatch)
    hashing = PasswordHashing(CHEAP, threads=1)

    async def flood() -> None:
        entered = [(STRANGERS, f"s{number}") for number in range(4)]
        entered += [(_ORDERS, f"o{number}") for number in range(3)] + [(_ORDERS + 1, "p0")]
        checks = [asyncio.ensure_future(hashing.matches(text, None, line=line)) for line, text in entered]
        first = await _next_begun(begun)
        release.set()
        assert all(await asyncio.gather(*checks))
        order = [first, *(begun.get_nowait() for _ in checks[1:])]
        assert order == ["s0", "s1", "o0", "p0", "s2", "o1", "s3", "o2"]

    asyncio.run(flood())


def test_client_that_goes_away_frees_no_thread_for_another_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    release, begun = _held(monkeypatch)
    hashing = PasswordHashing(CHEAP, threads=2)

    async def leave() -> None:
        checks = [asyncio.ensure_future(hashing.matches(f"{number}", None, line=_ORDERS)) for number in range(3)]
        assert {await _next_begun(begun), await _next_begun(begun)} == {"0", "1"}
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)
        last = asyncio.ensure_future(hashing.matches("last", None, line=_ORDERS))
        with pytest.raises(queue.Empty):
            await asyncio.to_thread(begun.get, timeout=0.05)
        release.set()
        assert await last
        # The one that had waited is not hashed.
        assert begun.get_nowait() == "last"
        assert begun.empty()

    asyncio.run(leave())
