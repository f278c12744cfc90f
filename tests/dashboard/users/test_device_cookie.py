"""Cookies of browsers in which a user has signed in."""

import pytest

from discue.crypto.passwords import SALT_BYTES, hash_password
from discue.dashboard.users.sign_in import DEVICE_CHARACTERS, device_cookie, device_of, is_device_cookie
from tests.support.passwords import CHEAP

DEVICE = "d" * DEVICE_CHARACTERS
PASSWORD = "correct horse battery"
HASH = hash_password(PASSWORD, bytes(SALT_BYTES), CHEAP)


def test_cookie_names_the_device_of_its_user_only() -> None:
    cookie = device_cookie(DEVICE, HASH)
    assert is_device_cookie(cookie)
    assert device_of(cookie, HASH) == DEVICE


def test_cookie_is_void_for_another_hash_even_of_the_same_password() -> None:
    cookie = device_cookie(DEVICE, HASH)
    assert device_of(cookie, hash_password(PASSWORD, b"x" * SALT_BYTES, CHEAP)) is None
    assert device_of(cookie, None) is None


def test_cookie_made_without_a_hash_is_invalid() -> None:
    assert device_of(device_cookie(DEVICE, ""), None) is None


@pytest.mark.parametrize("position", [0, DEVICE_CHARACTERS - 1, DEVICE_CHARACTERS, -1])
def test_changed_cookie_is_invalid(position: int) -> None:
    changed = list(device_cookie(DEVICE, HASH))
    changed[position] = "1" if changed[position] == "0" else "0"
    assert device_of("".join(changed), HASH) is None


@pytest.mark.parametrize("text", ["", "x", "é" * 86, "\ud800" * 86, DEVICE, "x" * 100_000])
def test_other_text_is_invalid(text: str) -> None:
    assert not is_device_cookie(text)
    assert device_of(text, HASH) is None
