"""Workers: one row per run of a process, with a lease by the database's clock.

Each function is safe next to the others in other transactions. A dead row stays dead, and a deleted one does not come
back: an owner without a living row never settles its cursors again.
"""

from collections.abc import Sequence
from typing import Final

from discue.domain.errors import Unavailable
from discue.domain.ids import WORKER_SLOTS
from discue.store.cursors import claim
from discue.store.engine import CursorKey, Transaction

_INSERT: Final = """
    INSERT INTO worker (session_id, lease_until, dead, role, slot, lease_ms, is_leaving)
    VALUES ($1, clock_ms() + $2, 0, $3, $4, $2, 0)"""
_SLOTS: Final = "SELECT slot FROM worker WHERE dead = 0 ORDER BY slot"
_RENEW: Final = "UPDATE worker SET lease_until = clock_ms() + $1, lease_ms = $1 WHERE session_id = $2 AND dead = 0"
_HOLD: Final = "UPDATE worker SET is_leaving = is_leaving WHERE session_id = $1 AND dead = 0 AND is_leaving = 0"
_BEGIN_LEAVING: Final = "UPDATE worker SET is_leaving = 1 WHERE session_id = $1"
_DECLARE_DEAD: Final = "UPDATE worker SET dead = 1 WHERE session_id = $1 AND dead = 0"
# A lease that ends later than it can was granted before the database's clock was set back: it counts as expired.
_IS_OVER: Final = "(lease_until <= clock_ms() OR lease_until > clock_ms() + lease_ms)"
_OVER: Final = f"SELECT 1 FROM worker WHERE session_id = $1 AND dead = 0 AND {_IS_OVER}"
_EXPIRE: Final = f"{_DECLARE_DEAD} AND {_IS_OVER}"
_RELEASE_CURSORS: Final = """
    UPDATE cursor SET owner = NULL, token = token + 1
    WHERE owner = $1 AND NOT EXISTS (SELECT 1 FROM worker WHERE session_id = $1 AND dead = 0)
    AND (organization, listener, stream) IN (
        SELECT organization, listener, stream FROM cursor WHERE owner = $1
        ORDER BY organization, listener, stream LIMIT $2)"""
_DELETE: Final = """
    DELETE FROM worker WHERE session_id = $1 AND dead = 1
    AND NOT EXISTS (SELECT 1 FROM cursor WHERE owner = $1)"""
_EXISTS: Final = "SELECT 1 FROM worker WHERE session_id = $1"
# Steps from one owner to the next, however many cursors each of them has.
_MISSING: Final = """
    WITH RECURSIVE owners (owner) AS (
        SELECT min(owner) FROM cursor WHERE owner > $1
        UNION ALL
        SELECT (SELECT min(c.owner) FROM cursor c WHERE c.owner > owners.owner) FROM owners
        WHERE owners.owner IS NOT NULL
    )
    SELECT min(owner) FROM owners
    WHERE owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM worker w WHERE w.session_id = owners.owner)"""


async def join(tx: Transaction, session_id: int, role: str, lease_ms: int) -> int:
    """Insert a worker with a new lease. Returns its slot, which no other living worker has.

    Raises Unavailable if all slots are taken, and UniqueViolation if the session exists.
    """
    # Otherwise two workers that read the slots at the same time could choose the same one.
    await tx.exclusive()
    taken = {row[0] for row in await tx.rows(_SLOTS)}
    slot = next((slot for slot in WORKER_SLOTS if slot not in taken), None)
    if slot is None:
        raise Unavailable(f"All {len(WORKER_SLOTS)} worker slots of this database are taken. Stop a worker first.")
    await tx.execute(_INSERT, session_id, lease_ms, role, slot)
    return slot


async def renew(tx: Transaction, session_id: int, lease_ms: int) -> bool:
    """Renew the lease from now on. Returns False if the worker was declared dead."""
    return await tx.execute(_RENEW, lease_ms, session_id) == 1


class MayNotClaim(Exception):
    """The worker was declared dead, or it is leaving."""


async def claim_cursors(tx: Transaction, session_id: int, cursors: Sequence[CursorKey]) -> list[CursorKey]:
    """Claim cursors for a worker, as `claim` does. The transaction must be rolled back if this raises MayNotClaim.

    The worker is not declared dead before the transaction ends: its cursors would name an owner that no worker expires
    again. Its row is locked last: the claim may wait for cursors that another worker has locked, and meanwhile the
    lease must be renewed.
    """
    won = await claim(tx, session_id, cursors)
    if won and await tx.execute(_HOLD, session_id) == 0:
        raise MayNotClaim
    return won


async def begin_leaving(tx: Transaction, session_id: int) -> None:
    """Let the worker claim no more cursors."""
    await tx.execute(_BEGIN_LEAVING, session_id)


async def leave(tx: Transaction, session_id: int, limit: int) -> bool:
    """End the worker's lease, and release at most `limit` of its cursors. Returns True when its row is deleted.

    Other workers complete this for a worker that stops halfway, since it is dead.
    """
    # Dead first: nothing is claimed between the release of the last cursor and the deletion.
    await tx.execute(_DECLARE_DEAD, session_id)
    if await release_cursors(tx, session_id, limit) == limit:
        return False
    await delete(tx, session_id)
    return await tx.row(_EXISTS, session_id) is None


async def expire_worker(tx: Transaction, session_id: int, *, known_dead: bool = False) -> bool:
    """Declare a worker dead if its lease has expired, or it is known to have ended. Returns whether this call did.

    It also ends the worker's sessions, and these first: one of them may have its row locked.
    """
    if known_dead or await tx.row(_OVER, session_id) is not None:
        await tx.end_sessions(session_id)
    return await tx.execute(_DECLARE_DEAD if known_dead else _EXPIRE, session_id) == 1


async def release_cursors(tx: Transaction, dead: int, limit: int) -> int:
    """Release at most `limit` cursors of a dead or deleted worker, the first ones by key, and return how many."""
    return await tx.execute(_RELEASE_CURSORS, dead, limit)


async def delete(tx: Transaction, session_id: int) -> bool:
    """Delete a dead worker that owns no cursor."""
    return await tx.execute(_DELETE, session_id) == 1


async def missing_owner_after(tx: Transaction, session_id: int) -> int | None:
    """Return the next higher owner of cursors that has no row: from another database, or a claim that came too late."""
    row = await tx.row(_MISSING, session_id)
    return row[0] if row is not None else None
