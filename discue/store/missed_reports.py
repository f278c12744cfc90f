"""Reports of missed deliveries. Settles count what is missed; the system event of it follows in a commit of its own.

A row is kept for a minute after its event, so that the next event of the listener comes no sooner. The count is stored
with the miss, and taken with the event: a crash in between delays the event, and none is lost or repeated.
"""

from collections.abc import Sequence
from typing import Final

from discue.domain.model import MISSED_REASONS
from discue.domain.system_events import REPORT_INTERVAL_MS, MessageMissed, ResourceName
from discue.store import listeners, missed, queues, system_events
from discue.store.engine import Row, Transaction
from discue.store.tables import read_one

_MESSAGES_NAMED: Final = 10
_COUNTS: Final = ("n", *MISSED_REASONS)
_DUE: Final = f"""
    SELECT organization, listener, since, {", ".join(_COUNTS)} FROM missed_report
    WHERE due_at <= $1 ORDER BY due_at LIMIT $2"""
_NEXT: Final = "SELECT due_at FROM missed_report ORDER BY due_at LIMIT 1"
# Subtracted, not set to 0: a settle may have counted more since the row was read.
_TAKE: Final = f"""
    UPDATE missed_report SET {", ".join(f"{name} = {name} - ${place}" for place, name in enumerate(_COUNTS, 1))},
        since = ${len(_COUNTS) + 1}, due_at = ${len(_COUNTS) + 2}
    WHERE organization = ${len(_COUNTS) + 3} AND listener = ${len(_COUNTS) + 4}"""
_DELETE: Final = "DELETE FROM missed_report WHERE organization = $1 AND listener = $2 AND n = 0"


async def next_at(tx: Transaction) -> int | None:
    """Return when the next report is due, in milliseconds since the epoch; None if there is none."""
    return await read_one(tx, lambda row: int(row[0]), _NEXT)


async def report(tx: Transaction, now: int, event_ids: Sequence[int]) -> list[MessageMissed]:
    """Record the events that are due, at most one for each of the ids, and return them.

    Requires an exclusive transaction: two workers must not report the same deliveries.
    """
    rows = await tx.rows(_DUE, now, len(event_ids))
    reports: list[MessageMissed] = []
    # Sorted, so that heads of system queues are locked in one order.
    for event_id, row in zip(event_ids, sorted(rows), strict=False):
        if (event := await _report(tx, row, now, event_id)) is not None:
            reports.append(event)
    return reports


async def _report(tx: Transaction, row: Row, now: int, event_id: int) -> MessageMissed | None:
    organization, listener, since, *counts = row
    if not counts[0]:
        await tx.execute(_DELETE, organization, listener)
        return None
    await tx.execute(_TAKE, *counts, now, now + REPORT_INTERVAL_MS, organization, listener)
    missed_by = await listeners.by_id(tx, organization, listener)
    queue = await queues.by_id(tx, organization, missed_by.queue) if missed_by is not None else None
    # An event about missed events could be missed, too, and so on without end.
    if missed_by is None or queue is None or queue.is_system:
        return None
    event = MessageMissed(
        at=now,
        listener=ResourceName(missed_by.public_id, missed_by.alias),
        queue=ResourceName(queue.public_id, queue.alias),
        count=counts[0],
        since=since,
        reasons={reason: count for reason, count in zip(MISSED_REASONS, counts[1:], strict=True) if count},
        message_ids=await missed.newest_ids(tx, missed_by, min(counts[0], _MESSAGES_NAMED)),
    )
    await system_events.record(tx, organization, event_id, event)
    return event
