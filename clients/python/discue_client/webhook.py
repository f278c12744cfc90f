"""Verification of webhooks: signed requests by which discue, or any sender of Standard Webhooks, delivers messages."""

from __future__ import annotations

import hmac
import os
import re
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast, overload

from discue_client.ed25519 import verifier
from discue_client.errors import ConfigurationError, DiscueError, one_line
from discue_client.responses import Duplicate
from discue_client.webhook_data import DataInvalid, content_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["DataInvalid", "Event", "Reason", "SignatureInvalid", "Webhook"]

T = TypeVar("T")

Headers: TypeAlias = "Mapping[str, str] | Iterable[tuple[str, str]]"
"""Headers as frameworks give them: any mapping, or pairs of names and values."""

SECRET_VARIABLE = "DISCUE_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
MAX_BYTES = 12 * 1024 * 1024
"""Largest body that is verified, unless the program sets another limit. No request of discue is larger."""
TOLERANCE_SECONDS = 300.0

_SECRET, _PUBLIC_KEY, _PRIVATE_KEY = "whsec_", "whpk_", "whsk_"
_SECRET_LENGTHS = range(24, 65)
# With a dot in it, the end of an id could be read as the timestamp, and the timestamp as the start of the body.
_ID = re.compile(r"[!-\-/-~]{1,256}")
_TIMESTAMP = re.compile(r"0|[1-9][0-9]{0,15}")
_MAX_SIGNATURE_CHARACTERS = 4096
_MAX_SIGNATURES = 16
_HMAC, _ED25519 = "v1", "v1a"


class Reason(str, Enum):
    """The reason for which a request was rejected."""

    MISSING = "missing"
    """A header of the signature is missing: the request is not from discue, or a proxy removed the header."""
    MALFORMED = "malformed"
    """A header of the signature has a form that no sender gives it."""
    EXPIRED = "expired"
    """The request was signed too long ago: it was recorded and sent again, or a clock is wrong."""
    EARLY = "early"
    """The request was signed in the future: a clock is wrong."""
    UNKNOWN_VERSION = "unknown_version"
    """All signatures are of kinds that this version does not know."""
    NO_MATCH = "no_match"
    """No signature was made with one of the secrets for this body."""
    TOO_LARGE = "too_large"
    """The body is larger than `max_bytes`."""


class SignatureInvalid(DiscueError):
    """The request must not be trusted. `str()` is one line that says why."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return self.detail

    @property
    def status(self) -> int:
        """The HTTP status to respond with. discue sends the message again later."""
        return 413 if self.reason is Reason.TOO_LARGE else 401


@dataclass(frozen=True)
class Event(Generic[T]):
    """A verified message. The signature covers `id`, `timestamp` and `body`, not the other headers."""

    id: str
    """The message's id, the same on every attempt, redelivery and replay."""
    data: T
    timestamp: datetime
    """When this attempt was signed."""
    attributes: Mapping[str, str]
    """The attributes of a CloudEvent, such as `type`; empty for other messages."""
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    """All headers of the request. Names are in lower case."""

    @property
    def attempt(self) -> int:
        """Number of the attempt, from 1."""
        text = self.headers.get("discue-attempt", "")
        return int(text) if _TIMESTAMP.fullmatch(text) else 1

    @property
    def type(self) -> str | None:
        """Type of the event, such as `order.paid`; None without one. The signature does not cover it."""
        return self.headers.get("discue-type")

    @property
    def sequence(self) -> int | None:
        """Place of the message in its queue, higher than that of every earlier message; None if it is not in a queue.

        The signature does not cover it.
        """
        text = self.headers.get("discue-sequence", "")
        return int(text) if _TIMESTAMP.fullmatch(text) else None

    @property
    def is_test(self) -> bool:
        """Whether this is a test request, not a message."""
        return self.headers.get("discue-test") == "true"

    @property
    def deduplication_key(self) -> str:
        """The text to store under a unique constraint: the id; on the requests of a replay, with the replay's id."""
        replay = self.headers.get("discue-replay")
        return f"{self.id}/{replay}" if replay else self.id


class Webhook:
    """Verifies requests with one secret or several, of which one must match: `whsec_…` or a public key `whpk_…`.

    Without secrets, takes them from `DISCUE_WEBHOOK_SECRET`, separated by spaces. `seen` gets each verified event and
    returns whether it was handled before; if so, `unwrap` raises Duplicate. Raises ConfigurationError.
    """

    def __init__(
        self,
        secrets: str | Iterable[str] | None = None,
        *,
        tolerance: float = TOLERANCE_SECONDS,
        max_bytes: int = MAX_BYTES,
        seen: Callable[[Event[Any]], bool] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        if secrets is None:
            secrets = os.environ.get(SECRET_VARIABLE, "").split()
        listed = [text.strip() for text in ([secrets] if isinstance(secrets, str) else secrets)]
        if not listed:
            raise ConfigurationError(f"The signing secret is missing: pass it, or set {SECRET_VARIABLE}.")
        self._hmac_keys = [_secret_of(text) for text in listed if not text.startswith(_PUBLIC_KEY)]
        self._verifiers = [_verifier_of(text) for text in listed if text.startswith(_PUBLIC_KEY)]
        self._tolerance = tolerance
        self._seen = seen
        self._now = now
        self.max_bytes = max_bytes

    @overload
    def unwrap(self, body: bytes, headers: Headers) -> Event[Any]: ...

    @overload
    def unwrap(self, body: bytes, headers: Headers, data_type: type[T]) -> Event[T]: ...

    def unwrap(self, body: bytes, headers: Headers, data_type: Any = Any) -> Event[Any]:
        """Verify a request and return its message.

        `body` is the raw body, before any parsing. The case of header names does not matter. JSON is decoded to
        `data_type`: a Pydantic model, or any type that msgspec knows. Raises SignatureInvalid; DataInvalid if the
        sender is genuine and the data is not of the type; and Duplicate.
        """
        lowered = _lowered(headers)
        message_id, timestamp = self._verify(body, lowered)
        data, attributes = content_of(body, lowered, data_type)
        signed_at = datetime.fromtimestamp(timestamp, timezone.utc)
        event = Event(message_id, data, signed_at, attributes, body, lowered)
        if self._seen is not None and self._seen(event):
            raise Duplicate
        return event

    def verify(self, body: bytes, headers: Headers) -> None:
        """Raise SignatureInvalid unless the request was signed with one of the secrets, within the tolerance of now."""
        self._verify(body, _lowered(headers))

    def sign(self, body: bytes, *, message_id: str = "test") -> dict[str, str]:
        """Return the headers that verify with the first `whsec_…`, now: for tests of a receiver."""
        if not self._hmac_keys:
            raise ConfigurationError("A public key cannot sign: pass the secret, whsec_….")
        timestamp = str(int(self._now()))
        signature = hmac.digest(self._hmac_keys[0], _signed(message_id, timestamp, body), "sha256")
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        return dict(zip(names, (message_id, timestamp, f"{_HMAC},{b64encode(signature).decode()}"), strict=True))

    def _verify(self, body: bytes, headers: Mapping[str, str]) -> tuple[str, int]:
        if not isinstance(body, bytes):
            raise TypeError(f"body must be the bytes of the request, before any parsing, not {type(body).__name__}")
        if len(body) > self.max_bytes:
            raise SignatureInvalid(Reason.TOO_LARGE, f"The body is larger than {self.max_bytes} bytes.")
        message_id, timestamp = _header(headers, "webhook-id"), _header(headers, "webhook-timestamp")
        signatures = _signatures(_header(headers, "webhook-signature"))
        if not _ID.fullmatch(message_id):
            raise SignatureInvalid(Reason.MALFORMED, "webhook-id must have 1 to 256 visible ASCII characters, no dots.")
        if not _TIMESTAMP.fullmatch(timestamp):
            raise SignatureInvalid(Reason.MALFORMED, "webhook-timestamp must be a number of seconds.")
        self._check_time(int(timestamp))
        self._check_signatures(signatures, _signed(message_id, timestamp, body))
        return message_id, int(timestamp)

    def _check_time(self, timestamp: int) -> None:
        age = self._now() - timestamp
        if abs(age) > self._tolerance:
            reason, when = (Reason.EXPIRED, "ago") if age > 0 else (Reason.EARLY, "in the future")
            detail = f"The request was signed {abs(age):.0f} s {when}, more than {self._tolerance:.0f} s."
            raise SignatureInvalid(reason, f"{detail} Check the clock.")

    def _check_signatures(self, signatures: list[tuple[str, str]], signed: bytes) -> None:
        expected = [b64encode(hmac.digest(key, signed, "sha256")) for key in self._hmac_keys]
        for version, signature in signatures:
            # In constant time: the comparison must not reveal how much of a forged signature is right.
            if version == _HMAC and any(hmac.compare_digest(each, signature.encode()) for each in expected):
                return
            if version == _ED25519 and any(verify(_bytes_of(signature), signed) for verify in self._verifiers):
                return
        raise self._mismatch({version for version, _ in signatures})

    def _mismatch(self, versions: set[str]) -> SignatureInvalid:
        if not versions & {_HMAC, _ED25519}:
            listed = one_line(", ".join(sorted(versions)))
            return SignatureInvalid(Reason.UNKNOWN_VERSION, f"No signature is of version v1 or v1a, only {listed}.")
        if not self._hmac_keys and _ED25519 not in versions:
            detail = "The request has only v1 signatures, which need a secret (whsec_…), not a public key."
        elif not self._verifiers and _HMAC not in versions:
            detail = "The request has only v1a signatures, which need a public key (whpk_…), not a secret."
        else:
            detail = "No signature matches: the secret differs, or the body is not the raw body of the request."
        return SignatureInvalid(Reason.NO_MATCH, detail)


def _signed(message_id: str, timestamp: str, body: bytes) -> bytes:
    return b"%b.%b.%b" % (message_id.encode(), timestamp.encode(), body)


def _lowered(headers: Headers) -> dict[str, str]:
    lowered: dict[str, str] = {}
    pairs = cast("Mapping[str, str]", headers).items() if isinstance(headers, Mapping) else headers
    for name, value in pairs:
        key = name.lower()
        lowered[key] = f"{lowered[key]}, {value}" if key in lowered else value
    return lowered


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value:
        raise SignatureInvalid(Reason.MISSING, f"The header {name} is missing.")
    if not value.isascii():
        raise SignatureInvalid(Reason.MALFORMED, f"{name} must be ASCII text.")
    return value


def _signatures(text: str) -> list[tuple[str, str]]:
    """Return the version and the text of each signature. Raises SignatureInvalid."""
    if len(text) > _MAX_SIGNATURE_CHARACTERS:
        raise SignatureInvalid(Reason.MALFORMED, f"webhook-signature has over {_MAX_SIGNATURE_CHARACTERS} characters.")
    pairs = [each.partition(",") for each in text.split(" ")]
    if len(pairs) > _MAX_SIGNATURES or not all(version and signature for version, _, signature in pairs):
        detail = f"webhook-signature must have 1 to {_MAX_SIGNATURES} parts such as v1,… with a space between."
        raise SignatureInvalid(Reason.MALFORMED, detail)
    return [(version, signature) for version, _, signature in pairs]


def _bytes_of(signature: str) -> bytes:
    """Return what a signature encodes, b"" if it is no base64 in canonical form."""
    try:
        content = b64decode(signature, validate=True)
    except ValueError:
        return b""
    return content if b64encode(content).decode() == signature else b""


def _secret_of(text: str) -> bytes:
    # Errors do not show the text: it is a secret, even if it is a wrong one.
    if text.startswith(_PRIVATE_KEY):
        raise ConfigurationError("whsk_… is a private key, which signs. Pass the public key, whpk_….")
    key = _decoded(text.removeprefix(_SECRET), "A signing secret must be whsec_ and base64.")
    if len(key) not in _SECRET_LENGTHS:
        raise ConfigurationError("A signing secret must have 24 to 64 bytes in base64.")
    return key


def _verifier_of(text: str) -> Callable[[bytes, bytes], bool]:
    try:
        return verifier(_decoded(text.removeprefix(_PUBLIC_KEY), "A public key must be whpk_ and base64."))
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _decoded(text: str, rule: str) -> bytes:
    try:
        # Some tools strip the padding.
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ConfigurationError(rule) from None
