"""Credentials for requests to a listener: their validation, and their storage together with signing secrets."""

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Final, get_args
from urllib.parse import quote_plus

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from discue.crypto.signing import SigningSecret
from discue.domain.egress import parse_target
from discue.domain.errors import Unprocessable, invalid, missing_field
from discue.domain.model import Authentication, AuthenticationType
from discue.domain.representation import shows

TYPES: Final[tuple[AuthenticationType, ...]] = get_args(AuthenticationType)
MAX_USERNAME_CHARACTERS: Final = 255
MAX_SECRET_CHARACTERS: Final = 1_024
MAX_PEM_CHARACTERS: Final = 16_384
MAX_CERTIFICATES: Final = 10
MIN_RSA_BITS: Final = 2_048

_NAME_CHARACTERS: Final = 16
_KEYS: Final = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_SCOPE: Final = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")

SECRET_FIELDS: Final[Mapping[AuthenticationType, str]] = {
    "basic": "password",
    "oauth2": "client_secret",
    "certificate": "private_key",
}
"""The field with the secret of each type."""
_REQUIRED: Final[Mapping[AuthenticationType, tuple[str, ...]]] = {
    "basic": ("username",),
    "oauth2": ("token_url", "client_id"),
    "certificate": ("certificate",),
}
_OPTIONAL: Final[Mapping[AuthenticationType, tuple[str, ...]]] = {"oauth2": ("scope", "audience")}


class Credentials(msgspec.Struct, frozen=True):
    """Credentials with their secret."""

    public: Authentication
    secret: str
    """The password, the client secret, or the private key."""

    def __repr__(self) -> str:
        return f"Credentials(type={self.public.type!r})"

    @property
    def name(self) -> str:
        """Identifier that is equal for equal credentials and does not reveal them."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:_NAME_CHARACTERS]


@shows("type")
class AuthenticationFields(msgspec.Struct, frozen=True):
    """The field `authentication` of a request."""

    type: str
    username: str | None = None
    password: str | None = None
    token_url: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    scope: str | None = None
    audience: str | None = None
    certificate: str | None = None
    private_key: str | None = None


class ListenerSecrets(msgspec.Struct, frozen=True):
    """The secrets of a listener, which are stored together."""

    signing: tuple[SigningSecret, ...] = ()
    credentials: Credentials | None = None


_decode = msgspec.json.Decoder(ListenerSecrets | tuple[SigningSecret, ...]).decode


def encode_secrets(secrets: ListenerSecrets) -> bytes:
    """Return the stored form of secrets. Without credentials, it is a list of the signing secrets."""
    return msgspec.json.encode(secrets.signing if secrets.credentials is None else secrets)


def decode_secrets(content: bytes) -> ListenerSecrets:
    """Decode stored secrets. Raises ValueError if the content is invalid; the message does not contain it."""
    try:
        stored = _decode(content)
    except ValueError:
        raise ValueError("the secrets cannot be decoded") from None
    return stored if isinstance(stored, ListenerSecrets) else ListenerSecrets(stored)


def is_unchanged(stored: Authentication | None, fields: AuthenticationFields) -> bool:
    """Return whether a request repeats the stored values without a secret, as a response shows them."""
    # A secret may be a new one: only its absence shows that the client sends back what it was shown.
    if stored is None or any(getattr(fields, name) is not None for name in SECRET_FIELDS.values()):
        return False
    shown = [getattr(stored, name) or None for name in msgspec.structs.asdict(stored)]
    return shown == [getattr(fields, name) for name in msgspec.structs.asdict(stored)]


def fields_of_type(kind: AuthenticationType) -> tuple[str, ...]:
    """Return the fields of a type, also those that can be left out."""
    return (*_REQUIRED[kind], SECRET_FIELDS[kind], *_OPTIONAL.get(kind, ()))


def parse_credentials(fields: AuthenticationFields, now: int) -> Credentials:
    """Return valid credentials. Raises BadRequest for a missing field and Unprocessable for an invalid one."""
    kind = next((known for known in TYPES if known == fields.type), None)
    if kind is None:
        raise _invalid_field("type", f"must be one of {', '.join(TYPES)}")
    secret, own = SECRET_FIELDS[kind], fields_of_type(kind)
    given = {name: value for name, value in msgspec.structs.asdict(fields).items() if value is not None}
    # Unknown fields first: a client that chose the wrong type gets that error, and not one about a missing field.
    for name in given:
        if name not in (*own, "type"):
            raise invalid(_pointer(name), f"is not a field of the type {kind}", code="conflicting_fields")
    for name in (*_REQUIRED[kind], secret):
        if name not in given:
            raise missing_field(_pointer(name))
    for name in own:
        if name in given and (rule := _RULES[name](given[name])):
            raise _invalid_field(name, rule)
    if kind == "certificate":
        _check_pair(given["certificate"], given["private_key"], now)
    public = {name: value for name, value in given.items() if name != secret}
    return Credentials(msgspec.convert(public, Authentication), given[secret])


def basic_authorization(username: str, password: str) -> str:
    """Return the value of the Authorization header (RFC 7617)."""
    return "Basic " + b64encode(f"{username}:{password}".encode()).decode()


def client_authorization(client_id: str, secret: str) -> str:
    """Return the value of the Authorization header by which a client of OAuth identifies itself (RFC 6749, 2.3.1)."""
    # Both are form-encoded first.
    return basic_authorization(quote_plus(client_id), quote_plus(secret))


def _text(max_characters: int) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not 1 <= len(value) <= max_characters:
            return f"must have 1 to {max_characters:,} characters"
        return "must have no control characters" if _CONTROL.search(value) else ""

    return check


def _url(value: str) -> str:
    parse_target(value, _pointer("token_url"))
    return ""


def _scope(value: str) -> str:
    if _SCOPE.fullmatch(value) is not None and len(value) <= MAX_SECRET_CHARACTERS:
        return ""
    return f"must be words of visible ASCII characters, at most {MAX_SECRET_CHARACTERS:,} characters"


def _pem(value: str) -> str:
    return "" if len(value) <= MAX_PEM_CHARACTERS else f"must have at most {MAX_PEM_CHARACTERS:,} characters"


_RULES: Final[Mapping[str, Callable[[str], str]]] = {
    "username": lambda value: "must have no colon" if ":" in value else _text(MAX_USERNAME_CHARACTERS)(value),
    "password": _text(MAX_SECRET_CHARACTERS),
    "token_url": _url,
    "client_id": _text(MAX_SECRET_CHARACTERS),
    "client_secret": _text(MAX_SECRET_CHARACTERS),
    "scope": _scope,
    "audience": _text(MAX_SECRET_CHARACTERS),
    "certificate": _pem,
    "private_key": _pem,
}


def _check_pair(certificate: str, private_key: str, now: int) -> None:
    """Check that the first certificate of the chain belongs to the key. Errors do not reveal details of the key."""
    try:
        chain = x509.load_pem_x509_certificates(certificate.encode())
        public_key = chain[0].public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise _invalid_field(
            "certificate", "must be a PEM certificate, followed by its intermediate certificates"
        ) from None
    if len(chain) > MAX_CERTIFICATES:
        raise _invalid_field("certificate", f"must have at most {MAX_CERTIFICATES} certificates")
    if chain[0].not_valid_after_utc.timestamp() * 1_000 <= now:
        raise _invalid_field("certificate", "has expired")
    try:
        key = load_pem_private_key(private_key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _invalid_field("private_key", "must be an unencrypted PEM private key") from None
    if not isinstance(key, _KEYS):
        raise _invalid_field("private_key", "must be an RSA, elliptic curve, Ed25519 or Ed448 key")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < MIN_RSA_BITS:
        raise _invalid_field("private_key", f"must have at least {MIN_RSA_BITS} bits")
    # Compare the encoded public keys: the key classes have no equality across types.
    der = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*der) != public_key.public_bytes(*der):
        raise _invalid_field("private_key", "does not belong to the first certificate")


def _pointer(name: str) -> str:
    return f"/authentication/{name}"


def _invalid_field(name: str, rule: str) -> Unprocessable:
    return invalid(_pointer(name), rule)
