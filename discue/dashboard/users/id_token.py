"""ID tokens of OpenID Connect: signed JWTs, verified with the keys of the provider.

`joserfc` decodes tokens and keys and checks signatures. This module decides what it may accept: compact tokens with an
asymmetric signature by a published key. Tokens that are unsigned, encrypted, or signed with a shared secret are refused
whatever they claim, and so are keys and URLs of keys in a token's own header.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeGuard

import msgspec
from joserfc import jws
from joserfc.errors import ClaimError, ExpiredTokenError, JoseError
from joserfc.jwk import JWKRegistry, RSAKey
from joserfc.jwk import Key as PublicKey
from joserfc.jws import CompactSignature, JWSRegistry
from joserfc.jwt import JWTClaimsRegistry

from discue.domain.errors import Unprocessable
from discue.domain.json_text import decode_strictly

MOST_TOKEN_CHARACTERS: Final = 16_384
MOST_KEYS: Final = 100

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
"""The signature algorithms that may be used. There is neither `none` nor one with a shared secret."""

_LEEWAY_SECONDS: Final = 60
"""By how much the clocks of the provider and the service may differ."""
_MOST_AGE_SECONDS: Final = 600
"""A token comes right after it was made: an older one is a copy."""
_LATEST_SECONDS: Final = 1 << 53
_MIN_RSA_BITS: Final = 2_048
_MOST_RSA_BITS: Final = 8_192
_MOST_SUBJECT_CHARACTERS: Final = 255

_KEY_TYPES: Final = (("RSA", None), ("EC", "P-256"), ("EC", "P-384"), ("OKP", "Ed25519"))
"""Type and curve of the keys that the algorithms need."""
_PUBLIC_MEMBERS: Final = ("kty", "crv", "n", "e", "x", "y")

_REASONS: Final[Mapping[str, str]] = {
    "iss": "it is of another issuer",
    "aud": "it is for another client",
    "nonce": "it belongs to another sign-in",
    "sub": "it names no user",
    "iat": "it is not valid yet. Check the clock of the server",
    "nbf": "it is not valid yet. Check the clock of the server",
}
"""The reason to refuse a token, by the claim that is missing or wrong."""


class TokenInvalid(ValueError):
    """The token must not be trusted. The message says why, and contains nothing of the token."""


class Expected(msgspec.Struct, frozen=True):
    """The values that a token must have."""

    issuer: str
    client_id: str
    nonce: str
    algorithms: Collection[str]
    """The signature algorithms of the provider. Others are refused, also if they are in `ALGORITHMS`."""


class Key(NamedTuple):
    """A public key of a provider."""

    id: str
    algorithm: str
    """The only algorithm that it is for; empty for all of its type."""
    key: PublicKey


class _Registry(JWSRegistry):
    """The algorithms and sizes of tokens. The sizes are in base64url."""

    max_header_length = 4_096
    max_payload_length = MOST_TOKEN_CHARACTERS
    max_signature_length = 2_048

    def get_alg(self, name: str) -> Any:
        # Providers use the old name, which the library warns of (RFC 9864).
        return super().get_alg("Ed25519" if name == "EdDSA" else name)


_REGISTRY: Final = _Registry(algorithms=[*ALGORITHMS, "Ed25519"], strict_check_header=False)


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
    content = _decoded(token)
    header = content.headers()
    algorithm = header.get("alg")
    # Not left to the library: it takes an empty list of algorithms for its own, which has shared secrets.
    if not isinstance(algorithm, str) or algorithm not in expected.algorithms or algorithm not in ALGORITHMS:
        raise TokenInvalid("its algorithm is not one of the provider's")
    if "crit" in header:
        raise TokenInvalid("its header has an extension that must be understood")
    # A token without a key id is tried with each key.
    named = [key for key in keys if header.get("kid", key.id) == key.id and key.algorithm in ("", algorithm)]
    if not any(_has_signed(key, content) for key in named):
        raise TokenInvalid("no key of the provider has signed it")
    # Only now: before, nothing of the content can be trusted.
    claims = _json(content.payload, "its content")
    _check_claims(claims, expected, now // 1_000)
    return claims


def key_id_of(token: str) -> str:
    """Return the id of the key that a token names, which may not exist; empty for none. Raises TokenInvalid."""
    key_id = _decoded(token).headers().get("kid", "")
    return key_id if isinstance(key_id, str) else ""


def _decoded(token: str) -> CompactSignature:
    """Return a token whose signature is not verified yet."""
    if len(token) > MOST_TOKEN_CHARACTERS or not token.isascii():
        raise TokenInvalid("it is too long, or no text in ASCII")
    try:
        content = jws.extract_compact(token.encode(), registry=_REGISTRY)
    except (JoseError, RecursionError):
        raise TokenInvalid("it is not a signed token in three parts") from None
    if not isinstance(content.headers(), dict):
        raise TokenInvalid("its header is not an object")
    return content


def _has_signed(key: Key, content: CompactSignature) -> bool:
    try:
        return jws.validate_compact(content, key.key, registry=_REGISTRY)
    except JoseError:
        # The algorithm needs a key of another type.
        return False


def _check_claims(claims: Mapping[str, Any], expected: Expected, now: int) -> None:
    times = (claims.get("exp"), claims.get("iat"), claims.get("nbf", 0))
    if not all(map(is_time, times)):
        raise TokenInvalid("its times are missing or invalid")
    try:
        JWTClaimsRegistry(
            now=now,
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": expected.issuer},
            aud={"essential": True, "value": expected.client_id},
            nonce={"essential": True, "value": expected.nonce},
            sub={"essential": True},
        ).validate(dict(claims))
    except ExpiredTokenError:
        raise TokenInvalid("it has expired") from None
    except ClaimError as error:
        raise TokenInvalid(_REASONS.get(error.claim, "its claims are missing or invalid")) from None
    # The library takes a list that has the value for the value.
    if not isinstance(claims["nonce"], str):
        raise TokenInvalid(_REASONS["nonce"])
    audience, party = claims["aud"], claims.get("azp")
    if (party is not None or (isinstance(audience, list) and len(audience) > 1)) and party != expected.client_id:
        raise TokenInvalid("it was made for another client")
    if len(claims["sub"]) > _MOST_SUBJECT_CHARACTERS or not claims["sub"].isprintable():
        raise TokenInvalid(_REASONS["sub"])
    if now - claims["iat"] > _MOST_AGE_SECONDS:
        raise TokenInvalid("it is too old")


def is_time(value: object) -> TypeGuard[float]:
    """Return whether a claim is a time, in seconds since the epoch."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LATEST_SECONDS


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
    key_id, algorithm = entry.get("kid", ""), entry.get("alg", "")
    if entry.get("use", "sig") != "sig" or not isinstance(key_id, str):
        return
    if (entry.get("kty"), entry.get("crv")) not in _KEY_TYPES or not _is_strong(entry):
        return
    try:
        # Without the other members: providers publish some that the library refuses, and none of them is needed.
        key = JWKRegistry.import_key({name: entry[name] for name in _PUBLIC_MEMBERS if name in entry})
    except (JoseError, ValueError):
        return
    if isinstance(key, RSAKey) and not _MIN_RSA_BITS <= key.public_key.key_size <= _MOST_RSA_BITS:
        return
    yield Key(key_id, algorithm if isinstance(algorithm, str) else "?", key)


def _is_strong(entry: Mapping[str, Any]) -> bool:
    """Return whether the text of an RSA key has a size that is worth decoding: the library warns of weak ones."""
    modulus = entry.get("n", "")
    return entry["kty"] != "RSA" or (
        isinstance(modulus, str) and _MIN_RSA_BITS <= len(modulus) * 6 <= 2 * _MOST_RSA_BITS
    )
