"""Reports of damage in the database: a log event, and a system event of the queue's organization."""

from functools import partial
from typing import Final

from discue.control.context import ControlContext
from discue.domain.errors import StoreDamaged
from discue.domain.system_events import ResourceName, StoreDamage
from discue.observability.logs import Log
from discue.store import queues, system_events
from discue.store.engine import QueueKey, Transaction
from discue.store.store import DAMAGE_REMEDY

_PENDING: Final = 1_000


class DamageReports:
    """Reports each damaged part once. While the system event cannot be stored, it stays pending."""

    def __init__(self, control: ControlContext, log: Log) -> None:
        self._control = control
        self._log = log
        self._pending: list[QueueKey] = []

    async def report(self) -> None:
        """Report damage that was noted since the last call. Raises Unavailable if an event cannot be stored yet."""
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


async def _record(tx: Transaction, queue: QueueKey, event_id: int, now: int) -> ResourceName | None:
    """Record the event, and return the name of the queue; None if it was deleted."""
    found = await queues.by_id(tx, *queue)
    name = None if found is None else ResourceName(found.public_id, found.alias)
    if name is not None:
        await system_events.record(tx, queue[0], event_id, StoreDamage(at=now, queue=name))
    return name
