"""Replays, their cursors, and their slots: how many replays of an organization run at a time in the whole installation.

A slot has an owner, the session of a worker. Slots of sessions without a living worker are free.
"""

from typing import Final

from discue.domain.model import Replay, ReplaySpec
from discue.store import purge
from discue.store.engine import CursorKey, Transaction
from discue.store.listeners import INSERT_CURSOR
from discue.store.purge import Job
from discue.store.redeliveries import JobTable
from discue.store.tables import by_index, read_number

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


REPLAYS_AT_ONCE: Final = 3
"""How many replays of an organization may run at a time."""

_SLOTS: Final = f"""
    SELECT s.number, s.owner, w.session_id FROM replay_slot s
    LEFT JOIN worker w ON {by_index("w.session_id", "s.owner")} AND w.dead = 0
    WHERE s.organization = $1 ORDER BY s.number LIMIT $2"""
# The owner is compared again: another worker may have taken the slot since it was read.
_TAKE: Final = """
    INSERT INTO replay_slot (organization, number, owner) VALUES ($1, $2, $3)
    ON CONFLICT (organization, number) DO UPDATE SET owner = excluded.owner WHERE replay_slot.owner = $4"""
_IS_LIVING: Final = "SELECT 1 FROM organization WHERE id = $1 AND deleted_at IS NULL"
_GIVE_UP: Final = "DELETE FROM replay_slot WHERE organization = $1 AND number = $2 AND owner = $3"
_NO_OWNER: Final = 0


async def has_free_slot(tx: Transaction, organization: int) -> bool:
    """Return whether a slot is free. If so, no worker waits for one: each asks again at its polls."""
    rows = await tx.rows(_SLOTS, organization, REPLAYS_AT_ONCE)
    return sum(living is not None for _, _, living in rows) < REPLAYS_AT_ONCE


async def hold_slots(tx: Transaction, session_id: int, organization: int, count: int) -> int:
    """Take free slots or give up slots, to hold `count` of them. Returns how many the session holds now.

    Takes none for a deleted organization.
    """
    rows = await tx.rows(_SLOTS, organization, REPLAYS_AT_ONCE)
    own = [number for number, owner, _ in rows if owner == session_id]
    for number in own[count:]:
        await tx.execute(_GIVE_UP, organization, number, session_id)
    owners = {number: owner for number, owner, _ in rows}
    taken = {number for number, owner, living in rows if owner == session_id or living is not None}
    # In ascending order: two workers that wait for each other's rows would be a deadlock.
    free = [number for number in range(1, REPLAYS_AT_ONCE + 1) if number not in taken]
    held = min(len(own), count)
    # Its purge may have deleted the slots already.
    if held < count and await tx.row(_IS_LIVING, organization) is None:
        return held
    for number in free:
        if held < count:
            held += await tx.execute(_TAKE, organization, number, session_id, owners.get(number, _NO_OWNER))
    return held
