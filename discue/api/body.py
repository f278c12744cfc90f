"""Reads request bodies, bounded in size, in time, and in the memory of all requests together."""

import asyncio
from contextlib import suppress
from typing import Any

from granian._granian import RSGIProtocolClosed as ProtocolClosed

from discue.api.rsgi import HttpHeaders, HttpProtocol, HttpScope
from discue.domain.errors import BadRequest, DiscueError, Overloaded, PayloadTooLarge, RequestTimeout

_TICKS = 8
"""Steps of a deadline. It strikes at most two steps late."""

_LONGEST_NUMBER = 18
_DISCARDED_BYTES = 16_777_216
# Granian reads smaller bodies by itself. Otherwise it closes the connection if the body is still arriving when the
# response is sent.
_LEFT_TO_THE_SERVER_BYTES = 8_192
_DISCARD_SECONDS = 5.0
_STALLED_SECONDS = 0.5
_BODIED = frozenset({"POST", "PUT"})


class BodyReader:
    """Reads bodies. One timer serves all deadlines, and runs only while a body is read."""

    def __init__(self, *, deadline_seconds: float, max_bytes: int) -> None:
        self._tick_seconds = deadline_seconds / _TICKS
        self._max_bytes = max_bytes
        self._bytes = 0
        self._tick = 0
        self._ticking = False
        self._reading: dict[asyncio.Task[Any], int] = {}
        self._late: set[asyncio.Task[Any]] = set()

    async def read(self, exchange: HttpProtocol, headers: HttpHeaders, limit: int) -> bytes:
        """Return the whole body; empty if there is none.

        Raises PayloadTooLarge above `limit` bytes (without reading, if Content-Length says so), RequestTimeout if it
        does not arrive within the deadline, and Overloaded if all bodies together take too much memory.
        """
        announced = headers.get("content-length")
        length = None if announced is None else _length(announced, limit)
        if length == 0:
            return b""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("A body must be read in a task.")
        self._reading[task] = self._tick
        if not self._ticking:
            self._schedule_tick()
        try:
            if length is not None:
                return await self._whole(exchange, length)
            content = await self._streamed(exchange, limit)
        except asyncio.CancelledError:
            # The deadline cancels the task, because that also ends a read inside the server's own code. Any other
            # cancellation goes on.
            if task in self._late:
                task.uncancel()
                raise RequestTimeout from None
            raise
        finally:
            del self._reading[task]
            self._late.discard(task)
        if not content and headers.get("transfer-encoding") is not None:
            raise BadRequest("The request has Transfer-Encoding but an empty body.")
        return content

    async def discard(self, exchange: HttpProtocol, scope: HttpScope) -> None:
        """Discard a body that is not needed."""
        if not _may_be_cut(scope):
            return
        unwanted = _Unwanted()
        with suppress(TimeoutError, ProtocolClosed):
            async with asyncio.timeout(_STALLED_SECONDS) as stalled:
                async for chunk in exchange:
                    if not unwanted.should_continue(len(chunk), stalled):
                        break

    async def _whole(self, exchange: HttpProtocol, length: int) -> bytes:
        # Before the first byte: the server buffers the whole body, and many bodies that are announced but slow would
        # otherwise pass the check together and exceed the memory limit later.
        self._reserve(length)
        try:
            return await exchange()
        finally:
            self._bytes -= length

    async def _streamed(self, exchange: HttpProtocol, limit: int) -> bytes:
        """Read a body of unknown length.

        A body that breaks off looks complete at this level. The decoder notices: a JSON object that is cut is invalid.
        """
        content = bytearray()
        refusal: DiscueError | None = None
        unwanted: _Unwanted | None = None
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(None) as stalled:
                    async for chunk in exchange:
                        if unwanted is None and (refusal := self._refusal(len(content), len(chunk), limit)) is None:
                            content += chunk
                            continue
                        # The error is raised after the rest is discarded, so that the client can read the response.
                        unwanted = unwanted or _Unwanted()
                        if not unwanted.should_continue(len(chunk), stalled):
                            break
        finally:
            self._bytes -= len(content)
        if refusal is not None:
            raise refusal
        return bytes(content)

    def _refusal(self, size: int, more: int, limit: int) -> DiscueError | None:
        if size + more > limit:
            return _too_large(limit)
        try:
            self._reserve(more)
        except Overloaded as error:
            return error
        return None

    def _reserve(self, size: int) -> None:
        if self._bytes + size > self._max_bytes:
            raise Overloaded("Too many request bodies are arriving. Try again soon.")
        self._bytes += size

    def _schedule_tick(self) -> None:
        self._ticking = True
        asyncio.get_running_loop().call_later(self._tick_seconds, self._on_tick)

    def _on_tick(self) -> None:
        """Cancel reads whose deadline has passed. The dict is ordered, oldest first."""
        # One timer for all, so that a body that arrives at once, as most do, neither sets up nor cancels one.
        self._tick += 1
        for task, started in self._reading.items():
            if self._tick - started <= _TICKS:
                break
            self._late.add(task)
            task.cancel()
        if self._reading:
            self._schedule_tick()
        else:
            self._ticking = False


class _Unwanted:
    """Limits how much of an unwanted body is read: while it keeps arriving, up to 16 MiB and 5 seconds.

    The server resets the connection if the client still sends when the response is complete. Many clients then never
    see the response.
    """

    def __init__(self) -> None:
        self._now = asyncio.get_running_loop().time
        self._ends_at = self._now() + _DISCARD_SECONDS
        self._left = _DISCARDED_BYTES

    def should_continue(self, size: int, stalled: asyncio.Timeout) -> bool:
        """Whether to continue after another `size` bytes. Extends the timeout."""
        self._left -= size
        stalled.reschedule(min(self._now() + _STALLED_SECONDS, self._ends_at))
        return self._left > 0


def _may_be_cut(scope: HttpScope) -> bool:
    """Whether a body may arrive that the server does not discard itself. A client that waits for a 100 sends none."""
    headers = scope.headers
    announced = headers.get("content-length")
    if headers.get("expect") is not None:
        return False
    if announced is None:
        is_chunked = scope.http_version == "2" and scope.method in _BODIED
        return is_chunked or headers.get("transfer-encoding") is not None
    fits = announced.isascii() and announced.isdecimal() and len(announced) <= _LONGEST_NUMBER
    return fits and _LEFT_TO_THE_SERVER_BYTES < int(announced) <= _DISCARDED_BYTES


def _length(announced: str, limit: int) -> int:
    if not (announced.isascii() and announced.isdecimal()):
        raise BadRequest("The Content-Length header is not a number.")
    length = int(announced) if len(announced) <= _LONGEST_NUMBER else limit + 1
    if length > limit:
        raise _too_large(limit)
    return length


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body has more than {limit} bytes, the limit for this request.")
