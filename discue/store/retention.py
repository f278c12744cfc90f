"""Retention: deleting what has expired, in small steps, each by a key or an index."""

import msgspec

from discue.domain.ids import row_id_at
from discue.store import message_log
from discue.store.engine import Transaction
from discue.store.message_log import last_seq_stored_before
from discue.store.tables import read_one

STEP_ROWS = 500
DETAILS_A_STEP = 100
"""An attempt's details can have 32 KiB."""


class _Retention(msgspec.Struct):
    """The retention in the settings of a queue or an organization."""

    retention_seconds: int | None = None


class LogToTrim(msgspec.Struct, frozen=True):
    """A queue's log, and how long its messages are kept."""

    organization: int
    queue: int
    tail: int
    head: int
    retention_seconds: int | None
    """The queue's own, or else that of its organization; None: neither has one."""


_LOGS = """
SELECT h.organization, h.queue, h.tail, h.head, q.settings, coalesce(o.settings, '{}')
FROM queue_head h JOIN queue q ON q.organization = h.organization AND q.id = h.queue
LEFT JOIN organization o ON o.id = h.organization
WHERE (h.organization, h.queue) > ($1, $2) ORDER BY h.organization, h.queue LIMIT $3"""
_LOWEST_CURSOR = "SELECT min(position) FROM cursor WHERE organization = $1 AND queue = $2"
_STEP_END = """
SELECT max(seq), count(*) FROM (
    SELECT seq FROM log WHERE organization = $1 AND queue = $2 AND seq > $3 AND seq <= $4
    ORDER BY seq LIMIT $5
) AS step"""
_DELETE_MESSAGES = """
DELETE FROM log WHERE organization = $1 AND queue = $2 AND seq > $3 AND seq <= $4 AND kind = 0
AND NOT EXISTS (
    SELECT 1 FROM exception e
    WHERE e.organization = log.organization AND e.queue = log.queue AND e.seq = log.seq
) AND NOT EXISTS (
    SELECT 1 FROM missed_range m WHERE m.organization = log.organization AND m.queue = log.queue
    AND m.seq_to >= log.seq AND m.seq_from <= log.seq
) AND NOT EXISTS (
    SELECT 1 FROM exception b WHERE b.organization = log.organization AND b.queue = log.queue
    AND b.key_hash = log.key_hash AND b.seq < log.seq AND b.blocked > 0
) RETURNING size, body_id"""
_OLDEST = """
SELECT seq, stored_at FROM log WHERE organization = $1 AND queue = $2 AND seq > $3 ORDER BY seq LIMIT 1"""
_RAISE_TAIL = """
UPDATE queue_head SET tail = $1 WHERE organization = $2 AND queue = $3 AND tail < $1"""
# The state is checked again in the deletion: a delivery may be made due again at this moment.
_DELETE_MISSED = """
DELETE FROM exception WHERE state = 'missed' AND (organization, listener, stream, seq) IN (
    SELECT organization, listener, stream, seq FROM exception
    WHERE state = 'missed' AND key_hash IS NULL AND due_at < $1
    ORDER BY due_at LIMIT $2
)"""
_DELETE_MISSED_RANGES = """
DELETE FROM missed_range WHERE (organization, listener, seq_from) IN (
    SELECT organization, listener, seq_from FROM missed_range WHERE missed_at < $1 ORDER BY missed_at LIMIT $2
)"""


def _old_records(table: str) -> str:
    return f"""
    DELETE FROM {table} WHERE (organization, id) IN (
        SELECT organization, id FROM {table} WHERE organization = $1 AND id < $2 ORDER BY id LIMIT $3
    )"""


def _ended(table: str) -> str:
    return f"""
    DELETE FROM {table} WHERE (organization, id) IN (
        SELECT organization, id FROM {table} WHERE ended_at < $1 ORDER BY ended_at LIMIT $2
    )"""


_NEXT_ORGANIZATION = "SELECT id FROM organization WHERE id > $1 ORDER BY id LIMIT 1"


async def logs_after(tx: Transaction, after: tuple[int, int], limit: int) -> list[LogToTrim]:
    """Read logs in the order of organization and queue."""
    rows = await tx.rows(_LOGS, *after, limit)
    return [LogToTrim(row[0], row[1], row[2], row[3], _retention_seconds(row[4], row[5])) for row in rows]


async def has_old_messages(tx: Transaction, log: LogToTrim, stored_before: int) -> bool:
    """Return whether the oldest message of a log was stored before a time: otherwise there is nothing to trim."""
    row = await tx.row(_OLDEST, log.organization, log.queue, log.tail)
    return row is not None and row[1] < stored_before


async def trim_log(tx: Transaction, log: LogToTrim, after: int, stored_before: int) -> int:
    """Delete up to 500 settled messages beyond `after` that were stored before a time.

    A message stays while it is not due, a cursor has not passed it, or a delivery row or missed range refers to it.
    Returns the seq that the step reached; `after` if nothing is left to do.
    """
    # No listener may lose a message that its cursor has not passed, so the slowest cursor limits the step.
    row = await tx.row(_LOWEST_CURSOR, log.organization, log.queue)
    settled = log.head if row is None or row[0] is None else min(log.head, row[0])
    if settled <= after:
        return after
    key = (log.organization, log.queue)
    last = await last_seq_stored_before(tx, *key, (after, settled), before=stored_before)
    # The step counts messages that exist: holes in the log cost nothing.
    step = await tx.row(_STEP_END, *key, after, last, STEP_ROWS)
    if step is None or step[0] is None:
        return after
    end: int = step[0]
    await message_log.release_bodies(tx, log.organization, await tx.rows(_DELETE_MESSAGES, *key, after, end))
    # Messages that stay, because something refers to them, hold the tail back. Below the tail, readers expect nothing.
    kept = await tx.row(_OLDEST, *key, log.tail)
    await tx.execute(_RAISE_TAIL, (kept[0] - 1) if kept else end, *key)
    return end


async def delete_missed(tx: Transaction, missed_before: int) -> int:
    """Delete some expired missed deliveries, and return how many."""
    delivery_rows = await tx.execute(_DELETE_MISSED, missed_before, STEP_ROWS)
    return delivery_rows + await tx.execute(_DELETE_MISSED_RANGES, missed_before, STEP_ROWS)


async def delete_attempts(tx: Transaction, organization: int, made_before: int) -> int:
    """Delete some of an organization's old attempts, and return how many."""
    return await tx.execute(_old_records("attempt"), organization, row_id_at(made_before), STEP_ROWS)


async def delete_details(tx: Transaction, organization: int, made_before: int) -> int:
    """Delete some details of an organization's old attempts, and return how many."""
    return await tx.execute(_old_records("attempt_detail"), organization, row_id_at(made_before), DETAILS_A_STEP)


async def delete_events(tx: Transaction, organization: int, recorded_before: int) -> int:
    """Delete some of an organization's old events, and return how many."""
    return await tx.execute(_old_records("event"), organization, row_id_at(recorded_before), STEP_ROWS)


async def delete_redeliveries(tx: Transaction, ended_before: int) -> int:
    """Delete some ended redeliveries, and return how many."""
    return await tx.execute(_ended("redelivery"), ended_before, STEP_ROWS)


async def delete_replays(tx: Transaction, ended_before: int) -> int:
    """Delete some ended replays, and return how many."""
    return await tx.execute(_ended("replay"), ended_before, STEP_ROWS)


async def next_organization(tx: Transaction, after: int) -> int | None:
    """Return the next organization by row id, including deleted ones."""
    return await read_one(tx, lambda row: int(row[0]), _NEXT_ORGANIZATION, after)


def _retention_seconds(queue: str, organization: str) -> int | None:
    chosen = msgspec.json.decode(queue, type=_Retention).retention_seconds
    return msgspec.json.decode(organization, type=_Retention).retention_seconds if chosen is None else chosen
