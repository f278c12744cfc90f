"""Signatures, held against the public library of Standard Webhooks in both directions."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from discue.crypto.signatures import SignatureInvalid, decode_secret, new_secret, sign, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE = "0OPFvCRRk3PdHdhfqKbcp"
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


def test_the_known_vector_of_the_standard() -> None:
    signature = sign([decode_secret(SECRET)], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_new_secret_has_the_prefix_and_32_bytes() -> None:
    secret = new_secret(lambda length: b"\xfb" * length)
    assert secret.startswith("whsec_")
    assert decode_secret(secret) == b"\xfb" * 32


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!!", "whsec_c2hvcnQ=", "whsec_" + "A" * 400, "whsec_ä"])
def test_a_bad_secret_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="a signing secret") as caught:
        decode_secret(secret)
    assert secret.removeprefix("whsec_") == "" or secret.removeprefix("whsec_") not in str(caught.value)


@given(key=st.binary(min_size=24, max_size=64), text=st.text(max_size=200))
def test_the_public_library_accepts_our_signatures(key: bytes, text: str) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    timestamp = int(datetime.now(tz=UTC).timestamp())
    headers = headers_of(text.encode("utf-8", "surrogatepass"), secret, timestamp=timestamp)
    Webhook(secret).verify(text.encode("utf-8", "surrogatepass"), headers, json_parse=False)


@given(key=st.binary(min_size=24, max_size=64), text=st.text(st.characters(codec="utf-8"), max_size=200))
def test_we_accept_signatures_of_the_public_library(key: bytes, text: str) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    made_at = datetime.fromtimestamp(NOW / 1_000, tz=UTC)
    headers = {
        "Webhook-Id": MESSAGE,
        "Webhook-Timestamp": str(NOW // 1_000),
        "Webhook-Signature": Webhook(secret).sign(MESSAGE, made_at, text),
    }
    verify(secret, headers, text.encode(), NOW)


@given(body=st.binary(max_size=500))
def test_any_body_verifies_byte_for_byte(body: bytes) -> None:
    verify(SECRET, headers_of(body), body, NOW)


@given(body=st.binary(min_size=1, max_size=100), data=st.data())
def test_a_flipped_bit_of_the_body_does_not_verify(body: bytes, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(body) - 1))
    bit = data.draw(st.integers(0, 7))
    tampered = body[:index] + bytes([body[index] ^ 1 << bit]) + body[index + 1 :]
    with pytest.raises(SignatureInvalid):
        verify(SECRET, headers_of(body), tampered, NOW)


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
def test_a_tampered_header_does_not_verify(name: str, value: str) -> None:
    with pytest.raises(SignatureInvalid):
        verify(SECRET, headers_of() | {name: value}, BODY, NOW)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_named(name: str) -> None:
    headers = headers_of()
    del headers[name]
    with pytest.raises(SignatureInvalid, match=name):
        verify(SECRET, headers, BODY, NOW)


def test_another_secret_does_not_verify() -> None:
    with pytest.raises(SignatureInvalid, match="No signature matches"):
        verify(other_secret(1), headers_of(), BODY, NOW)


def test_either_secret_verifies_while_one_replaces_the_other() -> None:
    headers = headers_of(BODY, other_secret(1), other_secret(2))
    assert headers["webhook-signature"].count("v1,") == 2
    verify(other_secret(1), headers, BODY, NOW)
    verify(other_secret(2), headers, BODY, NOW)


@pytest.mark.parametrize("drift_ms", [-300_001, 300_001])
def test_an_old_or_future_signature_does_not_verify(drift_ms: int) -> None:
    verify(SECRET, headers_of(), BODY, NOW + drift_ms // 2)
    with pytest.raises(SignatureInvalid, match="too far"):
        verify(SECRET, headers_of(), BODY, NOW + drift_ms)


def test_error_names_its_cause() -> None:
    assert str(SignatureInvalid()) == "The signature is invalid, or too old."
