"""The data of messages: from the form in which a client sends it to the bytes that listeners receive, and back."""

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeAlias

import msgspec

from discue.domain.errors import invalid
from discue.domain.json_text import SHORTEST_TOO_DEEP, is_too_deep

JSON_MEDIA_TYPE: Final = "application/json"
MEDIA_TYPE_CHARACTERS: Final = 255
MEDIA_TYPE_PATTERN: Final = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*;[!-~ \t]*)?$"
_MEDIA_TYPE: Final = re.compile(MEDIA_TYPE_PATTERN[1:-1])


def check_media_type(media_type: str, pointer: str) -> str:
    """Return the media type, which fits a header as it is. Raises Unprocessable."""
    if len(media_type) > MEDIA_TYPE_CHARACTERS or _MEDIA_TYPE.fullmatch(media_type) is None:
        raise invalid(pointer, f"must be a media type of at most {MEDIA_TYPE_CHARACTERS} characters, such as image/png")
    return media_type


def is_json_type(media_type: str) -> bool:
    # Suffixes such as `application/vnd.shop+json` are JSON, too (RFC 6839).
    subtype = media_type.partition(";")[0].strip().lower().partition("/")[2]
    return subtype == "json" or subtype.endswith("+json")


Codec: TypeAlias = int
"""Kind of the bytes of a body, and the form in which they were sent."""
TEXT: Final = 0
"""Content of a string that is not JSON."""
JSON_TEXT: Final = 1
"""Content of a string that is JSON itself."""
JSON_VALUE: Final = 2
"""JSON that was sent as such."""
BYTES: Final = 3
"""Bytes that were sent in base64."""

DEFAULT_MEDIA_TYPES: Final = (
    "text/plain; charset=utf-8",
    JSON_MEDIA_TYPE,
    JSON_MEDIA_TYPE,
    "application/octet-stream",
)
"""By codec."""

QUOTE: Final = 0x22
"""First byte of JSON that is a string."""
_MAYBE_JSON: Final = frozenset(b'{["-0123456789tfn \t\r\n')

LONGEST_ESCAPE: Final = 6
"""A byte of a string takes at most this many bytes of JSON: a control character becomes `\\u0001`."""
_SHORT_ESCAPES: Final = b'"\\\b\f\n\r\t'
"""Characters that JSON escapes with two characters."""
_UNESCAPED: Final = bytes(set(range(32, 256)) - set(b'"\\'))

_PIECE: Final = 196_608
"""The size of a part of large data, in bytes or characters: a multiple of three, as base64 needs."""

_text_of = msgspec.json.Decoder(str).decode
_check_syntax: Callable[[bytes], object] = msgspec.json.Decoder(msgspec.Raw).decode
_encode: Callable[[str], bytes] = msgspec.json.Encoder().encode


Data: TypeAlias = tuple[bytes, Codec]
"""Data as it is stored and delivered."""


class SentData(NamedTuple):
    """Data in the form of requests and responses."""

    value: bytes
    """JSON."""
    is_base64: bool = False
    """Whether the value is a string of bytes in base64."""


def is_json(codec: Codec) -> bool:
    """Return whether a body is JSON, to which schemas and filters apply."""
    return codec in (JSON_TEXT, JSON_VALUE)


def is_json_text(content: bytes) -> bool:
    """Return whether the content of a string is JSON itself (RFC 8259), which decides its media type."""
    if not content or content[0] not in _MAYBE_JSON:
        return False
    try:
        _check_syntax(content)
    except (msgspec.DecodeError, RecursionError):
        return False
    return len(content) < SHORTEST_TOO_DEEP or not is_too_deep(content)


def data_of(value: bytes, media_type: str | None = None) -> Data:
    """Return the data that a JSON value stands for. `value` is valid, and not empty.

    A string stands for its content, or for itself if the producer chose a media type of JSON.
    """
    sent = memoryview(value)
    if sent[0] != QUOTE or (media_type and is_json_type(media_type)):
        return bytes(sent), JSON_VALUE
    content = _text_of(sent).encode()
    return content, JSON_TEXT if not media_type and is_json_text(content) else TEXT


def data_of_base64(value: bytes, pointer: str) -> Data:
    """Return the data that a JSON string in base64 stands for. Raises Unprocessable."""
    try:
        return b64decode(_text_of(value), validate=True), BYTES
    except (msgspec.DecodeError, binascii.Error, ValueError):
        raise invalid(pointer, "must be a string in base64") from None


def pieces_as_sent(body: bytes, codec: Codec) -> Iterator[bytes]:
    """Yield the parts of the JSON in which data was sent. Each part takes little time."""
    if codec == JSON_VALUE:
        yield body
        return
    yield b'"'
    if codec == BYTES:
        for start in range(0, len(body), _PIECE):
            yield b64encode(body[start : start + _PIECE])
    else:
        text = body.decode()
        for start in range(0, len(text), _PIECE):
            yield _encode(text[start : start + _PIECE])[1:-1]
    yield b'"'


def most_bytes_as_sent(size: int, codec: Codec) -> int:
    """Return an upper bound of the JSON in which data of a size was sent."""
    if codec == JSON_VALUE:
        return size
    if codec == BYTES:
        return _bytes_in_base64(size)
    # Valid JSON has no control characters, whose escapes are the longest.
    return size * (LONGEST_ESCAPE if codec == TEXT else 2) + len(b'""')


def _bytes_in_base64(size: int) -> int:
    return 4 * -(-size // 3) + len(b'""')


def bytes_as_string(body: bytes, codec: Codec) -> int:
    """Return the size of the JSON string of a body as text, or in base64. Takes about a millisecond per MiB."""
    if codec == BYTES:
        return _bytes_in_base64(len(body))
    escaped = body.translate(None, _UNESCAPED)
    long = len(escaped.translate(None, _SHORT_ESCAPES))
    return len(body) + len(escaped) + (LONGEST_ESCAPE - 2) * long + len(b'""')


def as_sent(body: bytes, codec: Codec) -> SentData:
    if codec == JSON_VALUE:
        return SentData(body)
    if codec == BYTES:
        return SentData(_encode(b64encode(body).decode()), is_base64=True)
    return SentData(_encode(body.decode()))
