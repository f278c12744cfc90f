"""How much of its quotas an organization uses. What is counted row by row is counted up to a bound."""

from typing import Final

from discue.store import tallies
from discue.store.engine import Row, Transaction

_QUEUES: Final = """
    SELECT count(*) FROM (
        SELECT 1 FROM queue WHERE organization = $1 AND deleted_at IS NULL LIMIT $2
    ) AS counted"""
_LISTENERS: Final = """
    SELECT count(*) FROM (
        SELECT 1 FROM listener l JOIN queue q ON q.organization = l.organization AND q.id = l.queue
        WHERE l.organization = $1 AND l.deleted_at IS NULL AND q.deleted_at IS NULL LIMIT $2
    ) AS counted"""
_MESSAGES: Final = """
    SELECT CAST(coalesce(sum(n), 0) AS BIGINT) FROM tally
    WHERE organization = $1 AND period >= $2 AND period < $3 AND kind = $4"""


async def queues(tx: Transaction, organization: int, at_most: int) -> int:
    return _number(await tx.row(_QUEUES, organization, at_most))


async def listeners(tx: Transaction, organization: int, at_most: int) -> int:
    """Those of queues that are not deleted."""
    return _number(await tx.row(_LISTENERS, organization, at_most))


async def messages(tx: Transaction, organization: int, periods: range) -> int:
    """How many were published in some periods of five minutes, one after another."""
    return _number(await tx.row(_MESSAGES, organization, periods.start, periods.stop, tallies.MESSAGE_ADDED))


def _number(row: Row | None) -> int:
    return int(row[0]) if row else 0
