"""Documents that differ only in the URL of the service: rendered and compressed once, for all clients.

The URL may come from the client (its Host header). Therefore what depends on it must cost next to nothing, and is not
kept.
"""

import asyncio
import struct
import threading
import zlib
from collections.abc import Callable, Sequence
from typing import Final

_LEVEL: Final = 9
_RAW: Final = -zlib.MAX_WBITS
_HEADER: Final = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff"
"""The header of a gzip file (RFC 1952) without name and time."""

_STORED: Final = struct.Struct("<BHH")
"""The head of a stored block of DEFLATE (RFC 1951, 3.2.4): not the last one, its length, and the complement of it."""

_TRAILER: Final = struct.Struct("<II")
_MOST_STORED: Final = 65_535


class RenderedDocument:
    """A document with places for a URL."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        """`parts` are what comes before, between and after the places."""
        self._parts = tuple(parts)
        last = len(parts) - 1
        self._compressed = tuple(_deflated(part, is_last=number == last) for number, part in enumerate(parts))

    def plain(self, url: bytes) -> bytes:
        return url.join(self._parts)

    def gzipped(self, url: bytes) -> bytes:
        """Return the document as a gzip file. Nothing is compressed: the URL is a stored block between the parts."""
        size, checksum = 0, 0
        for number, part in enumerate(self._parts):
            for piece in (url, part) if number else (part,):
                size += len(piece)
                checksum = zlib.crc32(piece, checksum)
        block = _STORED.pack(0, len(url), _MOST_STORED - len(url)) + url
        return _HEADER + block.join(self._compressed) + _TRAILER.pack(checksum, size & 0xFFFFFFFF)


def _deflated(part: bytes, *, is_last: bool) -> bytes:
    """Compress a part on its own, so that what comes before it does not matter. It ends at a byte's end."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW)
    return compressor.compress(part) + compressor.flush(zlib.Z_FINISH if is_last else zlib.Z_SYNC_FLUSH)


class RenderedOnce:
    """A document that is rendered when it is first asked for."""

    def __init__(self, render: Callable[[], RenderedDocument]) -> None:
        self._render = render
        self._lock = threading.Lock()
        self._document: RenderedDocument | None = None

    async def get(self) -> RenderedDocument:
        """Return the document. Renders it in a thread: that takes longer than other requests can wait."""
        if self._document is not None:
            return self._document
        return await asyncio.to_thread(self._rendered)

    def _rendered(self) -> RenderedDocument:
        # Several threads may have been started before the first one is done.
        with self._lock:
            document = self._document or self._render()
            self._document = document
        return document
