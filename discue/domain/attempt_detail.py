"""What is kept of a trace: without what is secret, within bounds, packed."""

import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from discue.domain.attempt_trace import Timings, Trace

HIDDEN: Final = "[hidden]"
"""Stands for a value that is not shown."""

MOST_HEADERS: Final = 64
LONGEST_VALUE: Final = 1_024
MOST_CHARACTERS: Final = 8_192
"""Of the names and values of a head; what comes beyond is left out."""

_FORMAT: Final = b"\x01"
_FASTEST: Final = 1
_OURS: Final = re.compile(
    r"accept|accept-encoding|connection|content-(?:length|type)|discue-[a-z-]+|host|trace(?:parent|state)|user-agent"
    r"|webhook-(?:id|signature|timestamp)"
)
_SECRET: Final = re.compile(r"auth|cookie|credential|(?:^|[-_])key(?:$|[-_])|api-?key|passw|secret|session|token")

Headers = tuple[tuple[str, str], ...]


class AttemptDetail(msgspec.Struct, frozen=True, array_like=True):
    """What was sent and what was answered; the rest is as a Trace has it. `next_attempt_at` is 0 where none follows."""

    request_headers: Headers
    response_headers: Headers
    body: bytes
    body_bytes: int
    address: str
    is_reused: bool
    timings: Timings
    next_attempt_at: int

    def __repr__(self) -> str:
        return f"AttemptDetail(address={self.address!r}, timings={self.timings})"


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(AttemptDetail).decode


def packed(trace: Trace, next_attempt_at: int) -> bytes:
    """The detail as it is stored."""
    return _FORMAT + zlib.compress(_encode(detail_of(trace, next_attempt_at)), _FASTEST)


def detail_of(trace: Trace, next_attempt_at: int) -> AttemptDetail:
    """What is kept of a trace."""
    return AttemptDetail(
        request_headers_of(trace.request_head),
        response_headers_of(trace.response_headers),
        trace.excerpt,
        trace.body_bytes,
        trace.address,
        trace.is_reused,
        trace.timings,
        next_attempt_at,
    )


def unpacked(stored: bytes) -> AttemptDetail:
    """Raises ValueError for what no program up to this one has stored."""
    if not stored.startswith(_FORMAT):
        raise ValueError("the details of an attempt are stored in a form that is not known here")
    return _decode(zlib.decompress(stored[len(_FORMAT) :]))


def request_headers_of(head: bytes) -> Headers:
    """Of a request, the values that the service chose. Those of headers that others chose may be secrets."""
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(": ") for line in lines if line)
    return _bounded((name, value if _OURS.fullmatch(name.lower()) else HIDDEN) for name, _, value in pairs)


def response_headers_of(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Of an answer, all values but those whose name says that they are secrets."""
    pairs = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
    return _bounded((name, HIDDEN if _SECRET.search(name.lower()) else value) for name, value in pairs)


def _bounded(pairs: Iterable[tuple[str, str]]) -> Headers:
    return tuple(_within_bounds(pairs))


def _within_bounds(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    left = MOST_CHARACTERS
    for _, (name, value) in zip(range(MOST_HEADERS), pairs, strict=False):
        short = value if len(value) <= LONGEST_VALUE else value[:LONGEST_VALUE] + "…"
        left -= len(name) + len(short)
        if left < 0:
            return
        yield name, short
