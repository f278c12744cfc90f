"""Polling and log pages on PostgreSQL: one statement each, so that each result is of one moment."""

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from discue.domain.messages import Entry
from discue.store.engine import ClusterSnapshot, LogPage, QueueKey, WorkerRow
from discue.store.message_log import entry_of_page_row

_FREE_SHOWN: Final = 1_000
_EPOCH, _FEED, _JOBS, _MEMBER, _FREE, _HEAD, _SCHEDULED = range(7)

# On `= ANY (ARRAY[x])` see `postgres_append`.
POLL: Final = f"""
SELECT {_EPOCH} AS kind, 0::bigint AS a, 0::bigint AS b, 0::bigint AS c, 0::bigint AS d, 0::bigint AS e,
    0::bigint AS f, value AS text FROM meta WHERE key = 'epoch'
UNION ALL
SELECT {_FEED}, version, 0, 0, 0, 0, 0, '' FROM feed_head WHERE shard = 0
UNION ALL
SELECT {_JOBS}, 1, 0, 0, 0, 0, 0, '' WHERE EXISTS (SELECT 1 FROM job WHERE state = 'waiting')
UNION ALL
(SELECT {_MEMBER}, incarnation, slot, lease_ms, lease_until - clock_ms(), leaves, dead, role FROM worker
    ORDER BY incarnation)
UNION ALL
(SELECT {_FREE}, organization, listener, stream, 0, 0, 0, '' FROM cursor
    WHERE owner IS NULL AND stream = 0 ORDER BY organization, listener, stream LIMIT {_FREE_SHOWN})
UNION ALL
(SELECT {_SCHEDULED}, due_at, 0, 0, 0, 0, 0, '' FROM scheduled WHERE due_at >= 0 ORDER BY due_at LIMIT 1)
UNION ALL
(SELECT {_SCHEDULED}, next_run_at, 0, 0, 0, 0, 0, '' FROM schedule WHERE next_run_at IS NOT NULL
    ORDER BY next_run_at LIMIT 1)
UNION ALL
SELECT {_HEAD}, h.organization, h.queue, h.head, 0, 0, 0, ''
FROM unnest($1::bigint[], $2::bigint[]) AS w (organization, queue)
JOIN queue_head h ON h.organization = ANY (ARRAY[w.organization]) AND h.queue = w.queue
"""

# Bodies beyond the page's size are not sent: of the first entry that does not fit only the seq is read.
PAGE: Final = """
SELECT h.head, e.seq, e.id, e.stored_at, e.codec, CASE WHEN e.place = 1 OR e.total <= $5 THEN coalesce(e.body, (
        SELECT b.bytes FROM body b WHERE b.organization = $1 AND b.id = e.body_id)) END,
    e.expires_at, e.key_hash, e.extra, e.kind, e.origin_seq
FROM queue_head h LEFT JOIN LATERAL (
    SELECT l.*, sum(l.size) OVER so_far AS total, row_number() OVER so_far AS place
    FROM (
        SELECT seq, id, stored_at, codec, CASE kind WHEN 0 THEN size::int ELSE 0 END AS size,
            CASE kind WHEN 0 THEN body ELSE ''::bytea END AS body, body_id, expires_at, key_hash, extra, kind,
            origin_seq
        FROM log WHERE organization = $1 AND queue = $2 AND seq > $3 ORDER BY seq LIMIT $4
    ) AS l
    WINDOW so_far AS (ORDER BY l.seq ROWS UNBOUNDED PRECEDING)
) AS e ON e.place <= 2 OR e.total - e.size <= $5
WHERE h.organization = $1 AND h.queue = $2
"""


async def page(connection: asyncpg.Connection, key: QueueKey, after: int, rows: int, max_bytes: int) -> LogPage:
    """Read a page; see `engine.Engine.page`."""
    entries: list[Entry] = []
    head, cut = after, False
    found = await connection.fetch(PAGE, *key, after, rows, max_bytes)
    for newest, *row in found:
        head = newest
        if row[0] is None:
            break
        if row[4] is None:
            cut = True
            break
        entries.append(entry_of_page_row(tuple(row)))
    whole = not cut and len(entries) < rows
    return LogPage(head, max(head, after) if whole else entries[-1].seq, tuple(entries))


async def poll(connection: asyncpg.Connection, queues: Sequence[QueueKey]) -> ClusterSnapshot:
    """Read a snapshot; see `engine.Engine.poll`."""
    found: tuple[list[tuple[Any, ...]], ...] = ([], [], [], [], [], [], [])
    keys = ([key[0] for key in queues], [key[1] for key in queues])
    for kind, *values in await connection.fetch(POLL, *keys):
        found[kind].append(tuple(values))
    return ClusterSnapshot(
        epoch=str(found[_EPOCH][0][-1]) if found[_EPOCH] else "",
        feed_version=found[_FEED][0][0] if found[_FEED] else 0,
        has_jobs=bool(found[_JOBS]),
        members=tuple(_member(*row) for row in found[_MEMBER]),
        free=tuple((row[0], row[1], row[2]) for row in found[_FREE]),
        heads={(row[0], row[1]): row[2] for row in found[_HEAD]},
        scheduled_at=min((row[0] for row in found[_SCHEDULED]), default=None),
    )


def _member(*row: Any) -> WorkerRow:
    session_id, slot, lease_ms, remaining_ms, is_leaving, dead, role = row
    return WorkerRow(session_id, role, slot, lease_ms, remaining_ms, is_leaving == 1, dead == 1)
