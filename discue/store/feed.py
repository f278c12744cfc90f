"""The change feed: changes of the control plane, numbered without gaps in commit order."""

from operator import itemgetter
from typing import Final, Literal

import msgspec

from discue.store.engine import Transaction
from discue.store.tables import read_number, read_one

FeedKind = Literal[
    "organization", "api_key", "queue", "listener", "message", "domain", "lockout", "topic", "event_type"
]
"""The kind of a change. `message`: a deletion, where `ref` is the queue. `domain`: it became verified or unverified.
`topic`: its routes changed. `lockout`: `ref` is the number of the subject.
"""

_RAISE: Final = "UPDATE feed_head SET version = version + 1 WHERE shard = 0 RETURNING version"
_INSERT: Final = "INSERT INTO feed (shard, version, kind, organization, ref) VALUES (0, $1, $2, $3, $4)"
_SINCE: Final = """
    SELECT version, kind, organization, ref FROM feed
    WHERE shard = 0 AND version > $1 ORDER BY version LIMIT $2"""
_TRIM: Final = """
    DELETE FROM feed WHERE shard = 0 AND version <= (SELECT version - $1 FROM feed_head WHERE shard = 0)
    AND version <= (SELECT min(version) + $2 - 1 FROM feed WHERE shard = 0)"""
_HEAD: Final = "SELECT version FROM feed_head WHERE shard = 0"
_EPOCH: Final = "SELECT value FROM meta WHERE key = 'epoch'"


class Change(msgspec.Struct, frozen=True):
    """A change of the control plane."""

    version: int
    kind: FeedKind
    organization: int
    ref: int
    """The row id of the changed resource; see `FeedKind` for exceptions."""


async def record(tx: Transaction, kind: FeedKind, organization: int, ref: int) -> int:
    """Record a change with the next version, under the head's row lock.

    A sequence would not do: it is not in commit order, so a reader could miss a revocation.
    """
    raised = await tx.row(_RAISE)
    if raised is None:
        raise RuntimeError("the change feed has no head row")
    version: int = raised[0]
    await tx.execute(_INSERT, version, kind, organization, ref)
    return version


CHANGES_KEPT: Final = 10_000


async def trim(tx: Transaction, kept: int, limit: int) -> int:
    """Delete at most `limit` of the oldest changes beyond the newest `kept`, and return how many.

    A reader that has not followed for so long finds a gap, and reads the control plane again.
    """
    return await tx.execute(_TRIM, kept, limit)


async def since(tx: Transaction, version: int, limit: int) -> list[Change]:
    """Read changes after a version, in order."""
    return [Change(*row) for row in await tx.rows(_SINCE, version, limit)]


async def head(tx: Transaction) -> int:
    """Return the last version."""
    return await read_number(tx, _HEAD)


async def epoch(tx: Transaction) -> str:
    """Return the id of the history that the versions belong to. It changes when the database is replaced."""
    return await read_one(tx, itemgetter(0), _EPOCH) or ""
