"""Quotas of publishing: messages per day and bytes stored, by the counters in the store.

Below nine tenths of a quota, its usage is read at most once per second, and this worker's publishes since then are
assumed for each other worker, too. Above that, every publish reads the usage: a single worker never exceeds the quota,
and each of several workers can exceed it by what it has in flight at that moment.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import msgspec

from discue.domain.clock import Clock
from discue.domain.ids import RowIds
from discue.domain.quotas import (
    REPORTED_TENTHS,
    PublishUsage,
    QuotaName,
    Quotas,
    check_publishing,
    fits,
    is_near,
    reported_use,
)
from discue.domain.system_events import QuotaNear
from discue.store import organizations, system_events, tallies
from discue.store.engine import Transaction
from discue.store.store import Store

DAY_MS: Final = 86_400_000

_OPEN_PERIODS: Final = 2
"""Counter periods that can still change: messages may be stored later than the time that they are counted under."""

_CACHE_SECONDS: Final = 1.0
_READS: Final = 3
_REMEMBERED: Final = 10_000

_NOTHING: Final = PublishUsage()


class _Use(msgspec.Struct, eq=False):
    """The usage of an organization, as this worker knows it."""

    day: int = -1
    open_from: int = 0
    """First counter period of the day that can still change."""
    closed: int = 0
    """Messages of the day before that period."""
    read_at: float = 0.0
    seen: PublishUsage = _NOTHING
    """Usage at the last read of the store."""
    stored: PublishUsage = _NOTHING
    """Load that this worker has stored since that read began."""
    in_flight: PublishUsage = _NOTHING
    reported: set[QuotaName] = msgspec.field(default_factory=set)
    """The quotas whose use was reported on that day."""
    settled: asyncio.Event = msgspec.field(default_factory=asyncio.Event)
    lock: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)

    @property
    def unseen(self) -> PublishUsage:
        return self.stored + self.in_flight

    @property
    def is_in_use(self) -> bool:
        return self.in_flight.messages > 0 or self.lock.locked()


class QuotaGate:
    """Admits publishes while they fit the quotas of their organization. Used from one event loop."""

    def __init__(self, store: Store, clock: Clock, row_ids: RowIds) -> None:
        self._store = store
        self._clock = clock
        self._row_ids = row_ids
        self._uses: dict[int, _Use] = {}

    @asynccontextmanager
    async def reserve(self, account: int, quotas: Quotas, more: PublishUsage) -> AsyncIterator[None]:
        """Reserve a load of an account for the duration of the block. Raises QuotaExceeded if it does not fit."""
        use = self._use(account)
        is_fresh = self._clock.monotonic() - use.read_at < _CACHE_SECONDS and use.day == self._clock.now() // DAY_MS
        if is_fresh and not self._needs_reading(use, quotas, more):
            use.in_flight += more
        else:
            # One at a time: of two that read the same usage at once, both could take what is left.
            async with use.lock:
                await self._check(account, use, quotas, more)
                use.in_flight += more
        try:
            yield
            use.stored += more
        finally:
            use.in_flight = PublishUsage(use.in_flight.messages - more.messages, use.in_flight.bytes - more.bytes)
            use.settled.set()

    def _needs_reading(self, use: _Use, quotas: Quotas, more: PublishUsage) -> bool:
        """Return whether the exact usage decides about a publish, or about an event."""
        unseen, workers = use.unseen + more, self._store.workers
        if not is_near(quotas, use.seen, unseen, workers, tenths=REPORTED_TENTHS):
            return False
        everywhere = PublishUsage(unseen.messages * workers, unseen.bytes * workers)
        return is_near(quotas, use.seen, unseen, workers) or bool(_unreported(use, quotas, use.seen + everywhere))

    def _use(self, organization: int) -> _Use:
        use = self._uses.get(organization)
        if use is None:
            if len(self._uses) >= _REMEMBERED:
                self._uses = {key: known for key, known in self._uses.items() if known.is_in_use}
            use = self._uses[organization] = _Use()
        return use

    async def _check(self, organization: int, use: _Use, quotas: Quotas, more: PublishUsage) -> None:
        """Read the usage and raise QuotaExceeded if the load does not fit.

        A publish in flight may have been counted twice, by the read and as in flight: wait for it and read again.
        """
        for _ in range(_READS):
            before = use.in_flight
            await self._read(organization, use)
            if fits(quotas, use.seen + use.unseen, more) or not before.messages:
                break
            while use.in_flight.messages:
                use.settled.clear()
                await use.settled.wait()
        used = use.seen + use.unseen
        await self._report(organization, use, quotas, used + more if fits(quotas, used, more) else used)
        check_publishing(quotas, use.seen + use.unseen, more)

    async def _report(self, organization: int, use: _Use, quotas: Quotas, used: PublishUsage) -> None:
        """Record an event for each quota that is nearly used up, unless one was recorded today."""
        for event in _unreported(use, quotas, used, at=self._clock.now()):
            record = partial(system_events.record_quota, organization=organization, event_id=self._row_ids.next())
            await self._store.write(partial(record, event=event))
            use.reported.add(event.quota)

    async def _read(self, organization: int, use: _Use) -> None:
        now, started_at = self._clock.now(), self._clock.monotonic()
        # Before the read, not after it: a publish that ends meanwhile is counted twice rather than not at all.
        use.stored = _NOTHING
        day, period = now // DAY_MS, tallies.period_of(now)
        if use.day != day:
            use.day, use.open_from, use.closed = day, day * tallies.PERIODS_A_DAY, 0
            use.reported = set()
        # Periods that no longer change are counted once: a read late in the day costs no more than an early one.
        closing = range(use.open_from, max(use.open_from, period + 1 - _OPEN_PERIODS))
        end = (day + 1) * tallies.PERIODS_A_DAY

        async def work(tx: Transaction) -> tuple[int, int, int]:
            closed = await organizations.count_messages(tx, organization, closing) if closing else 0
            opened = await organizations.count_messages(tx, organization, range(closing.stop, end))
            return closed, opened, await organizations.bytes_stored(tx, organization)

        closed, opened, stored = await self._store.read(work)
        use.closed, use.open_from = use.closed + closed, closing.stop
        use.seen = PublishUsage(use.closed + opened, stored)
        use.read_at = started_at


def _unreported(use: _Use, quotas: Quotas, used: PublishUsage, at: int = 0) -> list[QuotaNear]:
    """Return events for the quotas that are nearly used up and were not reported today."""
    return [
        QuotaNear(at=at, quota=name, limit=quota, used=used_of)
        for name, quota, used_of in reported_use(quotas, used)
        if name not in use.reported
    ]
