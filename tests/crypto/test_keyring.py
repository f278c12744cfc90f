"""Encryption at rest: content can be decrypted only with its key and in its row."""

import json
import traceback
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.crypto.endpoint_credentials import ListenerSecrets, decode_secrets, encode_secrets
from discue.crypto.keyring import KEY_BYTES, NONCE_BYTES, DecryptionFailed, Keyring, UnknownKey, key_id_in, key_id_of
from discue.crypto.signing import SigningSecret, associated_data

keys = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)
nonces = st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)
ids = st.integers(1, (1 << 63) - 1)
KEY, OTHER, NONCE = b"k" * KEY_BYTES, b"o" * KEY_BYTES, b"n" * NONCE_BYTES
PLACE = associated_data(1, 2)


@given(keys, keys, nonces, st.binary(), st.binary())
def test_sealed_content_is_opened_with_any_other_keys(
    key: bytes, other: bytes, nonce: bytes, content: bytes, place: bytes
) -> None:
    sealed = Keyring((key,)).seal(key_id_of(key), content, place, nonce)
    assert key_id_in(sealed) == key_id_of(key)
    assert Keyring((other, key)).open(sealed, place) == content


@given(ids, ids, ids, ids)
def test_content_moved_to_another_row_is_rejected(organization: int, listener: int, other: int, another: int) -> None:
    ring = Keyring((KEY,))
    sealed = ring.seal(ring.first, b"secret", associated_data(organization, listener), NONCE)
    if (organization, listener) == (other, another):
        assert ring.open(sealed, associated_data(other, another)) == b"secret"
    else:
        with pytest.raises(DecryptionFailed):
            ring.open(sealed, associated_data(other, another))


@given(st.data())
def test_modified_or_truncated_content_is_rejected(data: st.DataObject) -> None:
    ring = Keyring((KEY,))
    sealed = ring.seal(ring.first, b"secret", PLACE, NONCE)
    at = data.draw(st.integers(1, len(sealed) - 1))
    modified = bytearray(sealed)
    modified[at] ^= data.draw(st.integers(1, 255))
    for broken in (bytes(modified), sealed[:at]):
        with pytest.raises((DecryptionFailed, UnknownKey)):
            ring.open(broken, PLACE)


def test_plaintext_is_returned_unchanged() -> None:
    stored = json.dumps(["whsec_x"]).encode()
    assert Keyring().open(stored, PLACE) == stored
    assert (key_id_in(stored), Keyring().knows(""), Keyring().seal("", stored, PLACE, NONCE)) == ("", True, stored)


def test_plaintext_that_would_be_taken_for_sealed_content_is_refused() -> None:
    with pytest.raises(ValueError, match="must not begin like sealed content"):
        Keyring().seal("", b"\x01secret", PLACE, NONCE)


def test_unknown_key_is_looked_up_again_and_named() -> None:
    there: list[bytes] = []
    ring = Keyring((OTHER,), lambda: there)
    sealed = Keyring((KEY,)).seal(key_id_of(KEY), b"secret", PLACE, NONCE)
    with pytest.raises(UnknownKey, match=key_id_of(KEY)):
        ring.open(sealed, PLACE)
    assert not ring.knows(key_id_of(KEY))
    there.append(KEY)
    assert ring.open(sealed, PLACE) == b"secret"
    assert ring.first == key_id_of(OTHER)


@given(keys, nonces, st.binary(min_size=24, max_size=64), st.integers(0, 200))
def test_errors_and_reprs_have_no_secret(key: bytes, nonce: bytes, secret: bytes, cut: int) -> None:
    text = "whsec_" + b64encode(secret).decode()
    ring = Keyring((key,))
    kept = SigningSecret(text, "s" * 21)
    content = encode_secrets(ListenerSecrets((kept,)))
    shown = repr(ring) + repr(kept) + repr(decode_secrets(content))
    for broken in (content[:cut], content.replace(b"{", b"[", 1), content + b"x"):
        sealed = ring.seal(ring.first, broken, PLACE, nonce)
        for work in (
            lambda broken=broken: decode_secrets(broken),
            lambda sealed=sealed: ring.open(sealed, b"elsewhere"),
        ):
            try:
                work()
            except ValueError as error:
                shown += "".join(traceback.format_exception(error))
    for hidden in (text, secret.hex(), key.hex(), b64encode(key).decode(), repr(key)):
        assert hidden not in shown


@given(
    st.lists(
        st.builds(
            SigningSecret, st.text(), st.text(), st.sampled_from(["hmac", "ed25519"]), st.integers(0), st.integers(0)
        )
    )
)
def test_encoded_secrets_are_decoded_unchanged(secrets: list[SigningSecret]) -> None:
    assert decode_secrets(encode_secrets(ListenerSecrets(tuple(secrets)))).signing == tuple(secrets)


@given(st.integers(1, 1 << 50), st.integers(0, 1 << 50))
def test_secret_is_valid_until_it_expires(expires_at: int, now: int) -> None:
    assert SigningSecret("x", expires_at=expires_at).is_valid(now) == (now < expires_at)
    assert SigningSecret("x").is_valid(now)
