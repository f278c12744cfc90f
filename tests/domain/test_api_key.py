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
def test_composed_key_is_parsed_into_its_parts(public_id: str, secret: str) -> None:
    assert api_key.parse(api_key.compose(public_id, secret)) == PresentedKey(public_id, secret)


@given(public_id=IDS, secret=st.text(ALPHABET, max_size=21) | st.text(ALPHABET, min_size=108, max_size=120))
def test_secret_with_an_invalid_length_is_rejected(public_id: str, secret: str) -> None:
    assert api_key.parse(api_key.compose(public_id, secret)) is None


@given(text=st.text(max_size=200))
def test_parser_accepts_or_rejects_any_text(text: str) -> None:
    parts = api_key.parse(text)
    assert parts is None or api_key.compose(*parts) == text


@pytest.mark.parametrize("odd", ["-", " ", "é", "٣", "\n", "\x00"])
def test_key_consists_of_ascii_letters_and_digits(odd: str) -> None:
    assert api_key.parse("dsk_" + "a" * 52 + odd) is None


def test_hash_matches_only_its_own_secret() -> None:
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


def test_visible_prefix_is_12_characters_without_the_secret() -> None:
    public_id = "0UoCbelc05i7mdnOnUktk"
    shown = api_key.visible_prefix(public_id)
    assert api_key.compose(public_id, "s" * 32).startswith(shown)
    assert len(shown) == 12
