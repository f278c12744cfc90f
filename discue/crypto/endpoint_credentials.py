"""How the service shows a listener who it is: what of that is acceptable, and how it is kept with signing secrets."""

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, get_args

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from discue.crypto.signing_secrets import SigningSecret
from discue.domain.egress import parse_target
from discue.domain.errors import BadRequest, Fault, Unprocessable
from discue.domain.model import Authentication, AuthenticationType

TYPES: Final[tuple[AuthenticationType, ...]] = get_args(AuthenticationType)
LONGEST_USERNAME: Final = 255
LONGEST_SECRET: Final = 1_024
LONGEST_PEM: Final = 16_384
MOST_CERTIFICATES: Final = 10
SMALLEST_RSA_BITS: Final = 2_048

_NAME_CHARACTERS: Final = 16
_KEYS: Final = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_SCOPE: Final = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")

_SECRET_OF: Final[Mapping[AuthenticationType, str]] = {
    "basic": "password",
    "oauth2": "client_secret",
    "certificate": "private_key",
}
_NEEDED: Final[Mapping[AuthenticationType, tuple[str, ...]]] = {
    "basic": ("username",),
    "oauth2": ("token_url", "client_id"),
    "certificate": ("certificate",),
}
_OPTIONAL: Final[Mapping[AuthenticationType, tuple[str, ...]]] = {
    "basic": (),
    "oauth2": ("scope", "audience"),
    "certificate": (),
}


class Credentials(msgspec.Struct, frozen=True):
    """`public` with what is secret of it: the password, the client's secret, or the private key."""

    public: Authentication
    secret: str

    def __repr__(self) -> str:
        return f"Credentials(type={self.public.type!r})"

    @property
    def name(self) -> str:
        """The same for the same credentials alone, and nothing that tells them."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:_NAME_CHARACTERS]


class AuthenticationFields(msgspec.Struct, frozen=True):
    """What a request says of them."""

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

    def __repr__(self) -> str:
        return f"AuthenticationFields(type={self.type!r})"


class _Held(msgspec.Struct, frozen=True):
    """What is sealed together."""

    signing: tuple[SigningSecret, ...]
    credentials: Credentials | None = None


_decode = msgspec.json.Decoder(_Held | list[Any]).decode


def held_with(secrets: Sequence[SigningSecret], credentials: Credentials | None) -> bytes:
    """Signing secrets and credentials as they are kept: one text, that of the secrets alone where there is no more."""
    return msgspec.json.encode(secrets if credentials is None else _Held(tuple(secrets), credentials))


def credentials_in(content: bytes) -> Credentials | None:
    """Raises ValueError for what cannot be read, and never repeats it."""
    try:
        held = _decode(content)
    except ValueError:
        raise ValueError("the credentials cannot be read") from None
    return held.credentials if isinstance(held, _Held) else None


def is_same(stored: Authentication | None, fields: AuthenticationFields) -> bool:
    """Whether a request gives back what it was shown, which has no secret: then nothing is to change."""
    if stored is None or any(getattr(fields, name) is not None for name in _SECRET_OF.values()):
        return False
    shown = [getattr(stored, name) or None for name in msgspec.structs.asdict(stored)]
    return shown == [getattr(fields, name) for name in msgspec.structs.asdict(stored)]


def checked(fields: AuthenticationFields, now: int) -> Credentials:
    """Raises BadRequest for what is missing, Unprocessable for what cannot be used; both name the field."""
    kind = next((known for known in TYPES if known == fields.type), None)
    if kind is None:
        raise _unfit("type", f"must be one of {', '.join(TYPES)}")
    secret = _SECRET_OF[kind]
    own = (*_NEEDED[kind], secret, *_OPTIONAL[kind])
    given = {name: value for name, value in msgspec.structs.asdict(fields).items() if value is not None}
    for name in given:
        if name not in (*own, "type"):
            raise _unfit(name, f"does not belong to the type {kind}")
    for name in (*_NEEDED[kind], secret):
        if name not in given:
            raise BadRequest(
                f"The field {name} of the authentication is missing.", faults=(Fault(_place(name), "is missing"),)
            )
    for name in own:
        if name in given and (rule := _RULES[name](given[name])):
            raise _unfit(name, rule)
    if kind == "certificate":
        _check_pair(given["certificate"], given["private_key"], now)
    public = {name: value for name, value in given.items() if name != secret}
    return Credentials(msgspec.convert(public, Authentication), given[secret])


def basic_authorization(username: str, password: str) -> str:
    """The value of the header (RFC 7617)."""
    return "Basic " + b64encode(f"{username}:{password}".encode()).decode()


def _text(longest: int) -> Callable[[str], str]:
    def broken(value: str) -> str:
        if not 1 <= len(value) <= longest:
            return f"must have 1 to {longest:,} characters"
        return "must have no control characters" if _CONTROL.search(value) else ""

    return broken


def _username(value: str) -> str:
    return "must have no colon" if ":" in value else _text(LONGEST_USERNAME)(value)


def _url(value: str) -> str:
    parse_target(value, _place("token_url"))
    return ""


def _scope(value: str) -> str:
    is_one = _SCOPE.fullmatch(value) is not None and len(value) <= LONGEST_SECRET
    return "" if is_one else f"must be words of visible ASCII, of at most {LONGEST_SECRET:,} characters"


def _pem(value: str) -> str:
    return "" if len(value) <= LONGEST_PEM else f"must have at most {LONGEST_PEM:,} characters"


_RULES: Final[Mapping[str, Callable[[str], str]]] = {
    "username": _username,
    "password": _text(LONGEST_SECRET),
    "token_url": _url,
    "client_id": _text(LONGEST_SECRET),
    "client_secret": _text(LONGEST_SECRET),
    "scope": _scope,
    "audience": _text(LONGEST_SECRET),
    "certificate": _pem,
    "private_key": _pem,
}


def _check_pair(certificate: str, private_key: str, now: int) -> None:
    """A chain of certificates, of which the first is the key's. What is wrong with a key is not told in detail."""
    try:
        chain = x509.load_pem_x509_certificates(certificate.encode())
        owners = chain[0].public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise _unfit("certificate", "must be a certificate in PEM, and those that lead to its issuer") from None
    if len(chain) > MOST_CERTIFICATES:
        raise _unfit("certificate", f"must be at most {MOST_CERTIFICATES} certificates")
    if chain[0].not_valid_after_utc.timestamp() * 1_000 <= now:
        raise _unfit("certificate", "has expired")
    try:
        key = load_pem_private_key(private_key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _unfit("private_key", "must be a private key in PEM, without a password") from None
    if not isinstance(key, _KEYS):
        raise _unfit("private_key", "must be of RSA, of an elliptic curve, Ed25519 or Ed448")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < SMALLEST_RSA_BITS:
        raise _unfit("private_key", f"must have {SMALLEST_RSA_BITS} bits at least")
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != owners.public_bytes(*form):
        raise _unfit("private_key", "is not the key of the (first) certificate")


def _place(name: str) -> str:
    return f"/authentication/{name}"


def _unfit(name: str, rule: str) -> Unprocessable:
    return Unprocessable(f"The field {name} of the authentication {rule}.", faults=(Fault(_place(name), rule),))
