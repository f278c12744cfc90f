"""Verification of Ed25519 in Python, compared with the package `cryptography`."""

import sys

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import example, given
from hypothesis import strategies as st

from discue_client.ed25519 import is_valid_in_python, verifier

ORDER = 2**252 + 27742317777372353535851937790883648493
PRIME = (2**255 - 19).to_bytes(32, "little")
SEED = bytes(range(32))
PRIVATE = Ed25519PrivateKey.from_private_bytes(SEED)
KEY = PRIVATE.public_key().public_bytes_raw()
MESSAGE = b"a message"
SIGNATURE = PRIVATE.sign(MESSAGE)


def is_valid_in_c(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def test_first_test_vector_of_rfc_8032_is_valid() -> None:
    key = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    signature = bytes.fromhex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    assert is_valid_in_python(key, signature, b"")
    assert not is_valid_in_python(key, signature, b"\0")


@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=200))
def test_signatures_of_the_package_are_valid(seed: bytes, message: bytes) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    assert is_valid_in_python(private.public_key().public_bytes_raw(), private.sign(message), message)


@given(place=st.integers(0, 63), bit=st.integers(0, 7))
@example(place=31, bit=7)
@example(place=63, bit=7)
def test_signature_with_one_other_bit_is_invalid(place: int, bit: int) -> None:
    changed = bytearray(SIGNATURE)
    changed[place] ^= 1 << bit
    assert not is_valid_in_python(KEY, bytes(changed), MESSAGE)


@given(signature=st.binary(min_size=64, max_size=64), message=st.binary(max_size=20))
@example(signature=bytes(64), message=b"")
@example(signature=b"\1" + bytes(63), message=b"")
def test_verdict_on_any_signature_is_that_of_the_package(signature: bytes, message: bytes) -> None:
    assert is_valid_in_python(KEY, signature, message) == is_valid_in_c(KEY, signature, message)


def test_second_form_of_a_signature_is_invalid() -> None:
    scalar = int.from_bytes(SIGNATURE[32:], "little") + ORDER
    second = SIGNATURE[:32] + scalar.to_bytes(32, "little")

    assert is_valid_in_python(KEY, SIGNATURE, MESSAGE)
    assert not is_valid_in_python(KEY, second, MESSAGE)


@pytest.mark.parametrize("length", [0, 32, 63, 65, 128])
def test_signature_of_another_length_is_invalid(length: int) -> None:
    assert not is_valid_in_python(KEY, (SIGNATURE * 2)[:length], MESSAGE)


@pytest.mark.parametrize(
    "key",
    [
        b"",
        KEY[:-1],
        KEY + b"\0",
        b"\xff" * 32,
        b"\x02" + bytes(31),
        PRIME,
        b"\1" + bytes(30) + b"\x80",
    ],
    ids=["empty", "short", "long", "all ones", "not on the curve", "not reduced", "zero with a sign"],
)
def test_bytes_that_are_no_public_key_are_an_error(key: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes and names a point"):
        verifier(key)


@pytest.mark.parametrize("has_package", [True, False])
def test_verifier_works_with_and_without_the_package(monkeypatch: pytest.MonkeyPatch, *, has_package: bool) -> None:
    if not has_package:
        monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    is_valid = verifier(KEY)

    assert ("is_valid" in repr(is_valid)) == has_package
    assert is_valid(SIGNATURE, MESSAGE)
    assert not is_valid(SIGNATURE, MESSAGE + b"!")
    assert not is_valid(b"", MESSAGE)
