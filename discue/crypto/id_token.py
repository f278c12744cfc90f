"""ID tokens of OpenID Connect: signed JWTs (RFC 7515, RFC 7519), verified with the keys of the provider (RFC 7517).

Only what such tokens need is implemented, and only verification: compact tokens with an asymmetric signature. Tokens
that are unsigned, encrypted, or signed with a shared secret are refused whatever they claim, and so are keys and URLs
of keys in a token's own header.
"""

import hmac
from base64 import urlsafe_b64decode
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeGuard

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

from discue.domain.errors import Unprocessable
from discue.domain.strict_json import decode_strictly

MOST_TOKEN_CHARACTERS: Final = 16_384
MOST_KEYS: Final = 100
_LEEWAY_SECONDS: Final = 60
"""By how much the clocks of the provider and the service may differ."""
_MOST_AGE_SECONDS: Final = 600
"""A token comes right after it was made: an older one is a copy."""
_LATEST_SECONDS: Final = 1 << 53
_MIN_RSA_BITS: Final = 2_048
_MOST_RSA_BITS: Final = 8_192
_MOST_SUBJECT_CHARACTERS: Final = 255


class TokenInvalid(ValueError):
    """The token must not be trusted. The message says why, and contains nothing of the token."""


class Expected(msgspec.Struct, frozen=True):
    """The values that a token must have."""

    issuer: str
    client_id: str
    nonce: str
    algorithms: Collection[str]
    """The signature algorithms of the provider. Others are refused, also if they are implemented here."""


class Key(NamedTuple):
    """A public key of a provider."""

    id: str
    algorithm: str
    """The only algorithm that it is for; empty for all of its type."""
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


def decode_keys(document: bytes) -> tuple[Key, ...]:
    """Return the keys of a JWK set that can verify signatures. Others are ignored, as RFC 7517 demands.

    Raises TokenInvalid if the document is no JWK set.
    """
    decoded = _json(document, "the key set")
    listed = decoded.get("keys")
    if not isinstance(listed, list):
        raise TokenInvalid("the key set of the provider has no keys")
    return tuple(key for each in listed[:MOST_KEYS] if isinstance(each, dict) for key in _decode_key(each))


def verify(token: str, keys: Sequence[Key], expected: Expected, now: int) -> dict[str, Any]:
    """Return the claims of a valid token. `now` is in milliseconds since the epoch. Raises TokenInvalid."""
    if len(token) > MOST_TOKEN_CHARACTERS or not token.isascii():
        raise TokenInvalid("it is too long, or no text in ASCII")
    parts = token.split(".")
    if len(parts) != 3:
        raise TokenInvalid("it does not have three parts")
    header = _json(_decoded(parts[0]), "its header")
    accepts = _accepts_of(header, expected.algorithms)
    signed, signature = f"{parts[0]}.{parts[1]}".encode(), _decoded(parts[2])
    if not any(accepts(key.key, signature, signed) for key in _candidates(header, keys)):
        raise TokenInvalid("no key of the provider has signed it")
    # Only now: before, nothing of the content can be trusted.
    claims = _json(_decoded(parts[1]), "its content")
    _check_recipient(claims, expected)
    _check_times(claims, now // 1_000)
    return claims


def key_id_of(token: str) -> str:
    """Return the id of the key that a token names, which may not exist; empty for none. Raises TokenInvalid."""
    key_id = _json(_decoded(token[:MOST_TOKEN_CHARACTERS].partition(".")[0]), "its header").get("kid", "")
    return key_id if isinstance(key_id, str) else ""


_Accepts = Callable[[Any, bytes, bytes], bool]
"""A signature algorithm. Called with a key, a signature and the signed bytes; false for a key of another type."""


def _rsa_pkcs1(algorithm: HashAlgorithm) -> _Accepts:
    return lambda key, signature, signed: (
        isinstance(key, rsa.RSAPublicKey)
        and _is_valid(lambda: key.verify(signature, signed, padding.PKCS1v15(), algorithm))
    )


def _rsa_pss(algorithm: HashAlgorithm) -> _Accepts:
    scheme = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
    return lambda key, signature, signed: (
        isinstance(key, rsa.RSAPublicKey) and _is_valid(lambda: key.verify(signature, signed, scheme, algorithm))
    )


def _ecdsa(curve: type[ec.EllipticCurve], size: int, algorithm: HashAlgorithm) -> _Accepts:
    def accepts(key: Any, signature: bytes, signed: bytes) -> bool:
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, curve):
            return False
        # Two numbers of fixed length, and not the DER form (RFC 7518, 3.4).
        if len(signature) != 2 * size:
            return False
        numbers = encode_dss_signature(int.from_bytes(signature[:size]), int.from_bytes(signature[size:]))
        return _is_valid(lambda: key.verify(numbers, signed, ec.ECDSA(algorithm)))

    return accepts


def _eddsa(key: Any, signature: bytes, signed: bytes) -> bool:
    return isinstance(key, ed25519.Ed25519PublicKey) and _is_valid(lambda: key.verify(signature, signed))


def _is_valid(check: Callable[[], object]) -> bool:
    try:
        check()
    except InvalidSignature:
        return False
    return True


_ALGORITHMS: Final[Mapping[str, _Accepts]] = {
    "RS256": _rsa_pkcs1(SHA256()),
    "RS384": _rsa_pkcs1(SHA384()),
    "RS512": _rsa_pkcs1(SHA512()),
    "PS256": _rsa_pss(SHA256()),
    "PS384": _rsa_pss(SHA384()),
    "PS512": _rsa_pss(SHA512()),
    "ES256": _ecdsa(ec.SECP256R1, 32, SHA256()),
    "ES384": _ecdsa(ec.SECP384R1, 48, SHA384()),
    "EdDSA": _eddsa,
}

ALGORITHMS: Final = tuple(_ALGORITHMS)
"""The signature algorithms that are implemented. There is neither `none` nor one with a shared secret."""


def _accepts_of(header: Mapping[str, Any], allowed: Collection[str]) -> _Accepts:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in allowed or algorithm not in _ALGORITHMS:
        raise TokenInvalid("its algorithm is not one of the provider's")
    if "crit" in header:
        raise TokenInvalid("its header has an extension that must be understood")
    return _ALGORITHMS[algorithm]


def _candidates(header: Mapping[str, Any], keys: Sequence[Key]) -> Iterator[Key]:
    """Yield the keys that may have signed a token. A token without a key id is tried with each."""
    for key in keys:
        if ("kid" not in header or header["kid"] == key.id) and key.algorithm in ("", header["alg"]):
            yield key


def _check_recipient(claims: Mapping[str, Any], expected: Expected) -> None:
    if claims.get("iss") != expected.issuer:
        raise TokenInvalid("it is of another issuer")
    audience = claims.get("aud")
    recipients = audience if isinstance(audience, list) else [audience]
    if expected.client_id not in recipients:
        raise TokenInvalid("it is for another client")
    party = claims.get("azp")
    if (len(recipients) > 1 or party is not None) and party != expected.client_id:
        raise TokenInvalid("it was made for another client")
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(errors="replace"), expected.nonce.encode()):
        raise TokenInvalid("it belongs to another sign-in")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _MOST_SUBJECT_CHARACTERS or not subject.isprintable():
        raise TokenInvalid("it names no user")


def _check_times(claims: Mapping[str, Any], now: int) -> None:
    expires, issued, begins = claims.get("exp"), claims.get("iat"), claims.get("nbf", 0)
    if not (_is_time(expires) and _is_time(issued) and _is_time(begins)):
        raise TokenInvalid("its times are missing or invalid")
    if now >= expires + _LEEWAY_SECONDS:
        raise TokenInvalid("it has expired")
    if max(issued, begins) > now + _LEEWAY_SECONDS:
        raise TokenInvalid("it is not valid yet. Check the clock of the server")
    if now - issued > _MOST_AGE_SECONDS:
        raise TokenInvalid("it is too old")


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LATEST_SECONDS


def _decoded(text: str) -> bytes:
    # Python ignores characters outside the alphabet: then many texts would be the same token.
    if not text or not set(text) <= _ALPHABET:
        raise TokenInvalid("it is not encoded in base64url")
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise TokenInvalid("it is not encoded in base64url") from None


_ALPHABET: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def _json(content: bytes, what: str) -> dict[str, Any]:
    try:
        # Strictly: of a repeated member, another implementation might read the other value.
        decoded = decode_strictly(content, "", code="invalid_value")
    except Unprocessable:
        raise TokenInvalid(f"{what} is not JSON") from None
    if not isinstance(decoded, dict):
        raise TokenInvalid(f"{what} is not an object")
    return decoded


def _decode_key(entry: Mapping[str, Any]) -> Iterator[Key]:
    """Yield the key of a JWK, unless it is not for signatures, too weak, or of an unknown type."""
    if entry.get("use", "sig") != "sig" or not isinstance(entry.get("kid", ""), str):
        return
    try:
        key = _public_key(entry)
    except (TokenInvalid, ValueError, UnsupportedAlgorithm):
        return
    if key is None:
        return
    algorithm = entry.get("alg", "")
    yield Key(entry.get("kid", ""), algorithm if isinstance(algorithm, str) else "?", key)


def _public_key(
    entry: Mapping[str, Any],
) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | None:
    kind, curve = entry.get("kty"), entry.get("crv")
    if kind == "RSA":
        modulus = _number(entry, "n")
        if not _MIN_RSA_BITS <= modulus.bit_length() <= _MOST_RSA_BITS:
            return None
        return rsa.RSAPublicNumbers(_number(entry, "e"), modulus).public_key()
    if kind == "EC" and curve in ("P-256", "P-384"):
        named = ec.SECP256R1() if curve == "P-256" else ec.SECP384R1()
        return ec.EllipticCurvePublicNumbers(_number(entry, "x"), _number(entry, "y"), named).public_key()
    if kind == "OKP" and curve == "Ed25519":
        return ed25519.Ed25519PublicKey.from_public_bytes(_bytes(entry, "x"))
    return None


def _number(entry: Mapping[str, Any], name: str) -> int:
    return int.from_bytes(_bytes(entry, name))


def _bytes(entry: Mapping[str, Any], name: str) -> bytes:
    text = entry.get(name)
    if not isinstance(text, str):
        raise TokenInvalid(f"a key has no {name}")
    return _decoded(text)
