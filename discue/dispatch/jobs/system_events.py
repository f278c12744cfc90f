"""Jobs for system events: reports of missed deliveries, of refused requests to sources, and of faults of the database
and the egress proxy."""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Final

from discue.control.context import ControlContext
from discue.dispatch.lease import Leadership
from discue.domain.errors import StoreDamaged, Unavailable
from discue.domain.system_events import EgressProxyFailing, ResourceName, StoreDamage
from discue.observability.logs import Log
from discue.store import missed, queues, sources, system_events
from discue.store.engine import QueueKey, Transaction
from discue.store.store import DAMAGE_REMEDY

_REPORTS_A_STEP: Final = 50
_LONGEST_PAUSE_SECONDS: Final = 15.0
_PENDING: Final = 1_000
_SOURCES_A_ROUND: Final = 10


class MissedReports:
    """Reports missed deliveries: this worker's at once, and those that other workers have left every few seconds.

    Only the leader looks for the latter. Several workers that report at the same time do no harm.
    """

    def __init__(self, control: ControlContext, log: Log, leadership: Leadership) -> None:
        self._control = control
        self._log = log
        self._leadership = leadership
        self._requested = asyncio.Event()
        self._next_at: int | None = None

    def request(self) -> None:
        """Report what a settle of this worker has just missed."""
        self._requested.set()

    async def round(self) -> None:
        """Wait until there may be something to report, and report it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pause_seconds()):
                await self._requested.wait()
        now = self._control.clock.now()
        if self._requested.is_set() or self._leadership.is_held or (self._next_at or now + 1) <= now:
            self._requested.clear()
            await self.report()

    async def report(self) -> None:
        store, now = self._control.store, self._control.clock.now()
        # Usually nothing is due: this read spares an exclusive transaction.
        self._next_at = await store.read(missed.next_report_at)
        while self._next_at is not None and self._next_at <= now:
            ids = [self._control.row_ids.next() for _ in range(_REPORTS_A_STEP)]
            for event in await store.write_exclusively(partial(missed.report, now=now, event_ids=ids)):
                reasons = ",".join(f"{reason}:{count}" for reason, count in event.reasons.items())
                self._log.info(
                    "messages_missed",
                    listener=event.listener.id,
                    queue=event.queue.id,
                    count=event.count,
                    reasons=reasons,
                )
            self._next_at = await store.read(missed.next_report_at)

    def _pause_seconds(self) -> float:
        if self._next_at is None:
            return _LONGEST_PAUSE_SECONDS
        until_due = (self._next_at - self._control.clock.now()) / 1_000
        return min(max(0.0, until_due), _LONGEST_PAUSE_SECONDS)


class FaultReports:
    """Reports each fault once. While the system event cannot be stored, it stays pending."""

    def __init__(self, control: ControlContext, log: Log) -> None:
        self._control = control
        self._log = log
        self._pending: list[QueueKey] = []
        self._without_proxy: list[int] = []
        """Organizations to which a failure of the egress proxy must still be reported."""

    async def report(self) -> None:
        """Report what was noted since the last call. Raises Unavailable if an event cannot be stored yet."""
        for organization in self._control.store.proxy_faults.take_new():
            # The log writes equal lines once.
            self._log.warning("egress_proxy_failing")
            if organization is not None and len(self._without_proxy) < _PENDING:
                self._without_proxy.append(organization)
        for part in self._control.store.damage.take_new():
            if part is None:
                self._log.error("store_damaged", queue="", hint=DAMAGE_REMEDY)
            elif len(self._pending) < _PENDING:
                self._pending.append(part)
        while self._pending:
            queue, now = self._pending[0], self._control.clock.now()
            work = partial(_record, queue=queue, event_id=self._control.row_ids.next(), now=now)
            try:
                name = await self._control.store.write(work)
            except StoreDamaged:
                # The system queue is damaged, too. Only the log, the metric and the readiness check report it.
                name = None
            self._pending.remove(queue)
            self._log.error("store_damaged", queue="" if name is None else name.id, hint=DAMAGE_REMEDY)
        while self._without_proxy:
            event, event_id = EgressProxyFailing(at=self._control.clock.now()), self._control.row_ids.next()
            organization = self._without_proxy[0]
            record = partial(system_events.record, organization=organization, event_id=event_id, event=event)
            # If the system queue is damaged, the log and the metric report the proxy.
            with suppress(StoreDamaged):
                await self._control.store.write(record)
            del self._without_proxy[0]


class RefusalReports:
    """Stores and reports the requests to sources that this worker has refused, with one write a second for each."""

    def __init__(self, control: ControlContext, log: Log) -> None:
        self._control = control
        self._log = log

    async def report(self) -> None:
        """Store what was noted for the sources that have waited longest. Raises Unavailable if that is impossible."""
        control = self._control
        for source, refusals in control.store.refusals.take(_SOURCES_A_ROUND):
            event_id, now = control.row_ids.next(), control.clock.now()
            work = partial(sources.keep_refusals, public_id=source, fresh=refusals, event_id=event_id, now=now)
            try:
                event = await control.store.write_exclusively(work)
            except Unavailable:
                control.store.refusals.put_back(source, refusals)
                raise
            if event is not None:
                reasons = ",".join(f"{reason}:{count}" for reason, count in event.reasons.items())
                self._log.warning("source_refusing", source=source, count=event.count, reasons=reasons)


async def _record(tx: Transaction, queue: QueueKey, event_id: int, now: int) -> ResourceName | None:
    """Record the event, and return the name of the queue; None if it was deleted."""
    found = await queues.by_id(tx, *queue)
    name = None if found is None else ResourceName(found.public_id, found.alias)
    if name is not None:
        await system_events.record(tx, queue[0], event_id, StoreDamage(at=now, queue=name))
    return name
