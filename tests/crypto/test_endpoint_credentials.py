"""Credentials for requests to listeners: validation and storage."""

from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from discue.crypto.endpoint_credentials import (
    MAX_SECRET_CHARACTERS,
    AuthenticationFields,
    Credentials,
    ListenerSecrets,
    basic_authorization,
    decode_secrets,
    encode_secrets,
    is_unchanged,
    parse_credentials,
)
from discue.crypto.signing import SigningSecret
from discue.domain.errors import BadRequest, DiscueError, Unprocessable
from discue.domain.model import Authentication
from discue.sending.endpoint_auth import credentials_of
from tests.support.authority import client_pair

NOW = 1_800_000_000_000
BASIC = {"type": "basic", "username": "ada", "password": "s3cr3t:é"}
OAUTH2 = {
    "type": "oauth2",
    "token_url": "https://login.example.com/token",
    "client_id": "ada",
    "client_secret": "s3cr3t",
}
SECRETS = (SigningSecret("whsec_a", "1"), SigningSecret("whsec_b", "2", created_at=5))


def pair() -> dict[str, str]:
    """Return a certificate and its key."""
    certificate, private_key = client_pair()
    return {"certificate": certificate, "private_key": private_key}


def fields(**given: Any) -> AuthenticationFields:
    return AuthenticationFields(**given)


def pointer_of(error: DiscueError) -> str:
    [fault] = error.faults
    return fault.pointer


@pytest.mark.parametrize("given", [BASIC, OAUTH2, {**OAUTH2, "scope": "a:b c", "audience": "orders"}])
def test_secret_is_separate_from_the_public_fields(given: dict[str, Any]) -> None:
    made = parse_credentials(fields(**given), NOW)
    assert made.secret.startswith("s3cr3t")
    assert made.public == Authentication(**{name: value for name, value in given.items() if not value.startswith("s3")})
    assert "s3cr3t" not in repr(made.public) + repr(made) + repr(fields(**given)) + repr(credentials_of(made, "l" * 21))


def test_certificate_requires_its_key() -> None:
    made = parse_credentials(fields(type="certificate", **pair()), NOW)
    assert (made.public.certificate, made.secret) == (pair()["certificate"], pair()["private_key"])
    assert "PRIVATE" not in repr(made) + repr(credentials_of(made, "l" * 21))


@pytest.mark.parametrize("given", [BASIC, OAUTH2, {"type": "certificate", "certificate": "c", "private_key": "k"}])
def test_required_fields_of_each_type(given: dict[str, str]) -> None:
    for name in given.keys() - {"type"}:
        with pytest.raises(BadRequest) as refused:
            parse_credentials(fields(**{**given, name: None}), NOW)
        assert pointer_of(refused.value) == f"/authentication/{name}"


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"type": "digest"}, "type"),
        ({**BASIC, "client_id": "x"}, "client_id"),
        ({**OAUTH2, "password": "x"}, "password"),
        ({**BASIC, "username": "a:b"}, "username"),
        ({**BASIC, "username": ""}, "username"),
        ({**BASIC, "username": "x" * 256}, "username"),
        ({**BASIC, "password": "a\r\nb"}, "password"),
        ({**BASIC, "password": "x" * (MAX_SECRET_CHARACTERS + 1)}, "password"),
        ({**OAUTH2, "token_url": "ftp://login.example.com/"}, "token_url"),
        ({**OAUTH2, "token_url": "https://a:b@login.example.com/"}, "token_url"),
        ({**OAUTH2, "client_secret": ""}, "client_secret"),
        ({**OAUTH2, "scope": 'a "b"'}, "scope"),
        ({**OAUTH2, "scope": " a"}, "scope"),
        ({**OAUTH2, "audience": "\x00"}, "audience"),
        ({"type": "certificate", "certificate": "x", "private_key": "y"}, "certificate"),
        ({"type": "certificate", "certificate": "x" * 16_385, "private_key": "y"}, "certificate"),
    ],
)
def test_invalid_field_is_rejected_with_its_pointer(given: dict[str, str], pointer: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        parse_credentials(fields(**given), NOW)
    assert pointer_of(refused.value) == f"/authentication/{pointer}"
    assert "s3cr3t" not in str(refused.value)


def _in_pem(key: Any, *, password: bytes = b"") -> str:
    how = BestAvailableEncryption(password) if password else NoEncryption()
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode())


def test_key_of_another_certificate_is_rejected() -> None:
    own = load_pem_private_key(pair()["private_key"].encode(), None)
    other = trustme.CA().issue_cert("discue@example.com").private_key_pem.bytes().decode()
    short = _in_pem(rsa.generate_private_key(public_exponent=65_537, key_size=1_024))  # noqa: S505 - that is the point
    for key in ("key", pair()["certificate"], other, short, _in_pem(own, password=b"s3cr3t"), other[:-40]):
        with pytest.raises(Unprocessable) as refused:
            parse_credentials(fields(type="certificate", certificate=pair()["certificate"], private_key=key), NOW)
        assert pointer_of(refused.value) == "/authentication/private_key"
        assert "PRIVATE" not in str(refused.value)


def test_expired_certificate_is_rejected() -> None:
    with pytest.raises(Unprocessable) as refused:
        parse_credentials(fields(type="certificate", **pair()), 253_402_300_799_000)
    assert pointer_of(refused.value) == "/authentication/certificate"


def test_fields_as_shown_are_unchanged() -> None:
    stored = parse_credentials(fields(**OAUTH2), NOW).public
    shown = {name: value for name, value in OAUTH2.items() if name != "client_secret"}
    assert is_unchanged(stored, fields(**shown))
    assert not is_unchanged(stored, fields(**OAUTH2))
    assert not is_unchanged(stored, fields(**{**shown, "token_url": "https://evil.example.com/token"}))
    assert not is_unchanged(stored, fields(**{**shown, "scope": "more"}))
    assert not is_unchanged(None, fields(**shown))


texts = st.text(min_size=1, max_size=40)


@given(texts, texts, st.sampled_from(["basic", "oauth2"]))
def test_credentials_are_stored_with_signing_secrets(name: str, secret: str, kind: Any) -> None:
    credentials = Credentials(Authentication(kind, username=name, client_id=name), secret)
    for secrets in (ListenerSecrets(SECRETS, credentials), ListenerSecrets(SECRETS)):
        assert decode_secrets(encode_secrets(secrets)) == secrets


def test_error_about_stored_secrets_does_not_contain_them() -> None:
    with pytest.raises(ValueError, match=r"^the secrets cannot be decoded$"):
        decode_secrets(b'{"signing":[],"credentials":{"secret":"s3cr3t"}}')


@given(texts, texts)
def test_name_identifies_credentials_without_revealing_them(one: str, other: str) -> None:
    names = {
        Credentials(Authentication("basic", username=name), secret).name
        for name in (one, other)
        for secret in (one, other)
    }
    assert len(names) == len({(name, secret) for name in (one, other) for secret in (one, other)})
    assert all(len(name) == 16 for name in names)


def test_basic_authorization_is_utf_8_in_base64() -> None:
    assert basic_authorization("Aladdin", "open sesame") == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert basic_authorization("test", "123\u00a3") == "Basic dGVzdDoxMjPCow=="


def test_request_credentials_of_each_type() -> None:
    listener = "l" * 21
    basic = credentials_of(parse_credentials(fields(**BASIC), NOW), listener)
    assert [name for name, _ in basic.headers] == ["authorization"]
    oauth2 = credentials_of(parse_credentials(fields(**{**OAUTH2, "client_id": "a b", "scope": "x y"}), NOW), listener)
    assert oauth2.grant is not None
    assert oauth2.grant.authorization == basic_authorization("a+b", "s3cr3t")
    assert oauth2.grant.form == b"grant_type=client_credentials&scope=x+y"
    certificate = credentials_of(parse_credentials(fields(type="certificate", **pair()), NOW), listener)
    assert certificate.identity is not None
    assert (oauth2.headers, certificate.headers, certificate.grant) == ((), (), None)
    assert (
        credentials_of(parse_credentials(fields(type="certificate", **pair()), NOW), "m" * 21).identity
        != certificate.identity
    )
    assert credentials_of(None, listener).headers == ()
