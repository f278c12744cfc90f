"""Keys of an identity provider, and the ID tokens that it signs."""

import hmac
import json
from base64 import urlsafe_b64encode
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def encoded(content: bytes | dict[str, Any]) -> str:
    """Return bytes, or an object as JSON, in base64url."""
    plain = content if isinstance(content, bytes) else json.dumps(content).encode()
    return urlsafe_b64encode(plain).decode().rstrip("=")


@cache
def rsa_key(number: int = 0, bits: int = 2_048) -> rsa.RSAPrivateKey:
    """Return one of several keys, which are made once: that takes long."""
    return rsa.generate_private_key(65_537, bits)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def jwk_of(key: PrivateKey, kid: str, **more: Any) -> dict[str, Any]:
    """Return the public part of a key as a provider publishes it."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        fields = {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
    elif isinstance(public, ec.EllipticCurvePublicKey):
        point = public.public_numbers()
        fields = {"kty": "EC", "crv": "P-256", "x": _number(point.x, 32), "y": _number(point.y, 32)}
    else:
        fields = {"kty": "OKP", "crv": "Ed25519", "x": encoded(public.public_bytes(Encoding.Raw, PublicFormat.Raw))}
    return {"kid": kid, "use": "sig", **fields, **more}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def signed(header: dict[str, Any], claims: dict[str, Any] | bytes, key: PrivateKey | bytes) -> str:
    """Return a token, signed as the header says. A key of bytes is a shared secret."""
    text = f"{encoded(header)}.{encoded(claims)}"
    return f"{text}.{encoded(_signature(header['alg'], text.encode(), key))}"


def _signature(algorithm: str, text: bytes, key: PrivateKey | bytes) -> bytes:
    if isinstance(key, bytes):
        return hmac.digest(key, text, "sha256")
    if isinstance(key, rsa.RSAPrivateKey):
        if algorithm == "PS256":
            return key.sign(text, padding.PSS(padding.MGF1(SHA256()), 32), SHA256())
        return key.sign(text, padding.PKCS1v15(), SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(text, ec.ECDSA(SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)
    return key.sign(text)


def _number(value: int, length: int | None = None) -> str:
    return encoded(value.to_bytes(length or (value.bit_length() + 7) // 8))
