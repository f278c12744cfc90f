"""Requests that workers have taken from what a caller may make in a minute."""

from collections.abc import Sequence
from typing import Final

import msgspec

from discue.domain.rate import granted_share
from discue.store.engine import Transaction

STEP_ROWS: Final = 500

# Adds all that is wanted: what stands then says how much of it was within the limit. Beyond that no row is touched.
_TAKE: Final = """
    INSERT INTO allowance (organization, caller, minute, taken) VALUES ($1, $2, $3, $4)
    ON CONFLICT (organization, caller, minute) DO UPDATE SET taken = allowance.taken + excluded.taken
    WHERE allowance.taken < $5 RETURNING taken"""
_RETURN: Final = """
    UPDATE allowance SET taken = taken - $1 WHERE organization = $2 AND caller = $3 AND minute = $4 AND taken >= $1"""
_DELETE_OLD: Final = """
    DELETE FROM allowance WHERE (organization, caller, minute) IN (
        SELECT organization, caller, minute FROM allowance WHERE minute < $1 ORDER BY minute LIMIT $2
    )"""


class BudgetRequest(msgspec.Struct, frozen=True, gc=False):
    """So many requests of one caller in one minute, out of a limit. `returned` were taken before, and not made."""

    organization: int
    caller: int
    minute: int
    wanted: int
    limit: int
    returned: int = 0


class BudgetGrant(msgspec.Struct, frozen=True, gc=False):
    """How many were granted, and how many are left after that for all workers."""

    granted: int
    left: int


async def take(tx: Transaction, wishes: Sequence[BudgetRequest]) -> list[BudgetGrant]:
    """One answer for each, in their order.

    Rows are touched in the order of the wishes: workers that all sort theirs do not wait for each other in a circle.
    """
    return [await _take(tx, wish) for wish in wishes]


async def delete_old(tx: Transaction, before_minute: int) -> int:
    """One step over minutes that are over; how many rows it deleted."""
    return await tx.execute(_DELETE_OLD, before_minute, STEP_ROWS)


async def _take(tx: Transaction, wish: BudgetRequest) -> BudgetGrant:
    if wish.returned:
        await tx.execute(_RETURN, wish.returned, wish.organization, wish.caller, wish.minute)
    rows = await tx.rows(_TAKE, wish.organization, wish.caller, wish.minute, wish.wanted, wish.limit)
    if not rows:
        return BudgetGrant(0, 0)
    taken: int = rows[0][0]
    return BudgetGrant(granted_share(wish.wanted, wish.limit, taken), max(0, wish.limit - taken))
