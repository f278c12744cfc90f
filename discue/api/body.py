"""Reading the body of a request: bounded in bytes, in time, and in what all requests hold together."""

import asyncio
from contextlib import suppress
from typing import Any

from granian._granian import RSGIProtocolClosed as ProtocolClosed

from discue.api.rsgi import HttpHeaders, HttpProtocol, HttpScope
from discue.domain.errors import BadRequest, DiscueError, Overloaded, PayloadTooLarge, RequestTimeout

_TICKS = 8
"""A deadline is watched in so many steps: it strikes at most two of them late."""

_LONGEST_NUMBER = 18
_DISCARDED_BYTES = 16_777_216
# What is larger may still be on its way when the answer is there: the server then closes the connection.
_LEFT_TO_THE_SERVER_BYTES = 8_192
_DISCARD_SECONDS = 5.0
_STALLED_SECONDS = 0.5
_BODIED = frozenset({"POST", "PUT"})


class BodyReader:
    """Reads bodies. One timer watches them all, and runs only while something is read."""

    def __init__(self, *, deadline_seconds: float, max_bytes: int) -> None:
        self._tick_seconds = deadline_seconds / _TICKS
        self._max_bytes = max_bytes
        self._bytes = 0
        self._tick = 0
        self._watching = False
        self._reading: dict[asyncio.Task[Any], int] = {}
        self._late: set[asyncio.Task[Any]] = set()

    async def read(self, exchange: HttpProtocol, headers: HttpHeaders, limit: int) -> bytes:
        """The whole body; empty when there is none.

        Raises PayloadTooLarge above `limit` (without reading, if the client announces it), RequestTimeout
        when it has not arrived within the deadline, Overloaded when all bodies together are too much.
        """
        announced = headers.get("content-length")
        length = None if announced is None else _length(announced, limit)
        if length == 0:
            return b""
        task = self._begin()
        try:
            if length is not None:
                return await self._whole(exchange, length)
            content = await self._streamed(exchange, limit)
        except asyncio.CancelledError:
            if task in self._late:
                task.uncancel()
                raise RequestTimeout from None
            raise
        finally:
            del self._reading[task]
            self._late.discard(task)
        if not content and headers.get("transfer-encoding") is not None:
            raise BadRequest("The body was announced and did not come.")
        return content

    async def discard(self, exchange: HttpProtocol, scope: HttpScope) -> None:
        """Read past a body that nobody has asked for."""
        if not _may_be_cut(scope):
            return
        unwanted = _Unwanted()
        with suppress(TimeoutError, ProtocolClosed):
            async with asyncio.timeout(_STALLED_SECONDS) as stalled:
                async for chunk in exchange:
                    if not unwanted.goes_on(len(chunk), stalled):
                        break

    def _begin(self) -> asyncio.Task[Any]:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("A body is read in a task.")
        self._reading[task] = self._tick
        if not self._watching:
            self._watch_on()
        return task

    async def _whole(self, exchange: HttpProtocol, length: int) -> bytes:
        self._reserve(length)
        try:
            return await exchange()
        finally:
            self._bytes -= length

    async def _streamed(self, exchange: HttpProtocol, limit: int) -> bytes:
        """A body of unknown length. The server ends it in the same way when it broke off: only what is
        read from it can tell, and a JSON object that was cut is none."""
        content = bytearray()
        try:
            refusal = await self._collect(exchange, limit, content)
        finally:
            self._bytes -= len(content)
        if refusal is not None:
            raise refusal
        return bytes(content)

    async def _collect(self, exchange: HttpProtocol, limit: int, content: bytearray) -> DiscueError | None:
        """Add what comes to `content`; why that ended before its time, once the rest was read past."""
        refusal: DiscueError | None = None
        unwanted: _Unwanted | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as stalled:
                async for chunk in exchange:
                    if unwanted is None and (refusal := self._refusal(len(content), len(chunk), limit)) is None:
                        content += chunk
                        continue
                    unwanted = unwanted or _Unwanted()
                    if not unwanted.goes_on(len(chunk), stalled):
                        break
        return refusal

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
            raise Overloaded("More is arriving than can be read. Try again soon.")
        self._bytes += size

    def _watch_on(self) -> None:
        self._watching = True
        asyncio.get_running_loop().call_later(self._tick_seconds, self._look)

    def _look(self) -> None:
        """End what began more than the deadline ago. The oldest come first."""
        self._tick += 1
        for task, began in self._reading.items():
            if self._tick - began <= _TICKS:
                break
            self._late.add(task)
            task.cancel()
        if self._reading:
            self._watch_on()
        else:
            self._watching = False


class _Unwanted:
    """How long a body that nobody wants is read: as long as it keeps coming, at most 16 MiB, at most 5 s.

    The server resets whoever still sends when the answer is there, and many clients then never see it.
    """

    def __init__(self) -> None:
        self._now = asyncio.get_running_loop().time
        self._ends_at = self._now() + _DISCARD_SECONDS
        self._left = _DISCARDED_BYTES

    def goes_on(self, size: int, stalled: asyncio.Timeout) -> bool:
        """Whether to read on after so many bytes; moves the timeout along."""
        self._left -= size
        stalled.reschedule(min(self._now() + _STALLED_SECONDS, self._ends_at))
        return self._left > 0


def _may_be_cut(scope: HttpScope) -> bool:
    """Whether a body comes that is too large for the server to swallow. One that waits for a 100 never does."""
    headers = scope.headers
    announced = headers.get("content-length")
    if headers.get("expect") is not None:
        return False
    if announced is None:
        in_pieces = scope.http_version == "2" and scope.method in _BODIED
        return in_pieces or headers.get("transfer-encoding") is not None
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
    return PayloadTooLarge(f"The body of this request can have {limit} bytes at most.")
