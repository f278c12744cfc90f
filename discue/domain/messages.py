"""Messages: their options, their ordering key, their form in the log, and the receipt handles of leased ones."""

import re
from hashlib import blake2b
from typing import Final, Literal, NamedTuple

import msgspec

from discue.domain.headers import Headers
from discue.domain.ids import ALPHABET, decode, encode
from discue.domain.message_data import Codec
from discue.domain.representation import shows
from discue.domain.retry import RetryOptions
from discue.domain.trace_context import TRACEPARENT_CHARACTERS

TYPE_HEADER: Final = "discue-type"
SEQUENCE_HEADER: Final = "discue-sequence"
"""The header with the `seq` of the message, from which receivers tell which of two messages is newer."""

MessageState = Literal["acknowledged", "pending", "retrying", "missed", "no_listeners"]
"""State of a message in lists: the first that any of its deliveries has of `missed`, `retrying` and `pending`, else
`acknowledged`, which includes messages that filters excluded. `no_listeners`: it has no deliveries."""


@shows("key")
class MessageOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Options of one message, chosen by its producer."""

    headers: Headers = ()
    key: str | None = None
    """Ordering key; None without one. It has an effect in ordered queues only."""
    retry: RetryOptions | None = None
    deliver_at: int | None = None
    """Due time in milliseconds since the epoch; None if the message is due when it is published."""
    media_type: str | None = None
    """Media type of the data of a message that was published as a CloudEvent, "" if it has none; None otherwise."""
    type: str | None = None
    """Event type, which channels route by; None without one."""
    content_type: str | None = None
    """Media type of the data, if the producer chose one for a message that is not a CloudEvent."""
    traceparent: str | None = None
    """The trace that the message was published in; None without one."""

    @property
    def given_media_type(self) -> str:
        """The media type that the producer chose; "" for the default of the data."""
        return self.content_type or self.media_type or ""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A message in the log of a queue, as lanes read it."""

    seq: int
    id: str
    stored_at: int
    """Milliseconds since the epoch."""
    codec: Codec
    body: bytes
    """Empty if the message is delayed."""
    expires_at: int = 0
    """Milliseconds since the epoch; 0: never."""
    key_hash: int | None = None
    """Hash of the ordering key, `NO_KEY_HASH` without one in an ordered queue; None without one elsewhere."""
    extra: bytes = b""
    """The encoded MessageOptions, empty for defaults."""
    is_delayed: bool = False
    """Whether the message is not due yet. It is appended to the log again when it is."""
    origin_seq: int = 0
    """The seq at which a delayed message was first appended; 0 for other messages."""


class StoredMessage(msgspec.Struct, frozen=True):
    """A message, as the API shows it."""

    organization: int
    queue: int
    queue_public_id: str
    seq: int
    id: str
    alias: str
    """The id if the message has no alias."""
    stored_at: int
    """When it was published, in milliseconds since the epoch."""
    updated_at: int
    codec: Codec
    body: bytes | None = None
    """None if it was not read."""
    expires_at: int = 0
    """Milliseconds since the epoch; 0: never."""
    options: MessageOptions = MessageOptions()
    is_delayed: bool = False
    """Whether the message is not due yet."""
    origin_seq: int = 0
    """The seq at which it was published. It differs from `seq` if the message was delayed."""
    size: int = 0
    """The size of the body in bytes, also where the body was not read."""
    state: MessageState | None = None
    """The state for all of its listeners, or for the one that was asked for; None if it was not read."""


_NO_OPTIONS: Final = MessageOptions()
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(MessageOptions).decode


class _TypeAlone(msgspec.Struct, frozen=True, gc=False):
    type: str | None = None


_decode_type = msgspec.msgpack.Decoder(_TypeAlone).decode


def encode_options(options: MessageOptions) -> bytes | None:
    """Return the stored form of options, None for defaults."""
    return None if options == _NO_OPTIONS else _encode(options)


_TRACEPARENT_ALONE: Final = b"\x81\xabtraceparent\xd9\x37"
_LENGTH_ALONE: Final = len(_TRACEPARENT_ALONE) + TRACEPARENT_CHARACTERS


def encode_traceparent(traceparent: str) -> bytes:
    """Return what `encode_options` returns for options with a `traceparent` alone."""
    # Without the encoder: where all requests are traced, this runs for each message.
    return _TRACEPARENT_ALONE + traceparent.encode()


def lone_traceparent(extra: bytes) -> str | None:
    """Return the `traceparent` of stored options, if it is the only one of them. Inverse of `encode_traceparent`."""
    if extra.startswith(_TRACEPARENT_ALONE) and len(extra) == _LENGTH_ALONE:
        return extra[-TRACEPARENT_CHARACTERS:].decode()
    return None


def decode_options(extra: bytes | None) -> MessageOptions:
    return _decode(extra) if extra else _NO_OPTIONS


def type_of(extra: bytes | None) -> str | None:
    """Return the type in stored options; None without one. Half the cost of decoding all options."""
    return _decode_type(extra).type if extra else None


def traceparent_of(extra: bytes | None) -> str | None:
    """Return the `traceparent` of stored options; None without one."""
    if not extra:
        return None
    return lone_traceparent(extra) or _decode(extra).traceparent


def message_headers(options: MessageOptions) -> Headers:
    """Return the headers that are sent to listeners for a message: its own, and its type."""
    return options.headers if options.type is None else (*options.headers, (TYPE_HEADER, options.type))


NO_KEY_HASH: Final = 0
"""Key hash of messages without a key in an ordered queue: they are ordered among themselves."""


def hash_key(key: str) -> int:
    """Return a 64-bit hash of an ordering key. Keys that collide are ordered together, which is harmless."""
    # Signed, because the columns of both databases are.
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big", signed=True)


_NUMBER_CHARACTERS: Final = 11
"""Length of a 63-bit number in base 62."""
RECEIPT_HANDLE_PATTERN: Final = f"^[0-9A-Za-z]{{{2 * _NUMBER_CHARACTERS}}}$"
_RECEIPT_HANDLE: Final = re.compile(f"[{ALPHABET}]{{{2 * _NUMBER_CHARACTERS}}}")


class ReceiptHandle(NamedTuple):
    """Identifies one lease of a pulled message. `str()` returns the form that consumers get."""

    seq: int
    token: int
    """Unique to the lease."""

    def __str__(self) -> str:
        return encode(self.seq, _NUMBER_CHARACTERS) + encode(self.token, _NUMBER_CHARACTERS)


def parse_receipt_handle(text: str) -> ReceiptHandle | None:
    """Return the receipt handle; None if the text is not one."""
    if _RECEIPT_HANDLE.fullmatch(text) is None:
        return None
    seq, token = decode(text[:_NUMBER_CHARACTERS]), decode(text[_NUMBER_CHARACTERS:])
    # 11 characters can encode more than 63 bits, which the database could not compare.
    return None if max(seq, token) >= 1 << 63 else ReceiptHandle(seq, token)
