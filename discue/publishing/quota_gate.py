"""Quotas of publishing: messages a day and bytes stored, as the tallies count them.

Far from a quota its use is read at most once a second, and what this worker has stored since is taken for what each of
the others has, too. From nine tenths of the quota on every publish reads its use: then one worker alone never stores
more than the quota. Of several, each may add what it has in flight at that moment.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from discue.domain.clock import Clock
from discue.domain.quotas import PublishUsage, Quotas, check_publishing, fits, is_near
from discue.store import tallies
from discue.store.engine import Transaction
from discue.store.store import Store

DAY_MS: Final = 86_400_000

_PERIODS_A_DAY: Final = DAY_MS // tallies.PERIOD_MS
_OPEN_PERIODS: Final = 2
"""Messages may be stored a while after the time that they are counted under."""

_LOOK_SECONDS: Final = 1.0
_LOOKS: Final = 3
_REMEMBERED: Final = 10_000

_NOTHING: Final = PublishUsage()


class _Use:
    """What this worker knows of an organization.

    `seen` is from the store, `stored` what this worker has stored since that look began, `in_flight` what it is about
    to store. `closed` are the messages of the day before the period `open_from`.
    """

    __slots__ = ("closed", "day", "in_flight", "lock", "looked_at", "open_from", "seen", "settled", "stored")

    def __init__(self) -> None:
        self.day = -1
        self.open_from = self.closed = 0
        self.looked_at = 0.0
        self.seen = self.stored = self.in_flight = _NOTHING
        self.settled = asyncio.Event()
        self.lock = asyncio.Lock()

    @property
    def unseen(self) -> PublishUsage:
        return self.stored + self.in_flight

    @property
    def is_in_use(self) -> bool:
        return self.in_flight.messages > 0 or self.lock.locked()

    async def settle(self) -> None:
        """Wait until nothing is in flight."""
        while self.in_flight.messages:
            self.settled.clear()
            await self.settled.wait()


class QuotaGate:
    """Used from one event loop."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._uses: dict[int, _Use] = {}

    @asynccontextmanager
    async def room(self, organization: int, quotas: Quotas, more: PublishUsage) -> AsyncIterator[None]:
        """Within the block so much more may be stored. Raises QuotaUsedUp when it does not fit."""
        use = self._use(organization)
        if self._is_known(use) and not is_near(quotas, use.seen, use.unseen + more, self._store.workers):
            use.in_flight += more
        else:
            async with use.lock:
                await self._look_closely(organization, use, quotas, more)
                use.in_flight += more
        try:
            yield
            use.stored += more
        finally:
            use.in_flight = PublishUsage(use.in_flight.messages - more.messages, use.in_flight.bytes - more.bytes)
            use.settled.set()

    def _use(self, organization: int) -> _Use:
        use = self._uses.get(organization)
        if use is None:
            if len(self._uses) >= _REMEMBERED:
                self._uses = {key: known for key, known in self._uses.items() if known.is_in_use}
            use = self._uses[organization] = _Use()
        return use

    def _is_known(self, use: _Use) -> bool:
        is_fresh = self._clock.monotonic() - use.looked_at < _LOOK_SECONDS
        return is_fresh and use.day == self._clock.now() // DAY_MS

    async def _look_closely(self, organization: int, use: _Use, quotas: Quotas, more: PublishUsage) -> None:
        """Look, and check. What was in flight at the look may have been counted twice: then look again without it."""
        for _ in range(_LOOKS):
            before = use.in_flight
            await self._look(organization, use)
            if fits(quotas, use.seen + use.unseen, more) or not before.messages:
                break
            await use.settle()
        check_publishing(quotas, use.seen + use.unseen, more)

    async def _look(self, organization: int, use: _Use) -> None:
        now, began_at = self._clock.now(), self._clock.monotonic()
        use.stored = _NOTHING
        day, period = now // DAY_MS, tallies.period_of(now)
        if use.day != day:
            use.day, use.open_from, use.closed = day, day * _PERIODS_A_DAY, 0
        closing = range(use.open_from, max(use.open_from, period + 1 - _OPEN_PERIODS))
        end = (day + 1) * _PERIODS_A_DAY
        closed, opened, stored = await self._store.read(
            partial(_read, organization=organization, closing=closing, still_open=range(closing.stop, end))
        )
        use.closed, use.open_from = use.closed + closed, closing.stop
        use.seen = PublishUsage(use.closed + opened, stored)
        use.looked_at = began_at


async def _read(tx: Transaction, organization: int, closing: range, still_open: range) -> tuple[int, int, int]:
    closed = await tallies.count_messages(tx, organization, closing) if closing else 0
    opened = await tallies.count_messages(tx, organization, still_open)
    return closed, opened, await tallies.bytes_stored(tx, organization)
