"""Replays, and their cursors."""

from typing import Final

from discue.domain.model import Replay, ReplaySpec
from discue.store import purge
from discue.store.engine import CursorKey, Transaction
from discue.store.jobs import JobTable
from discue.store.listeners import INSERT_CURSOR
from discue.store.purge import Job
from discue.store.tables import read_number

COUNTED: Final = 1_000
"""The length of the longest range whose messages are counted: creating a replay waits for the count."""

_LOOKED_AT: Final = 100

# A worker that claims the live cursor at this moment waits, and claims the new one with it.
_LIVE: Final = """
    UPDATE cursor SET version = version WHERE organization = $1 AND listener = $2 AND stream = 0
    RETURNING queue, owner"""
_DELETE_CURSOR: Final = "DELETE FROM cursor WHERE organization = $1 AND listener = $2 AND stream = $3"
_END_CURSOR: Final = f"{_DELETE_CURSOR} AND token = $4 AND version = $5"
_END: Final = """
    UPDATE replay SET state = 'done', position = until_seq, retrying = 0, updated_at = $1, ended_at = $1
    WHERE organization = $2 AND id = $3"""
_COUNT: Final = """
    SELECT count(*) FROM log WHERE organization = $1 AND queue = $2 AND seq >= $3 AND seq <= $4 AND kind = 0"""
_MESSAGES: Final = """
    SELECT id, kind FROM log WHERE organization = $1 AND queue = $2 AND seq >= $3 AND seq <= $4
    ORDER BY seq {} LIMIT $5"""


class ReplayTable(JobTable[Replay]):
    """Replays, each with its cursor until it ends."""

    async def insert(self, tx: Transaction, made: Replay) -> None:
        """Insert a replay and its cursor, which gets the owner of the listener's live cursor."""
        await super().insert(tx, made)
        # Without a live cursor, the listener is being deleted, and the replay with it.
        live = await tx.row(_LIVE, made.organization, made.listener)
        if live is not None:
            place = (made.organization, made.listener, made.id)
            await tx.execute(INSERT_CURSOR, *place, *live, 1, 0, made.until_seq, made.position)

    async def delete(self, tx: Transaction, job: Replay, purge_id: int) -> bool:
        """Delete a replay. Returns whether it existed.

        Its cursor is deleted with it, so that nothing more is stored for it; a job removes the rest.
        """
        deleted = await super().delete(tx, job, purge_id)
        if await tx.execute(_DELETE_CURSOR, job.organization, job.listener, job.id):
            purging = Job(job.organization, purge_id, "purge_replay", listener=job.listener, stream=job.id)
            await purge.enqueue(tx, purging)
        return deleted


REPLAY_TABLE: Final = ReplayTable("replay", Replay, "spec", ReplaySpec)


async def end(tx: Transaction, key: CursorKey, token: int, version: int, *, now: int) -> bool:
    """End a replay: delete its cursor. Returns False if that does not have this token and version."""
    if not await tx.execute(_END_CURSOR, *key, token, version):
        return False
    await tx.execute(_END, now, key[0], key[2])
    return True


async def count_of(tx: Transaction, organization: int, queue: int, first: int, *, last: int) -> int:
    """Return the number of messages between two seqs, both included; for a long range, the number of seqs.

    Deleted messages do not count, and delayed ones only where they became due.
    """
    seqs = last - first + 1
    return seqs if seqs > COUNTED else await read_number(tx, _COUNT, organization, queue, first, last)


async def ends_of(tx: Transaction, organization: int, queue: int, first: int, *, last: int) -> tuple[str, str]:
    """Return the ids of the first and the last message between two seqs, both included; empty if there is none."""
    ids = []
    for order in ("ASC", "DESC"):
        rows = await tx.rows(_MESSAGES.format(order), organization, queue, first, last, _LOOKED_AT)
        # Delayed messages do not count, unless there are only these for long: then the first one is used.
        ids.append(next((row[0] for row in rows if row[1] == 0), rows[0][0] if len(rows) == _LOOKED_AT else ""))
    return ids[0], ids[1]
