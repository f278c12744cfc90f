"""Polling on SQLite: several statements, none of which is a round trip."""

from collections.abc import Sequence
from typing import Final

from discue.store.engine import ClusterSnapshot, QueueKey, Transaction, WorkerRow

_FREE_SHOWN: Final = 1_000

_EPOCH: Final = "SELECT value FROM meta WHERE key = 'epoch'"
_FEED: Final = "SELECT version FROM feed_head WHERE shard = 0"
_HAS_JOBS: Final = "SELECT 1 FROM job WHERE state = 'waiting' LIMIT 1"
_MEMBERS: Final = """
    SELECT incarnation, role, slot, lease_ms, lease_until - clock_ms(), leaves, dead FROM worker
    ORDER BY incarnation"""
_FREE: Final = f"""
    SELECT organization, listener, stream FROM cursor WHERE owner IS NULL AND stream = 0
    ORDER BY organization, listener, stream LIMIT {_FREE_SHOWN}"""
_SCHEDULED: Final = "SELECT due_at FROM scheduled WHERE due_at >= 0 ORDER BY due_at LIMIT 1"
_RUN: Final = "SELECT next_run_at FROM schedule WHERE next_run_at IS NOT NULL ORDER BY next_run_at LIMIT 1"
_HEAD: Final = "SELECT head FROM queue_head WHERE organization = $1 AND queue = $2"


async def poll(tx: Transaction, queues: Sequence[QueueKey]) -> ClusterSnapshot:
    """Read a snapshot; see `engine.Engine.poll`."""
    epoch, feed = await tx.row(_EPOCH), await tx.row(_FEED)
    waiting = [row[0] for row in (await tx.row(_SCHEDULED), await tx.row(_RUN)) if row is not None]
    return ClusterSnapshot(
        epoch=epoch[0] if epoch else "",
        feed_version=feed[0] if feed else 0,
        has_jobs=await tx.row(_HAS_JOBS) is not None,
        members=tuple([_member(*row) for row in await tx.rows(_MEMBERS)]),
        free=tuple((row[0], row[1], row[2]) for row in await tx.rows(_FREE)),
        heads={queue: row[0] for queue in queues if (row := await tx.row(_HEAD, *queue)) is not None},
        scheduled_at=min(waiting, default=None),
    )


def _member(*row: object) -> WorkerRow:
    session_id, role, slot, lease_ms, remaining_ms, is_leaving, dead = row
    return WorkerRow(session_id, role, slot, lease_ms, remaining_ms, is_leaving == 1, dead == 1)  # type: ignore[arg-type]
