"""Only the token that the provider has signed for this sign-in is accepted; a corpus of others is refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from discue.dashboard.users.id_token import ALGORITHMS, Expected, TokenInvalid, decode_keys, key_id_of, verify
from tests.support.id_tokens import PrivateKey, ec_key, ed_key, encoded, jwk_of, key_set, rsa_key, signed

NOW = 1_800_000_000
EXPECTED = Expected("https://id.example.com", "discue", "n-0S6_WzA2Mj", ALGORITHMS)
HEADER = {"alg": "RS256", "kid": "one", "typ": "JWT"}
CLAIMS: dict[str, Any] = {
    "iss": "https://id.example.com",
    "sub": "248289761001",
    "aud": "discue",
    "nonce": "n-0S6_WzA2Mj",
    "exp": NOW + 300,
    "iat": NOW,
}
KEYS = decode_keys(key_set(jwk_of(rsa_key(), "one")))


def claims(token: str, expected: Expected = EXPECTED) -> dict[str, Any]:
    return verify(token, KEYS, expected, NOW * 1_000)


@pytest.mark.parametrize(
    ("algorithm", "key"), [("RS256", rsa_key()), ("PS256", rsa_key()), ("ES256", ec_key()), ("EdDSA", ed_key())]
)
def test_token_of_each_kind_of_key_is_accepted(algorithm: str, key: PrivateKey) -> None:
    token = signed({"alg": algorithm, "kid": "a"}, CLAIMS, key)
    keys = decode_keys(key_set(jwk_of(rsa_key(1), "b"), jwk_of(key, "a", alg=algorithm)))
    assert verify(token, keys, EXPECTED, NOW * 1_000) == CLAIMS
    for others in (decode_keys(key_set(jwk_of(rsa_key(1), "a"))), decode_keys(key_set(jwk_of(key, "c"))), ()):
        with pytest.raises(TokenInvalid, match="no key"):
            verify(token, others, EXPECTED, NOW * 1_000)


def test_token_without_a_key_id_is_tried_with_each_key() -> None:
    keys = decode_keys(key_set(jwk_of(ec_key(), "x"), jwk_of(rsa_key(1), "y"), jwk_of(rsa_key(), "z")))
    assert verify(signed({"alg": "RS256"}, CLAIMS, rsa_key()), keys, EXPECTED, NOW * 1_000) == CLAIMS


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://id.example.com/"},
        {"iss": "https://evil.example.com"},
        {"iss": None},
        {"aud": "other"},
        {"aud": ["other"]},
        {"aud": ["discue", "other"]},
        {"aud": ["discue", "other"], "azp": "other"},
        {"aud": "discue", "azp": "other"},
        {"aud": None},
        {"aud": {"discue": 1}},
        {"nonce": "n-0S6_WzA2Mk"},
        {"nonce": ""},
        {"nonce": None},
        {"nonce": ["n-0S6_WzA2Mj"]},
        {"sub": ""},
        {"sub": None},
        {"sub": 248289761001},
        {"sub": "x" * 256},
        {"sub": "a\0b"},
        {"exp": NOW - 61},
        {"exp": None},
        {"exp": str(NOW + 300)},
        {"exp": True},
        {"exp": -1},
        {"exp": 1e300},
        {"iat": NOW + 120},
        {"iat": NOW - 601},
        {"iat": None},
        {"nbf": NOW + 120},
        {"nbf": "0"},
    ],
    ids=str,
)
def test_signed_token_for_something_else_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(TokenInvalid):
        claims(signed(HEADER, CLAIMS | changes, rsa_key()))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["discue"]},
        {"aud": ["discue", "other"], "azp": "discue"},
        {"exp": NOW - 59},
        {"exp": NOW + 0.5},
        {"iat": NOW + 59},
        {"nbf": NOW - 5},
        {"email": "ada@example.com"},
    ],
    ids=str,
)
def test_unusual_but_valid_token_is_accepted(changes: dict[str, Any]) -> None:
    assert claims(signed(HEADER, CLAIMS | changes, rsa_key())) == CLAIMS | changes


def _pem() -> bytes:
    return rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _parts(token: str) -> list[str]:
    return token.split(".")


GOOD = signed(HEADER, CLAIMS, rsa_key())
FORGED: dict[str, Callable[[], str]] = {
    "unsigned": lambda: f"{encoded({'alg': 'none'})}.{encoded(CLAIMS)}.",
    "unsigned in capitals": lambda: f"{encoded({'alg': 'NONE'})}.{encoded(CLAIMS)}.",
    "unsigned with a signature": lambda: f"{encoded({'alg': 'none'})}.{encoded(CLAIMS)}.{_parts(GOOD)[2]}",
    "no signature": lambda: f"{_parts(GOOD)[0]}.{_parts(GOOD)[1]}.",
    "public key as shared secret": lambda: signed({"alg": "HS256", "kid": "one"}, CLAIMS, _pem()),
    "client secret as shared secret": lambda: signed({"alg": "HS256", "kid": "one"}, CLAIMS, b"secret"),
    "own key in the header": lambda: signed(HEADER | {"jwk": jwk_of(rsa_key(1), "one")}, CLAIMS, rsa_key(1)),
    "own key by URL": lambda: signed(HEADER | {"jku": "https://evil.example.com/keys"}, CLAIMS, rsa_key(1)),
    "key of another type": lambda: signed({"alg": "ES256", "kid": "one"}, CLAIMS, ec_key()),
    "algorithm that is a list": lambda: f"{encoded({'alg': ['RS256']})}.{encoded(CLAIMS)}.{_parts(GOOD)[2]}",
    "no algorithm": lambda: f"{encoded({'kid': 'one'})}.{encoded(CLAIMS)}.{_parts(GOOD)[2]}",
    "critical extension": lambda: signed(HEADER | {"crit": ["exp"]}, CLAIMS, rsa_key()),
    "changed claims": lambda: f"{_parts(GOOD)[0]}.{encoded(CLAIMS | {'sub': '1'})}.{_parts(GOOD)[2]}",
    "changed header": lambda: f"{encoded(HEADER | {'typ': 'at+jwt'})}.{_parts(GOOD)[1]}.{_parts(GOOD)[2]}",
    "other alphabet": lambda: GOOD.replace(_parts(GOOD)[2], f"+/{_parts(GOOD)[2][2:]}"),
    "padding": lambda: f"{GOOD}==",
    "white space": lambda: f"{GOOD}\n",
    "two parts": lambda: ".".join(_parts(GOOD)[:2]),
    "four parts": lambda: f"{GOOD}.{_parts(GOOD)[2]}",
    "five parts": lambda: f"{GOOD}.a.a",
    "empty": lambda: "",
    "dots": lambda: "..",
    "long": lambda: "a" * 1_000_000,
    "not ASCII": lambda: GOOD.replace("e", "е", 1),
    "surrogate": lambda: f"{GOOD}\ud800",
    "header that is no object": lambda: f"{encoded(b'[]')}.{_parts(GOOD)[1]}.{_parts(GOOD)[2]}",
    "header that is no JSON": lambda: f"{encoded(b'{')}.{_parts(GOOD)[1]}.{_parts(GOOD)[2]}",
    "deep header": lambda: f"{encoded(b'[' * 9_000)}.{_parts(GOOD)[1]}.{_parts(GOOD)[2]}",
    "claims that are no object": lambda: signed(HEADER, b'"x"', rsa_key()),
    "claims with a member twice": lambda: signed(
        HEADER, json.dumps(CLAIMS).replace("{", '{"sub": "1", ', 1).encode(), rsa_key()
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_or_malformed_token_is_refused(name: str) -> None:
    assert claims(GOOD) == CLAIMS
    with pytest.raises(TokenInvalid) as refused:
        claims(FORGED[name]())
    assert CLAIMS["sub"] not in str(refused.value)


def test_algorithm_that_the_provider_does_not_use_is_refused() -> None:
    with pytest.raises(TokenInvalid, match="algorithm"):
        claims(GOOD, Expected(EXPECTED.issuer, EXPECTED.client_id, EXPECTED.nonce, ("ES256",)))


@pytest.mark.parametrize("forbidden", ["none", "HS256", "HS384", "HS512", "dir", "RSA1_5"])
def test_no_algorithm_without_a_key_pair_is_implemented(forbidden: str) -> None:
    assert forbidden not in ALGORITHMS
    token = signed({"alg": forbidden, "kid": "one"}, CLAIMS, b"secret")
    with pytest.raises(TokenInvalid):
        claims(token, Expected(EXPECTED.issuer, EXPECTED.client_id, EXPECTED.nonce, (forbidden,)))


@pytest.mark.parametrize(
    "entry",
    [
        jwk_of(rsa_key(), "one", use="enc"),
        jwk_of(rsa_key(2, 1_024), "one"),
        {"kty": "oct", "kid": "one", "k": "c2VjcmV0"},
        {"kty": "RSA", "kid": "one", "n": "AQ", "e": "AQAB"},
        {"kty": "RSA", "kid": "one", "n": jwk_of(rsa_key(), "")["n"]},
        {"kty": "RSA", "kid": "one", "n": 5, "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "kid": "one", "x": "AQ", "y": "AQ"},
        {"kty": "EC", "crv": "P-521", "kid": "one", "x": "AQ", "y": "AQ"},
        {"kty": "OKP", "crv": "Ed25519", "kid": "one", "x": "AQ"},
        {"kty": "OKP", "crv": "X25519", "kid": "one", "x": "AQ"},
        {"kid": "one"},
        jwk_of(rsa_key(), "one") | {"kid": 1},
    ],
    ids=lambda entry: f"{entry.get('kty')} {entry.get('crv', '')} {entry.get('use', '')} {len(str(entry))}",
)
def test_unusable_key_is_ignored(entry: dict[str, Any]) -> None:
    assert decode_keys(key_set(entry, jwk_of(rsa_key(), "two")))[0].id == "two"
    assert len(decode_keys(key_set(entry))) == 0


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys": {}}', b"<html>", b"\xff"])
def test_document_that_is_no_key_set_is_refused(document: bytes) -> None:
    with pytest.raises(TokenInvalid):
        decode_keys(document)


def test_key_for_one_algorithm_verifies_no_other() -> None:
    keys = decode_keys(key_set(jwk_of(rsa_key(), "one", alg="PS256")))
    with pytest.raises(TokenInvalid, match="no key"):
        verify(GOOD, keys, EXPECTED, NOW * 1_000)


def test_key_id_is_read_without_trust() -> None:
    assert key_id_of(GOOD) == "one"
    assert key_id_of(signed({"alg": "RS256"}, CLAIMS, rsa_key())) == ""
    with pytest.raises(TokenInvalid):
        key_id_of("x")
