"""What producers ask for with single messages, as it is stored beside them."""

from hashlib import blake2b

import msgspec

from discue.domain.model import MessageOptions

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(MessageOptions).decode
_NONE = MessageOptions()

SUBJECT_HEADER = "discue-subject"


def encode_options(options: MessageOptions) -> bytes | None:
    """Nothing where nothing was asked for."""
    return None if options == _NONE else _encode(options)


def decode_options(extra: bytes | None) -> MessageOptions:
    return _decode(extra) if extra else _NONE


def message_headers(options: MessageOptions) -> tuple[tuple[str, str], ...]:
    """What is sent to listeners with the message: its own headers, and its subject where it has one."""
    return options.headers if options.subject is None else (*options.headers, (SUBJECT_HEADER, options.subject))


NO_KEY_HASH = 0
"""What messages of an ordered queue without a key are ordered by: all of them are of one key."""


def hash_key(key: str) -> int:
    """64 bits of a hash, as a signed number. Two keys that share it would share an order: that breaks no promise."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big", signed=True)
