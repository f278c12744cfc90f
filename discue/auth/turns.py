"""Turns of large requests and lists: those of an organization leave time to the requests of other organizations.

Such a request keeps the event loop and the store busy for long, and everything else waits meanwhile. So an
organization handles a few at once, and while others send requests too, it uses no more than its fair share of the time:
half of it with one other organization. In the rest of the time, the service is as fast as without it.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from discue.domain.errors import Overloaded

LARGE_BYTES: Final = 16_384
"""Requests with larger bodies take turns. So do batches of any size, and lists, which may search."""

LIST_BYTES: Final = 131_072
"""The size of a body that takes about as long as a search."""

_TOGETHER_BYTES: Final = 1 << 20
"""The bodies that an organization may have handled at once, unless a single one is larger."""

_MOST_WAITING: Final = 256

_ACTIVE_SECONDS: Final = 1.0
"""An organization is active for one to two of these periods after a request."""

_MOST_SHARES: Final = 4
"""The time is divided into at most this many shares: an organization gets at least one of them."""

_BURST_SECONDS: Final = 0.1
"""The time that an organization may use beyond its share, after it has used less."""

_LONGEST_DEBT_SECONDS: Final = 1.0
_TOLERANCE_SECONDS: Final = 0.001
_REMEMBERED: Final = 1_000


class _Line:
    """The large requests of one organization."""

    __slots__ = ("bytes", "counted_at", "credit", "handled", "organization", "timer", "waiting")

    def __init__(self, organization: int, now: float) -> None:
        self.organization = organization
        self.handled = 0
        """Requests that are being handled."""
        self.bytes = 0
        """The size of their bodies."""
        self.credit = _BURST_SECONDS
        """The time that it may use; negative while it has used too much."""
        self.counted_at = now
        self.waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.timer: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        return not self.handled and not self.waiting


class LargeRequest:
    """A large request that is being handled. It must be ended."""

    __slots__ = ("line", "size")

    def __init__(self, line: _Line, size: int) -> None:
        self.line = line
        self.size = size


class Turns:
    """Lets large requests begin. Used from one event loop."""

    def __init__(self, monotonic: Callable[[], float], is_store_healthy: Callable[[], bool] = lambda: True) -> None:
        self._monotonic = monotonic
        self._is_store_healthy = is_store_healthy
        self._lines: dict[int, _Line] = {}
        self._recent: set[int] = set()
        self.note: Callable[[int], None] = self._recent.add
        """Notes that an organization is active. Runs for each request, so it is no more than this."""
        self._earlier: set[int] = set()
        self._recent_since = monotonic()

    async def begin(self, organization: int, size: int) -> LargeRequest:
        """Return when it is the turn of a request with a body of this size. Raises Overloaded if too many wait."""
        line = self._line(organization)
        if len(line.waiting) >= _MOST_WAITING:
            raise Overloaded("Too many large requests of this organization wait. Try again soon.")
        if line.waiting or not self._may_begin(line, size):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            line.waiting.append((size, turn))
            self._begin_next(line)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    # The turn has come in the same moment.
                    self.end(LargeRequest(line, size))
                raise
        else:
            line.handled += 1
            line.bytes += size
        return LargeRequest(line, size)

    def end(self, turn: LargeRequest) -> None:
        """End a turn, and begin what waits for it."""
        line = turn.line
        self._count_time(line)
        line.handled -= 1
        line.bytes -= turn.size
        self._begin_next(line)

    def _line(self, organization: int) -> _Line:
        line = self._lines.get(organization)
        if line is None:
            now = self._monotonic()
            if len(self._lines) >= _REMEMBERED:
                oldest = now - _LONGEST_DEBT_SECONDS * _MOST_SHARES
                self._lines = {
                    key: each for key, each in self._lines.items() if not each.is_idle or each.counted_at > oldest
                }
            line = self._lines[organization] = _Line(organization, now)
        return line

    def _may_begin(self, line: _Line, size: int) -> bool:
        # While the store cannot be written, requests fail together, soon: one after another they would wait for long.
        if not self._is_store_healthy():
            return True
        if line.handled and line.bytes + size > _TOGETHER_BYTES:
            return False
        self._count_time(line)
        # A timer may strike a little early.
        return line.credit > -_TOLERANCE_SECONDS

    def _begin_next(self, line: _Line) -> None:
        """Begin the requests that may begin. Sets a timer for a line that has used too much time."""
        if line.timer is not None:
            line.timer.cancel()
            line.timer = None
        while line.waiting:
            size, turn = line.waiting[0]
            if turn.done():
                line.waiting.popleft()
                continue
            if not self._may_begin(line, size):
                break
            line.waiting.popleft()
            line.handled += 1
            line.bytes += size
            turn.set_result(None)
        if line.waiting and not line.handled:
            seconds = max(0.0, -line.credit / self._share(line.organization))
            line.timer = asyncio.get_running_loop().call_later(seconds, self._begin_next, line)

    def _count_time(self, line: _Line) -> None:
        """Add the time since the last count to the credit, or subtract it."""
        now = self._monotonic()
        passed = now - line.counted_at
        line.counted_at = now
        earned = passed * self._share(line.organization)
        used = passed if line.handled else 0.0
        # Requests that overlap use their time once.
        line.credit = max(-_LONGEST_DEBT_SECONDS, min(_BURST_SECONDS, line.credit + earned - used))

    def _share(self, organization: int) -> float:
        """Return an organization's share of the time: one if no other one is active."""
        now = self._monotonic()
        if now - self._recent_since >= _ACTIVE_SECONDS:
            # Requests before the last period are too old.
            self._earlier = set(self._recent) if now - self._recent_since < 2 * _ACTIVE_SECONDS else set()
            self._recent.clear()
            self._recent_since = now
        others = max(len(noted) - (organization in noted) for noted in (self._recent, self._earlier))
        return 1 / min(_MOST_SHARES, others + 1)
