"""Providers of webhooks: how each signs a request, and where it puts the type and the id of the event."""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, Protocol, get_args

import msgspec

from discue.domain.errors import Unauthorized
from discue.domain.event_types import is_type
from discue.domain.headers import MAX_CHARACTERS, MAX_HEADERS, Headers, is_header_allowed, is_name_allowed

ProviderName = Literal["stripe", "github", "shopify", "standard-webhooks", "hmac"]
PROVIDERS: Final[tuple[ProviderName, ...]] = get_args(ProviderName)
DISPLAY_NAMES: Final[Mapping[str, str]] = {
    "stripe": "Stripe",
    "github": "GitHub",
    "shopify": "Shopify",
    "standard-webhooks": "Standard Webhooks",
    "hmac": "HMAC",
}
Algorithm = Literal["sha256", "sha1", "sha512"]
ALGORITHMS: Final[tuple[Algorithm, ...]] = get_args(Algorithm)
Encoding = Literal["hex", "base64"]
ENCODINGS: Final[tuple[Encoding, ...]] = get_args(Encoding)

TOLERANCE_SECONDS: Final = 300
"""How far a signed timestamp may be from the current time."""
REMEMBERED_MS: Final = 7 * 86_400_000
"""How long the id of an event is remembered."""

RENAMED: Final = "source-"
"""Prefix of stored headers whose own names messages cannot have, such as `webhook-id`."""

_MOST_TIMESTAMP_DIGITS: Final = 12
_MOST_PARTS: Final = 32
"""Parts of a header with signatures that are read: while secrets are replaced, providers send a few signatures."""


class HmacOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a service that is not in the table signs its requests."""

    header: str
    """The header with the signature."""
    algorithm: Algorithm = "sha256"
    encoding: Encoding = "hex"
    prefix: str = ""
    """The text before the signature in the header."""
    timestamp_header: str | None = None
    """The header with the Unix time in seconds. With it, the signature covers the time, a dot and the body."""
    id_header: str | None = None
    """The header that identifies the event. It is not signed."""


class WebhookProvider(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider signs its requests. The names of headers are in lower case."""

    header: str
    """The header with the signatures."""
    separator: str = ""
    """Separates the parts of the header; empty if it has only one signature."""
    prefix: str = ""
    """The start of each signature. Other parts of the header are ignored."""
    algorithm: Algorithm = "sha256"
    encoding: Encoding = "hex"
    timestamp_header: str = ""
    """The header with the signed time in seconds."""
    timestamp_prefix: str = ""
    """The start of the signed time, if it is a part of the header with the signatures."""
    id_header: str = ""
    """The header with the id of the event; if empty, the member `id` of the body has it, if `has_id_member`."""
    has_id_member: bool = False
    signs_id: bool = False
    """Whether the signature covers the header with the id."""
    type_header: str = ""
    """The header with the type of the event; if empty, the member `type` of the body has it."""
    kept: tuple[str, ...] = ()
    """Prefixes of the names of other headers that are stored with the message."""
    key_of: Callable[[str], bytes] = str.encode
    """Returns the HMAC key of a secret. Raises ValueError for a malformed secret."""

    @property
    def has_timestamp(self) -> bool:
        return bool(self.timestamp_header or self.timestamp_prefix)


def _base64_key(secret: str) -> bytes:
    key = b64decode(secret.removeprefix("whsec_"), validate=True)
    if not key:
        raise ValueError("the secret is empty")
    return key


_TABLE: Final[Mapping[str, WebhookProvider]] = {
    "stripe": WebhookProvider(
        header="stripe-signature", separator=",", prefix="v1=", timestamp_prefix="t=", has_id_member=True
    ),
    "github": WebhookProvider(
        header="x-hub-signature-256",
        prefix="sha256=",
        id_header="x-github-delivery",
        type_header="x-github-event",
        kept=("x-github-", "x-hub-"),
    ),
    "shopify": WebhookProvider(
        header="x-shopify-hmac-sha256",
        encoding="base64",
        id_header="x-shopify-webhook-id",
        type_header="x-shopify-topic",
        kept=("x-shopify-",),
    ),
    "standard-webhooks": WebhookProvider(
        header="webhook-signature",
        separator=" ",
        prefix="v1,",
        encoding="base64",
        timestamp_header="webhook-timestamp",
        id_header="webhook-id",
        signs_id=True,
        key_of=_base64_key,
    ),
}


def provider_of(name: str, options: HmacOptions | None) -> WebhookProvider:
    """Return the provider with a name. `options` are those of `hmac`."""
    if options is None:
        return _TABLE[name]
    return WebhookProvider(
        header=options.header.lower(),
        prefix=options.prefix,
        algorithm=options.algorithm,
        encoding=options.encoding,
        timestamp_header=(options.timestamp_header or "").lower(),
        id_header=(options.id_header or "").lower(),
    )


class RequestHeaders(Protocol):
    """The headers of a request, by names in lower case."""

    def get(self, name: str, default: str, /) -> str: ...


class ReceivedEvent(NamedTuple):
    """The event of a verified request."""

    id: str
    """Empty if the provider does not identify its events."""
    type: str | None
    """None if it is missing, or not valid as the type of a message."""


class _Members(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw()
    type: msgspec.Raw = msgspec.Raw()


_read_members = msgspec.json.Decoder(_Members).decode
_read_text = msgspec.json.Decoder(str).decode


def verify(
    provider: WebhookProvider, secrets: Sequence[str], headers: RequestHeaders, body: bytes, *, now: int
) -> ReceivedEvent:
    """Return the event of a request that was signed with one of the secrets. `now` is in milliseconds.

    Raises Unauthorized, with the reason as its code.
    """
    signatures, timestamp = _signatures(provider, headers)
    event_id = _value(headers, provider.id_header)
    if provider.signs_id and not event_id:
        raise _unsigned(provider.id_header)
    # Checked before any hash is computed, so that stale requests cost little.
    if provider.has_timestamp and abs(now - int(timestamp) * 1_000) > TOLERANCE_SECONDS * 1_000:
        raise Unauthorized(
            f"The signed time {timestamp} is more than {TOLERANCE_SECONDS} s from the current time.",
            code="signature_stale",
        )
    signed = _signed(provider, event_id, timestamp, body)
    # Constant time: a comparison must not reveal how much of a forged signature is right. All secrets are tried.
    matches = [
        hmac.compare_digest(expected, signature)
        for expected in [signature_of(provider, secret, signed).encode() for secret in secrets]
        for signature in signatures
    ]
    if not any(matches):
        raise Unauthorized(code="signature_wrong")
    members = _members(body) if not provider.type_header else _Members()
    name = _value(headers, provider.type_header) or _text(members.type)
    return ReceivedEvent(
        event_id or (_text(members.id) if provider.has_id_member else ""), name if is_type(name) else None
    )


def signature_of(provider: WebhookProvider, secret: str, signed: bytes) -> str:
    """Return the signature, without its prefix. Raises ValueError if the secret is invalid."""
    digest = hmac.digest(provider.key_of(secret), signed, provider.algorithm)
    return digest.hex() if provider.encoding == "hex" else b64encode(digest).decode("ascii")


def signed_headers(
    provider: WebhookProvider, secret: str, body: bytes, *, event_id: str, event_type: str, timestamp: int
) -> dict[str, str]:
    """Return the headers with which the provider sends a request. `timestamp` is in seconds.

    Raises ValueError if the secret is invalid.
    """
    at = str(timestamp) if provider.has_timestamp else ""
    signature = provider.prefix + signature_of(provider, secret, _signed(provider, event_id, at, body))
    if provider.timestamp_prefix:
        signature = f"{provider.timestamp_prefix}{at}{provider.separator}{signature}"
    headers = {provider.header: signature}
    others = {provider.timestamp_header: at, provider.id_header: event_id, provider.type_header: event_type}
    return headers | {name: value for name, value in others.items() if name}


def headers_to_keep(provider: WebhookProvider, headers: Iterable[tuple[str, str]]) -> Headers:
    """Return the provider's headers, as many as a message can have. With them, the message can be verified again."""
    own = {provider.header, provider.timestamp_header, provider.id_header, provider.type_header}
    found: list[tuple[str, str]] = []
    size = 0
    # The headers that the signature needs come first.
    for name, value in sorted(headers, key=lambda each: each[0] not in own):
        if name not in own and not name.startswith(provider.kept or ("\0",)):
            continue
        stored = name if is_name_allowed(name) else RENAMED + name
        size += len(stored) + len(value)
        if is_header_allowed(stored, value) and size <= MAX_CHARACTERS and len(found) < MAX_HEADERS:
            found.append((stored, value))
    return tuple(found)


def _signed(provider: WebhookProvider, event_id: str, timestamp: str, body: bytes) -> bytes:
    parts = [event_id] * provider.signs_id + [timestamp] * provider.has_timestamp
    return b".".join([*(part.encode() for part in parts), body]) if parts else body


def _signatures(provider: WebhookProvider, headers: RequestHeaders) -> tuple[list[bytes], str]:
    """Return the signatures of a request and its signed time. Raises Unauthorized if one of them is missing."""
    given = _value(headers, provider.header)
    parts = given.split(provider.separator, _MOST_PARTS)[:_MOST_PARTS] if provider.separator else [given]
    parts = [part.strip() for part in parts]
    signatures = [part.removeprefix(provider.prefix) for part in parts if part.startswith(provider.prefix)]
    if provider.encoding == "hex":
        signatures = [signature.lower() for signature in signatures]
    if not any(signatures):
        raise _unsigned(provider.header)
    timestamp = _value(headers, provider.timestamp_header)
    if provider.timestamp_prefix:
        times = (part for part in parts if part.startswith(provider.timestamp_prefix))
        timestamp = next(times, "").removeprefix(provider.timestamp_prefix)
    if provider.has_timestamp and not (timestamp.isdecimal() and len(timestamp) <= _MOST_TIMESTAMP_DIGITS):
        raise _unsigned(provider.timestamp_header or provider.header)
    return [signature.encode() for signature in signatures], timestamp


def _value(headers: RequestHeaders, name: str) -> str:
    return headers.get(name, "") if name else ""


def _members(body: bytes) -> _Members:
    """Return the members of a body that is a JSON object."""
    try:
        return _read_members(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Members()


def _text(value: msgspec.Raw) -> str:
    content = bytes(value)
    if not content.startswith(b'"'):
        return ""
    try:
        return _read_text(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _unsigned(header: str) -> Unauthorized:
    return Unauthorized(f"The header {header} is missing or malformed.", code="signature_missing")
