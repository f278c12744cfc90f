import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain import api_key
from discue.domain.api_key import PresentedKey
from discue.domain.ids import ALPHABET, LENGTH, RandomText

IDS = st.text(ALPHABET, min_size=LENGTH, max_size=LENGTH)


@given(public_id=IDS, secret=st.text(ALPHABET, min_size=22, max_size=107))
def test_a_composed_key_is_parsed_into_its_parts(public_id: str, secret: str) -> None:
    assert api_key.parse(api_key.compose(public_id, secret)) == PresentedKey(public_id, secret)


@given(public_id=IDS, secret=st.text(ALPHABET, max_size=21) | st.text(ALPHABET, min_size=108, max_size=120))
def test_a_secret_of_another_length_is_none(public_id: str, secret: str) -> None:
    assert api_key.parse(api_key.compose(public_id, secret)) is None


@given(text=st.text(max_size=200))
def test_no_text_breaks_the_parser(text: str) -> None:
    parts = api_key.parse(text)
    assert parts is None or api_key.compose(*parts) == text


@pytest.mark.parametrize("odd", ["-", " ", "é", "٣", "\n", "\x00"])
def test_only_ascii_letters_and_digits_make_a_key(odd: str) -> None:
    assert api_key.parse("dsk_" + "a" * 52 + odd) is None


def test_only_the_secret_that_was_hashed_matches() -> None:
    secret = api_key.new_secret(RandomText(os.urandom))
    hashed = api_key.hash_secret(secret)
    assert hashed == hashlib.sha256(secret.encode()).digest()
    assert api_key.matches(secret, hashed)
    assert not api_key.matches(secret[:-1], hashed)
    assert not api_key.matches(secret.swapcase(), hashed)


def test_new_secrets_have_32_characters_and_differ() -> None:
    random_text = RandomText(os.urandom)
    secrets = {api_key.new_secret(random_text) for _ in range(100)}
    assert len(secrets) == 100
    assert {len(secret) for secret in secrets} == {32}


def test_key_shows_12_characters_and_no_secret() -> None:
    public_id = "0UoCbelc05i7mdnOnUktk"
    shown = api_key.visible_prefix(public_id)
    assert api_key.compose(public_id, "s" * 32).startswith(shown)
    assert len(shown) == 12
