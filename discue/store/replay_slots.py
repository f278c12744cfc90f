"""Replay slots: how many replays of an organization run at a time in the whole installation.

A slot has an owner, the session of a worker. Slots of sessions without a living worker are free.
"""

from typing import Final

from discue.store.engine import Transaction
from discue.store.tables import by_index

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


async def has_free(tx: Transaction, organization: int) -> bool:
    """Return whether a slot is free. If so, no worker waits for one: each asks again at its polls."""
    rows = await tx.rows(_SLOTS, organization, REPLAYS_AT_ONCE)
    return sum(living is not None for _, _, living in rows) < REPLAYS_AT_ONCE


async def hold(tx: Transaction, session_id: int, organization: int, count: int) -> int:
    """Take slots that are free, or give up some, to hold `count` of them. Returns how many the session holds now.

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
