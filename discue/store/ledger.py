"""The ledger: every request and job reserves, by organization, what it will read and hold before it reads.

One ledger per worker grants all reservations. It bounds the memory of reads and their responses, and leaves time on the
event loop to other organizations: an organization has a limited number of reads at once, and no more than its fair
share of the time while others are active. The queue of commits admits publishes instead; they reserve only the time to
decode a large body here.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, NamedTuple, Self

from discue.domain.errors import Overloaded
from discue.domain.reservations import (
    EVICTED_SECONDS,
    SMALL_READ_BYTES,
    ReadBound,
    ReadingAccount,
    share_of_time,
)

DEFAULT_MAX_BYTES: Final = 64 << 20

_MOST_WAITING: Final = 256
"""How many reservations of one organization may wait."""
_LONGEST_WAIT_SECONDS: Final = 10.0
_PARTS: Final = 4
"""A reservation counts as at most a fourth of the memory, so that one of any size can be granted."""
_ACTIVE_SECONDS: Final = 1.0
"""An organization is active for one to two of these periods after a request."""
_REMEMBERED: Final = 1_000
_GRANTS_PER_TURN: Final = 8
"""How many reads without rows an organization begins in one turn of the event loop.

An HTTP/2 connection sends up to a hundred requests at once. On SQLite, each read takes up to a millisecond of the loop.
"""
_TRIED_PER_RELEASE: Final = 8
"""How many organizations that wait for memory are tried when memory is released."""


class _Waiting(NamedTuple):
    """A reservation that waits."""

    rows: int
    bytes: int
    grant: "asyncio.Future[None]"


class Line(ReadingAccount):
    """The account of an organization, and its waiting reservations in order of arrival."""

    __slots__ = ("granted", "next_turn", "organization", "timer", "waiting")

    def __init__(self, organization: int, now: float) -> None:
        super().__init__(now)
        self.organization = organization
        self.waiting: deque[_Waiting] = deque()
        self.granted = 0
        """Reads without rows that have begun in this turn of the event loop."""
        self.next_turn: deque[asyncio.Future[None]] = deque()
        """Reads without rows that wait for the next turn."""
        self.timer: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        return not (self.held or self.reading or self.waiting or self.granted)


class Reservation:
    """A granted reservation. It must be released, by `release` or as a context manager."""

    __slots__ = ("_ledger", "bytes", "line", "rows")

    def __init__(self, ledger: "Ledger", line: Line, rows: int, size: int) -> None:
        self._ledger = ledger
        self.line = line
        self.rows = rows
        """The rows of the read; 0 once it has ended. Until then, it uses the organization's time."""
        self.bytes = size
        """The reserved bytes."""

    @property
    def organization(self) -> int:
        return self.line.organization

    async def enlarge(self, bound: ReadBound) -> None:
        """Replace the reservation, after the first read has shown what the next one needs.

        The previous bytes are released first, so that reservations never wait for each other. Raises Overloaded.
        """
        self.release()
        other = await self._ledger.reserve(self.line.organization, bound)
        self.line, self.rows, self.bytes = other.line, other.rows, other.bytes

    def extend(self, size: int) -> bool:
        """Reserve this many bytes if there is room now. Returns whether at least this many are reserved."""
        return size <= self.bytes or self._ledger.extend(self, size)

    def split(self, size: int) -> "Reservation":
        """Return a new reservation that takes over this many of the bytes."""
        self.bytes -= size
        return Reservation(self._ledger, self.line, 0, size)

    def take_over(self, other: Self) -> None:
        """Release this reservation, and take over the bytes of another one."""
        self.release()
        self.line, self.bytes = other.line, other.bytes
        other.bytes = 0

    def keep(self, size: int) -> None:
        """End the read. From now on, the reservation uses no time, and holds this many bytes until it is released."""
        self._ledger.end(self, size)

    def release(self) -> None:
        """Release everything. A second call has no effect."""
        self._ledger.end(self, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Ledger:
    """Grants reservations. Used from one event loop.

    A reservation with rows waits until the organization may read: it reads a limited number of rows at once, and rests
    after it has used more than its share of the time. A limited number of reservations without rows begins in each turn
    of the event loop. All but small reservations also wait for memory.
    """

    def __init__(
        self,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        monotonic: Callable[[], float] = time.monotonic,
        is_store_healthy: Callable[[], bool] = lambda: True,
    ) -> None:
        self._max_bytes = max_bytes
        self._monotonic = monotonic
        self._is_store_healthy = is_store_healthy
        self.held = 0
        """The reserved bytes of all organizations."""
        self._lines: dict[int, Line] = {}
        self._short: dict[Line, None] = {}
        """Organizations that wait for memory; the first is the next."""
        self._pressed: dict[int, bool] = {}
        self._granting: list[Line] = []
        """Organizations with reads without rows that have begun in this turn of the event loop."""
        self._recent: set[int] = set()
        self.note: Callable[[int], None] = self._recent.add
        """Notes that an organization is active: a plain `set.add`, because it runs for each request."""
        self._earlier: set[int] = set()
        self._recent_since = monotonic()

    async def reserve(self, organization: int, bound: ReadBound) -> Reservation:
        """Wait for the turn of a reservation and for room, and return the granted reservation.

        A small reservation waits at most for a turn of the event loop: the number of requests bounds these. Raises
        Overloaded if too many reservations wait, or one waits too long. Requests without a key (organization 0) are
        refused instead of waiting.
        """
        line = self._lines.get(organization) or self._new_line(organization)
        rows, size = bound
        if organization:
            self.note(organization)
            if not rows:
                if line.granted >= _GRANTS_PER_TURN:
                    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    line.next_turn.append(turn)
                    await turn
                else:
                    self._count_grant(line)
        if rows or size > SMALL_READ_BYTES:
            size = self.counted(size)
            if (rows and line.waiting) or not self._may_begin(line, rows, size):
                await self._wait(line, rows, size)
                return Reservation(self, line, rows, size)
        self._grant(line, rows, size)
        return Reservation(self, line, rows, size)

    def hold(self, organization: int, size: int) -> Reservation:
        """Reserve memory that is already in use, whether or not there is room."""
        line = self._lines.get(organization) or self._new_line(organization)
        self._grant(line, 0, size)
        return Reservation(self, line, 0, size)

    def counted(self, size: int) -> int:
        """Return the bytes that a reservation counts as, so that one larger than the memory can be granted."""
        return min(size, self._max_bytes // _PARTS)

    def extend(self, reservation: Reservation, size: int) -> bool:
        """Enlarge a reservation to `size` bytes if there is room now. Returns whether it has been enlarged."""
        line, more = reservation.line, size - reservation.bytes
        if not self._may_hold(line, more):
            return False
        self._grant(line, 0, more)
        reservation.bytes = size
        return True

    def end(self, reservation: Reservation, size: int) -> None:
        """End the read of a reservation, keep `size` bytes of it, and begin the reads that wait for the rest."""
        line = reservation.line
        rows, reservation.rows = reservation.rows, 0
        more, reservation.bytes = size - reservation.bytes, size
        if rows:
            self._count_time(line)
            line.reading -= 1
            line.rows -= rows
        line.held += more
        self.held += more
        if line.waiting and (rows or more < 0):
            self._begin_next(line)
        if more < 0 and self._short:
            for each in tuple(self._short)[:_TRIED_PER_RELEASE]:
                # Moved to the end, unless nothing of it waits.
                self._short.pop(each, None)
                self._begin_next(each)

    def reserve_now(self, organization: int, size: int) -> Reservation | None:
        """Reserve memory if there is room now. Otherwise, return None and note that the organization is pressed."""
        line = self._lines.get(organization) or self._new_line(organization)
        size = self.counted(size)
        if self._may_hold(line, size):
            self._grant(line, 0, size)
            return Reservation(self, line, 0, size)
        self._pressed[organization] = self._is_pressed_by_others(line, size)
        return None

    def take_pressed(self) -> Mapping[int, bool]:
        """Return the organizations that found no memory since the last call, and whether others hold too much of it.

        Others do if the reservation of the organization would not fit even if it held nothing.
        """
        pressed, self._pressed = self._pressed, {}
        for line in self._short:
            pressed[line.organization] = self._is_pressed_by_others(line, line.waiting[0].bytes)
        return pressed

    def _is_pressed_by_others(self, line: Line, size: int) -> bool:
        return size > self._max_bytes - (self.held - line.held)

    def _count_grant(self, line: Line) -> None:
        """Count a read without rows that begins in this turn of the event loop."""
        if not line.granted:
            if not self._granting:
                asyncio.get_running_loop().call_soon(self._begin_turn)
            self._granting.append(line)
        line.granted += 1

    def _begin_turn(self) -> None:
        """Begin reads without rows that have waited for this turn of the event loop."""
        lines, self._granting = self._granting, []
        for line in lines:
            line.granted = 0
            while line.next_turn and line.granted < _GRANTS_PER_TURN:
                grant = line.next_turn.popleft()
                if not grant.done():
                    self._count_grant(line)
                    grant.set_result(None)
            if line.waiting and not line.waiting[0].rows:
                self._begin_next(line)

    async def _wait(self, line: Line, rows: int, size: int) -> None:
        if not line.organization:
            self._short.pop(line, None)
            self._pressed[0] = self._is_pressed_by_others(line, size)
            raise _no_room()
        if len(line.waiting) >= _MOST_WAITING:
            raise Overloaded("Too many large requests of this organization wait. Try again soon.")
        grant: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.waiting.append(_Waiting(rows, size, grant))
        self._begin_next(line)
        try:
            async with asyncio.timeout(_LONGEST_WAIT_SECONDS):
                await grant
        except (asyncio.CancelledError, TimeoutError) as error:
            if not grant.cancelled():
                # It was granted at the same moment.
                self.end(Reservation(self, line, rows, size), 0)
            else:
                self._begin_next(line)
            if isinstance(error, TimeoutError):
                raise _no_room() from None
            raise

    def _new_line(self, organization: int) -> Line:
        now = self._monotonic()
        if len(self._lines) >= _REMEMBERED:
            oldest = now - EVICTED_SECONDS
            self._lines = {
                key: each for key, each in self._lines.items() if not each.is_idle or each.counted_at > oldest
            }
        line = self._lines[organization] = Line(organization, now)
        return line

    def _may_begin(self, line: Line, rows: int, size: int) -> bool:
        if not self._may_hold(line, size):
            self._short[line] = None
            return False
        # While the store cannot be written, all requests fail soon. One after another, they would wait for a long time.
        if not rows or not self._is_store_healthy():
            return True
        if not line.may_read(rows):
            return False
        self._count_time(line)
        return not line.rest_seconds(1.0)

    def _may_hold(self, line: Line, size: int) -> bool:
        """Return whether an organization may hold more bytes.

        A dynamic threshold, as in `concurrency.may_send`: an organization may hold at most as much as is free. An
        organization that holds nothing may take all free memory.
        """
        free = self._max_bytes - self.held
        return size <= free if not line.held else line.held + size <= free

    def _grant(self, line: Line, rows: int, size: int) -> None:
        if rows:
            # Until now, the organization has earned time without reading.
            self._count_time(line)
            line.reading += 1
            line.rows += rows
        line.held += size
        self.held += size

    def _begin_next(self, line: Line) -> None:
        """Grant the reservations that may begin. Sets a timer if the organization has used too much time."""
        if line.timer is not None:
            line.timer.cancel()
            line.timer = None
        self._short.pop(line, None)
        while line.waiting:
            rows, size, grant = line.waiting[0]
            if grant.done():
                line.waiting.popleft()
                continue
            if not self._may_begin(line, rows, size):
                break
            if not rows and line.granted >= _GRANTS_PER_TURN:
                # There is memory for more reads than begin in a turn. `_begin_turn` begins the others.
                return
            line.waiting.popleft()
            if not rows:
                self._count_grant(line)
            self._grant(line, rows, size)
            grant.set_result(None)
        if line.waiting and not line.reading and line not in self._short:
            seconds = line.rest_seconds(self._share(line.organization))
            line.timer = asyncio.get_running_loop().call_later(seconds, self._begin_next, line)

    def _count_time(self, line: Line) -> None:
        line.count_time(self._monotonic(), self._share(line.organization))

    def _share(self, organization: int) -> float:
        """Return an organization's share of the time: 1 if no other organization is active."""
        now = self._monotonic()
        if now - self._recent_since >= _ACTIVE_SECONDS:
            # Requests before the previous period no longer count.
            self._earlier = set(self._recent) if now - self._recent_since < 2 * _ACTIVE_SECONDS else set()
            self._recent.clear()
            self._recent_since = now
        others = max(len(noted) - (organization in noted) for noted in (self._recent, self._earlier))
        return share_of_time(others)


def _no_room() -> Overloaded:
    return Overloaded(
        "Too much is being read, or waits for clients that do not read. Read earlier responses, try again soon, or ask "
        "for less at once; the operator can raise `max_unread_bytes`."
    )
