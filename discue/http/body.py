"""Reads request bodies, bounded in size, in time, and in the memory of each caller and of all together.

Memory is counted as bytes arrive: a body that is only announced uses none.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from discue.domain.errors import BadRequest, DiscueError, Overloaded, PayloadTooLarge
from discue.http.rsgi import ClientGone, HttpHeaders, HttpProtocol, HttpScope

FIRST_BYTE_SECONDS = 5.0
"""Time in which the first byte of a body must arrive."""

BYTES_PER_SECOND = 1_024
"""Minimum transfer rate of a body, after the time for its first byte."""

SHARES = 4
"""The memory is divided into this many shares. The bodies of an organization take at most one."""

ANONYMOUS_SHARES = 16
"""Like `SHARES`, for bodies of requests without a key. All of them together take at most one share. So do the bodies
that an organization's sources receive."""

ADDRESS_SHARES = 4 * ANONYMOUS_SHARES
"""Like `SHARES`, for bodies that one address sends to the sources of an organization. They wait for each other, so that
a stranger's slow bodies do not hold up those of the provider."""

_SMALL_BYTES = 16_384
"""The server reads a body up to this announced size in one piece."""

_TICKS = 8
"""Least number of ticks in a deadline. It strikes at most two ticks late."""

_LONGEST_TICK_SECONDS = 1.0
_LONGEST_NUMBER = 18
_DISCARDED_BYTES = 16_777_216
_DISCARD_SECONDS = 5.0
_STALLED_SECONDS = 0.5
WITH_BODY = frozenset({"POST", "PUT"})


Owner = int | tuple[int, str]


class _Share:
    """The memory of one caller's bodies: later bodies wait, unread, for earlier ones."""

    def __init__(self, size: int) -> None:
        self.size = self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def is_unused(self) -> bool:
        return self._free == self.size and not self._waiting

    def take(self, size: int) -> bool:
        """Take the room for a body of this size, unless it has to wait. Returns whether it was taken."""
        if size > self._free or self._waiting:
            return False
        self._free -= size
        return True

    async def wait(self, size: int) -> None:
        """Return when it is the turn of a body of this size, and take the room for it."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            # The turn may have come in the same moment.
            self.give_back(0 if turn.cancelled() else size)
            raise

    def give_back(self, size: int) -> None:
        self._free += size
        while self._waiting:
            wanted, turn = self._waiting[0]
            if not turn.done():
                if wanted > self._free:
                    break
                self._free -= wanted
                turn.set_result(None)
            self._waiting.popleft()


@dataclass(slots=True, eq=False)
class _Reading:
    """A large body, while it is read and until its memory is released."""

    task: asyncio.Task[Any]
    started: int
    """The tick at which reading started."""
    owners: dict[Owner, int]
    """The owners of the shares that its memory is taken from, each with the number of shares of that kind."""
    received: int = 0
    waits: bool = False
    """Whether it waits for a share: the client is not late then."""
    shares: dict[Owner, tuple[_Share, int]] = field(default_factory=dict)
    """The shares, each with the number of bytes taken from it. Empty until the first byte of the body arrives."""
    size: int = 0
    """The bytes that are in memory."""


class BodyReader:
    """Reads bodies. One timer serves all deadlines, and runs only while a body is read."""

    def __init__(
        self, *, deadline_seconds: float, max_bytes: int, is_store_healthy: Callable[[], bool] = lambda: True
    ) -> None:
        """Bodies wait for each other only while the store is healthy: otherwise their requests would fail anyway."""
        self._is_store_healthy = is_store_healthy
        self._tick_seconds = min(_LONGEST_TICK_SECONDS, deadline_seconds / _TICKS)
        self._last_tick = ceil(deadline_seconds / self._tick_seconds)
        self._first_byte_tick = min(self._last_tick, ceil(FIRST_BYTE_SECONDS / self._tick_seconds))
        self._bytes_per_tick = BYTES_PER_SECOND * self._tick_seconds
        self._max_bytes = max_bytes
        self._bytes = 0
        """Bytes of larger bodies that have arrived."""
        self._announced = 0
        """Announced bytes of small bodies."""
        self._small: dict[asyncio.Task[Any], tuple[int, int]] = {}
        """The tick at which reading started, and the announced size. The oldest first."""
        self._large: dict[asyncio.Task[Any], _Reading] = {}
        self._errors: dict[asyncio.Task[Any], DiscueError] = {}
        """The errors of reads that were cancelled."""
        self._shares: dict[Owner, _Share] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop on which bodies are read; None until the first one is."""
        self._tick = 0
        self._ticking = False
        self.held: dict[asyncio.Task[Any], _Reading] = {}
        """Larger bodies that have been read and not released."""

    async def read(
        self, exchange: HttpProtocol, headers: HttpHeaders, limit: int, *, organization: int, stranger: str = ""
    ) -> bytes:
        """Return the whole body; empty if there is none. `organization` is the caller's; 0 without a key. Requests to
        the sources of an organization come from a `stranger`, named by address.

        The memory of the body is counted until the same task calls `release`.
        Raises PayloadTooLarge above `limit` bytes (without reading, if Content-Length says so), DiscueError if it
        does not arrive within the deadline, or too slowly, and Overloaded if all bodies together take too much memory.
        """
        announced = headers.get("content-length")
        length = None if announced is None else _length(announced, limit)
        if length == 0:
            return b""
        # Asking for the running loop costs a system call on Python 3.11, and bodies are read on one loop only.
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("A body must be read in a task.")
        if not self._ticking:
            self._schedule_tick()
        try:
            if length is not None and length <= _SMALL_BYTES:
                # In one piece, which costs half as much as in two. How much of it has arrived is not known meanwhile.
                self._small[task] = self._tick, length
                self._announced += length
                if self._announced > self._max_bytes:
                    self._make_room()
                return await exchange()
            owners: dict[Owner, int] = {organization: SHARES if organization else ANONYMOUS_SHARES}
            if stranger:
                owners = {(organization, stranger): ADDRESS_SHARES, -organization: ANONYMOUS_SHARES}
            self._large[task] = reading = _Reading(task, self._tick, owners)
            content = await self._in_pieces(exchange, length or limit, limit, reading)
        except asyncio.CancelledError:
            # A deadline cancels the task, because that also ends a read inside the server's own code. Any other
            # cancellation goes on.
            if task in self._errors:
                task.uncancel()
                raise self._errors[task] from None
            raise
        finally:
            if self._small.pop(task, None) is not None:
                self._announced -= length or 0
            else:
                self._large.pop(task, None)
            self._errors.pop(task, None)
        if not content and headers.get("transfer-encoding") is not None:
            raise BadRequest("The request has Transfer-Encoding but an empty body.", code="invalid_header")
        return content

    async def discard(self, exchange: HttpProtocol, scope: HttpScope) -> None:
        if not _may_arrive(scope):
            return
        unwanted = _Unwanted()
        with suppress(TimeoutError, ClientGone):
            async with asyncio.timeout(_STALLED_SECONDS) as stalled:
                async for chunk in exchange:
                    if not unwanted.should_continue(len(chunk), stalled):
                        break

    async def _in_pieces(self, exchange: HttpProtocol, size: int, limit: int, reading: _Reading) -> bytes:
        """Read a body in pieces. `size` is its announced size, or what it may have at most.

        A body that breaks off looks complete at this level. The decoder notices: a JSON object that is cut is invalid.
        """
        content = bytearray()
        refusal: DiscueError | None = None
        unwanted: _Unwanted | None = None
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(None) as stalled:
                    async for chunk in exchange:
                        reading.received += len(chunk)
                        if not reading.shares:
                            refusal = await self._begin(reading, size)
                        refusal = refusal or self._refusal(reading, len(chunk), limit)
                        if refusal is None:
                            content += chunk
                            continue
                        # The error is raised after the rest is discarded, so that the client can read the response.
                        unwanted = unwanted or _Unwanted()
                        if not unwanted.should_continue(len(chunk), stalled):
                            break
            if refusal is not None:
                raise refusal
        except BaseException:
            self._give_back(reading)
            raise
        # Until its request is handled: bodies that wait for their turn take memory, too.
        self.held[reading.task] = reading
        return bytes(content)

    def release(self) -> None:
        """Give back the memory of the body that the current task has read."""
        task = asyncio.current_task()
        reading = None if task is None else self.held.pop(task, None)
        if reading is not None:
            self._give_back(reading)

    def _give_back(self, reading: _Reading) -> None:
        self._bytes -= reading.size
        for owner, (share, taken) in reading.shares.items():
            share.give_back(taken)
            # A refused body ends after others: the owner may have another share by now.
            if share.is_unused and self._shares.get(owner) is share:
                del self._shares[owner]

    async def _begin(self, reading: _Reading, size: int) -> DiscueError | None:
        """Take the room for a whole body from its shares, or return the error. Waits, at most for a deadline.

        The whole body's, at its first byte: bodies that each wait for the rest of their room would wait for each other.
        """
        for owner, parts in reading.owners.items():
            share = self._shares.get(owner)
            if share is None:
                share = self._shares[owner] = _Share(self._max_bytes // parts)
            reading.shares[owner] = share, 0
            # A body that is larger than the share takes all of it.
            taken = min(size, share.size)
            if not share.take(taken):
                if not self._is_store_healthy():
                    return _overloaded()
                reading.started, reading.waits = self._tick, True
                await share.wait(taken)
                # The body was not read meanwhile, so its deadlines start again.
                reading.started, reading.waits, reading.received = self._tick, False, 0
            reading.shares[owner] = share, taken
        return None

    def _refusal(self, reading: _Reading, more: int, limit: int) -> DiscueError | None:
        """Count more bytes of a body, or return the error."""
        if reading.size + more > limit:
            return _too_large(limit)
        if self._bytes + more > self._max_bytes:
            return _overloaded()
        reading.size += more
        self._bytes += more
        return None

    def _make_room(self) -> None:
        """Cancel the oldest small bodies until the others fit: a body whose client sends it has arrived long before."""
        excess = self._announced - self._max_bytes
        for task, (_, length) in self._small.items():
            if excess <= 0:
                break
            excess -= length
            self._cancel(task, _overloaded())

    def _cancel(self, task: asyncio.Task[Any], error: DiscueError) -> None:
        """Make a read raise an error."""
        if task not in self._errors:
            self._errors[task] = error
            task.cancel()

    def _schedule_tick(self) -> None:
        self._ticking = True
        self._loop = asyncio.get_running_loop()
        self._loop.call_later(self._tick_seconds, self._on_tick)

    def _on_tick(self) -> None:
        """Cancel reads whose deadline has passed, or that are too slow."""
        # One timer for all, so that a body that arrives at once, as most do, neither sets up nor cancels one.
        self._tick += 1
        for task, (started, length) in self._small.items():
            # The time of a body that arrives at the minimum rate.
            last_tick = self._first_byte_tick + ceil(length / self._bytes_per_tick)
            if self._tick - started > min(last_tick, self._last_tick):
                self._cancel(task, DiscueError(code="request_timeout"))
        for task, reading in self._large.items():
            elapsed = self._tick - reading.started
            expected = (elapsed - 1 - self._first_byte_tick) * self._bytes_per_tick
            if reading.waits:
                if elapsed > self._last_tick or not self._is_store_healthy():
                    self._cancel(task, _overloaded())
            elif elapsed > self._last_tick or reading.received < expected:
                self._cancel(task, DiscueError(code="request_timeout"))
        if self._small or self._large:
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


def _may_arrive(scope: HttpScope) -> bool:
    """Whether a body may still arrive. A client that waits for a 100 sends none."""
    headers = scope.headers
    announced = headers.get("content-length")
    if headers.get("expect") is not None:
        return False
    if announced is None:
        is_chunked = scope.http_version == "2" and scope.method in WITH_BODY
        return is_chunked or headers.get("transfer-encoding") is not None
    fits = announced.isascii() and announced.isdecimal() and len(announced) <= _LONGEST_NUMBER
    return fits and 0 < int(announced) <= _DISCARDED_BYTES


def _length(announced: str, limit: int) -> int:
    if not (announced.isascii() and announced.isdecimal()):
        raise BadRequest("The Content-Length header is not a number.", code="invalid_header")
    length = int(announced) if len(announced) <= _LONGEST_NUMBER else limit + 1
    if length > limit:
        raise _too_large(limit)
    return length


def _overloaded() -> Overloaded:
    return Overloaded(
        "Too many request bodies are arriving. Try again soon; the operator can raise `max_waiting_bytes`."
    )


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body has more than {limit} bytes, the limit for this request.")
