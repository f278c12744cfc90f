"""Rate limit budgets: requests that workers have taken from a caller's limit per minute."""

from collections.abc import Sequence
from typing import Final

import msgspec

from discue.domain.rate import granted_share
from discue.store.engine import Transaction

STEP_ROWS: Final = 500

# Adds all that is wanted: the result tells how much of it was within the limit. At the limit no row is written.
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
    """A request for a part of a caller's budget for one minute."""

    organization: int
    caller: int
    minute: int
    wanted: int
    limit: int
    returned: int = 0
    """Requests that were taken earlier and not used."""


class BudgetGrant(msgspec.Struct, frozen=True, gc=False):
    """The granted requests, and how many are left for all workers."""

    granted: int
    left: int


async def take(tx: Transaction, requests: Sequence[BudgetRequest]) -> list[BudgetGrant]:
    """Answer each request, in their order.

    Workers sort their requests, so that they lock rows in the same order and cannot deadlock.
    """
    return [await _take(tx, request) for request in requests]


async def delete_old(tx: Transaction, before_minute: int) -> int:
    """Delete some rows of past minutes, and return how many."""
    return await tx.execute(_DELETE_OLD, before_minute, STEP_ROWS)


async def _take(tx: Transaction, request: BudgetRequest) -> BudgetGrant:
    if request.returned:
        await tx.execute(_RETURN, request.returned, request.organization, request.caller, request.minute)
    rows = await tx.rows(_TAKE, request.organization, request.caller, request.minute, request.wanted, request.limit)
    if not rows:
        return BudgetGrant(0, 0)
    taken: int = rows[0][0]
    return BudgetGrant(granted_share(request.wanted, request.limit, taken), max(0, request.limit - taken))
