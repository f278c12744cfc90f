"""Documents that differ only in a few values, such as the URL of the service: rendered and compressed once.

Clients choose some of the values: the URL comes from their Host header. Therefore documents with values in them are
not cached, and making one compresses nothing.
"""

import asyncio
import re
import struct
import threading
import zlib
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_LEVEL: Final = 9
_RAW: Final = -zlib.MAX_WBITS
_HEADER: Final = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff"
"""The header of a gzip file (RFC 1952) without name and time."""

_STORED: Final = struct.Struct("<BHH")
"""The head of a stored block of DEFLATE (RFC 1951, 3.2.4): not the last one, its length, and the complement of it."""

_TRAILER: Final = struct.Struct("<II")
_MOST_STORED: Final = 65_535


class RenderedDocument:
    """A document with slots for values."""

    def __init__(self, content: bytes, slots: Sequence[bytes] = ()) -> None:
        """`slots` are placeholders in the content. Values replace every occurrence of them."""
        pieces = re.split(b"(" + b"|".join(map(re.escape, slots)) + b")", content) if slots else [content]
        self._first, self._parts = pieces[0], pieces[2::2]
        self._slots = [slots.index(slot) for slot in pieces[1::2]]
        self._compressed = [_deflated(part, is_last=False) for part in pieces[::2]]
        self._compressed[-1] = _deflated(pieces[-1], is_last=True)

    def plain(self, values: Sequence[bytes] = ()) -> bytes:
        """Return the document with a value for each slot."""
        return b"".join(self._pieces(values))

    def gzipped(self, values: Sequence[bytes] = ()) -> bytes:
        """Return the document as a gzip file. Nothing is compressed: values are stored blocks between the parts."""
        size, checksum = 0, 0
        for piece in self._pieces(values):
            size += len(piece)
            checksum = zlib.crc32(piece, checksum)
        blocks = [_STORED.pack(0, len(value), _MOST_STORED - len(value)) + value for value in values]
        first, *others = self._compressed
        found = [_HEADER, first]
        for slot, part in zip(self._slots, others, strict=True):
            found += (blocks[slot], part)
        return b"".join([*found, _TRAILER.pack(checksum, size & 0xFFFFFFFF)])

    def _pieces(self, values: Sequence[bytes]) -> list[bytes]:
        found = [self._first]
        for slot, part in zip(self._slots, self._parts, strict=True):
            found += (values[slot], part)
        return found


def _deflated(part: bytes, *, is_last: bool) -> bytes:
    """Compress a part on its own, so that what comes before it does not matter. It ends at a byte's end."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW)
    return compressor.compress(part) + compressor.flush(zlib.Z_FINISH if is_last else zlib.Z_SYNC_FLUSH)


class BuiltOnce(Generic[T]):
    """A value that takes long to build, such as a rendered document: built when it is first asked for."""

    def __init__(self, build: Callable[[], T]) -> None:
        self._build = build
        self._lock = threading.Lock()
        self._built: T | None = None

    async def get(self) -> T:
        """Return the value. Builds it in a thread: that takes longer than other requests can wait."""
        if self._built is not None:
            return self._built
        return await asyncio.to_thread(self._build_once)

    def _build_once(self) -> T:
        # Several threads may have been started before the first one is done.
        with self._lock:
            if self._built is None:
                self._built = self._build()
            return self._built
