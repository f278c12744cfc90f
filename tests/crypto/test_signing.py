"""Signatures of Standard Webhooks, with secrets and with key pairs."""

import traceback
from base64 import b64decode, b64encode
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from discue.crypto.signing import (
    MAX_VALID,
    HmacKey,
    LastSecret,
    SecretType,
    SignatureInvalid,
    SigningSecret,
    TooManySecrets,
    decode_private_key,
    decode_secret,
    encode_public_key,
    new_private_key,
    new_secret,
    sign,
    verify,
    with_new,
    without,
)

# HMAC

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE = "0OPFvCRRk3PdHdhfqKbcp"
KEY = decode_secret(SECRET)
NOW = 1_800_000_000_000
BODY = b'{"count": 1}'


def headers_of(body: bytes = BODY, *secrets: str, timestamp: int = NOW // 1_000) -> dict[str, str]:
    keys = [decode_secret(secret) for secret in secrets or (SECRET,)]
    return {
        "webhook-id": MESSAGE,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(keys, MESSAGE, timestamp, body),
    }


def other_secret(number: int) -> str:
    return new_secret(lambda length: bytes([number]) * length)


def test_signature_of_the_standard_test_vector() -> None:
    signature = sign([decode_secret(SECRET)], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_new_secret_has_the_prefix_and_32_bytes() -> None:
    secret = new_secret(lambda length: b"\xfb" * length)
    assert secret.startswith("whsec_")
    assert decode_secret(secret) == b"\xfb" * 32


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!!", "whsec_c2hvcnQ=", "whsec_" + "A" * 400, "whsec_ä"])
def test_invalid_secret_is_rejected_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="a signing secret") as caught:
        decode_secret(secret)
    assert secret.removeprefix("whsec_") == "" or secret.removeprefix("whsec_") not in str(caught.value)


@given(key=st.binary(min_size=24, max_size=64), text=st.text(max_size=200))
def test_reference_library_verifies_our_signatures(key: bytes, text: str) -> None:
    secret = "whsec_" + b64encode(key).decode()
    timestamp = int(datetime.now(tz=UTC).timestamp())
    headers = headers_of(text.encode("utf-8", "surrogatepass"), secret, timestamp=timestamp)
    Webhook(secret).verify(text.encode("utf-8", "surrogatepass"), headers, json_parse=False)


@given(key=st.binary(min_size=24, max_size=64), text=st.text(st.characters(codec="utf-8"), max_size=200))
def test_signatures_of_the_reference_library_are_verified(key: bytes, text: str) -> None:
    secret = "whsec_" + b64encode(key).decode()
    made_at = datetime.fromtimestamp(NOW / 1_000, tz=UTC)
    headers = {
        "Webhook-Id": MESSAGE,
        "Webhook-Timestamp": str(NOW // 1_000),
        "Webhook-Signature": Webhook(secret).sign(MESSAGE, made_at, text),
    }
    verify(HmacKey(key), headers, text.encode(), NOW)


@given(body=st.binary(min_size=1, max_size=100), data=st.data())
def test_modified_body_does_not_verify(body: bytes, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(body) - 1))
    bit = data.draw(st.integers(0, 7))
    tampered = body[:index] + bytes([body[index] ^ 1 << bit]) + body[index + 1 :]
    with pytest.raises(SignatureInvalid):
        verify(KEY, headers_of(body), tampered, NOW)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-id", "0OPFvCRRk3PdHdhfqKbcq"),
        ("webhook-id", ""),
        ("webhook-id", "ä"),
        ("webhook-timestamp", str(NOW // 1_000 + 1)),
        ("webhook-timestamp", "soon"),
        ("webhook-timestamp", "-1"),
        ("webhook-timestamp", "1" * 5_000),
        ("webhook-timestamp", "\u0661"),
        ("webhook-signature", ""),
        ("webhook-signature", "v1,"),
        ("webhook-signature", "v1a,AAAA"),
        ("webhook-signature", "v1,\udc80"),
    ],
)
def test_modified_header_does_not_verify(name: str, value: str) -> None:
    with pytest.raises(SignatureInvalid):
        verify(KEY, headers_of() | {name: value}, BODY, NOW)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_missing_header_is_named(name: str) -> None:
    headers = headers_of()
    del headers[name]
    with pytest.raises(SignatureInvalid, match=name):
        verify(KEY, headers, BODY, NOW)


def test_other_secret_does_not_verify() -> None:
    with pytest.raises(SignatureInvalid, match="No signature matches"):
        verify(decode_secret(other_secret(1)), headers_of(), BODY, NOW)


def test_both_secrets_verify_during_a_rotation() -> None:
    headers = headers_of(BODY, other_secret(1), other_secret(2))
    assert headers["webhook-signature"].count("v1,") == 2
    verify(decode_secret(other_secret(1)), headers, BODY, NOW)
    verify(decode_secret(other_secret(2)), headers, BODY, NOW)


@pytest.mark.parametrize("drift_ms", [-300_001, 300_001])
def test_old_or_future_signature_does_not_verify(drift_ms: int) -> None:
    verify(KEY, headers_of(), BODY, NOW + drift_ms // 2)
    with pytest.raises(SignatureInvalid, match="too far"):
        verify(KEY, headers_of(), BODY, NOW + drift_ms)


# Ed25519

seeds = st.binary(min_size=32, max_size=32)


def headers_by(signature: str) -> dict[str, str]:
    return {"webhook-id": MESSAGE, "webhook-timestamp": str(NOW // 1_000), "webhook-signature": signature}


@given(seeds, st.binary(max_size=300))
def test_public_key_verifies_signatures(seed: bytes, body: bytes) -> None:
    private = decode_private_key(new_private_key(lambda _: seed))
    shared, pair = sign((KEY, private), MESSAGE, NOW // 1_000, body).split(" ")
    Ed25519PublicKey.from_public_bytes(b64decode(encode_public_key(private).removeprefix("whpk_"))).verify(
        b64decode(pair.removeprefix("v1a,")), b"%b.%d.%b" % (MESSAGE.encode(), NOW // 1_000, body)
    )
    for key in (private, KEY):
        verify(key, headers_by(f"{shared} {pair}"), body, NOW)
    for key, signature in ((private, shared), (KEY, pair), (private, "v1a,"), (private, "v1a,!")):
        with pytest.raises(SignatureInvalid):
            verify(key, headers_by(signature), body, NOW)


@given(seeds, st.binary(min_size=32, max_size=32))
def test_private_key_may_include_only_its_own_public_key(seed: bytes, behind: bytes) -> None:
    own = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    for text in (seed, seed + own):
        key = decode_private_key("whsk_" + b64encode(text).decode())
        assert (key.private_bytes_raw(), key.public_key().public_bytes_raw()) == (seed, own)
    if behind != own:
        with pytest.raises(ValueError, match="second half"):
            decode_private_key("whsk_" + b64encode(seed + behind).decode())


@given(st.one_of(st.text(), st.binary(max_size=70).map(lambda raw: "whsk_" + b64encode(raw).decode())))
def test_invalid_private_key_is_rejected_without_being_shown(text: str) -> None:
    try:
        decode_private_key(text)
    except ValueError as error:
        shown = "".join(traceback.format_exception(error, limit=0))
        assert len(text) < 12 or text.removeprefix("whsk_") not in shown
    else:
        assert len(b64decode(text.removeprefix("whsk_"))) in (32, 64)


# Signing secrets

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
