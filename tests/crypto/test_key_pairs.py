"""Signatures by key pairs, held against the library that knows Ed25519."""

import traceback
from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from discue.crypto.signatures import (
    SignatureInvalid,
    decode_private_key,
    decode_secret,
    encode_public_key,
    new_private_key,
    sign,
    verify,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE, NOW = "0OPFvCRRk3PdHdhfqKbcp", 1_800_000_000_000
seeds = st.binary(min_size=32, max_size=32)


def headers_of(signature: str) -> dict[str, str]:
    return {"webhook-id": MESSAGE, "webhook-timestamp": str(NOW // 1_000), "webhook-signature": signature}


@given(seeds, st.binary(max_size=300))
def test_public_key_verifies_signatures(seed: bytes, body: bytes) -> None:
    private = decode_private_key(new_private_key(lambda _: seed))
    shared, pair = sign((decode_secret(SECRET), private), MESSAGE, NOW // 1_000, body).split(" ")
    public = encode_public_key(private)
    Ed25519PublicKey.from_public_bytes(b64decode(public.removeprefix("whpk_"))).verify(
        b64decode(pair.removeprefix("v1a,")), b"%b.%d.%b" % (MESSAGE.encode(), NOW // 1_000, body)
    )
    for secret in (public, SECRET):
        verify(secret, headers_of(f"{shared} {pair}"), body, NOW)
    for secret, signature in ((public, shared), (SECRET, pair)):
        with pytest.raises(SignatureInvalid):
            verify(secret, headers_of(signature), body, NOW)


@given(seeds, st.binary(max_size=100), st.sampled_from(["v1a,", "v1a,!", "v1a", "", "v2a,AAAA", "v1a," + "A" * 88]))
def test_foreign_signature_does_not_verify(seed: bytes, body: bytes, signature: str) -> None:
    public = encode_public_key(Ed25519PrivateKey.from_private_bytes(seed))
    with pytest.raises(SignatureInvalid):
        verify(public, headers_of(signature or "x"), body, NOW)


@given(seeds, st.binary(min_size=32, max_size=32))
def test_a_private_key_has_its_own_public_key_behind_it_or_none(seed: bytes, behind: bytes) -> None:
    own = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    for text in (seed, seed + own):
        key = decode_private_key("whsk_" + b64encode(text).decode())
        assert (key.private_bytes_raw(), key.public_key().public_bytes_raw()) == (seed, own)
    if behind != own:
        with pytest.raises(ValueError, match="second half"):
            decode_private_key("whsk_" + b64encode(seed + behind).decode())


@given(st.one_of(st.text(), st.binary(max_size=70).map(lambda raw: "whsk_" + b64encode(raw).decode())))
def test_invalid_private_key_is_refused_without_being_shown(text: str) -> None:
    try:
        decode_private_key(text)
    except ValueError as error:
        shown = "".join(traceback.format_exception(error, limit=0))
        assert len(text) < 12 or text.removeprefix("whsk_") not in shown
    else:
        assert len(b64decode(text.removeprefix("whsk_"))) in (32, 64)
