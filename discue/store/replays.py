"""Replays, and their cursors."""

from collections.abc import Callable
from operator import attrgetter
from typing import Final

import msgspec

from discue.domain.model import JobListener, Replay, ReplaySpec
from discue.store import purge
from discue.store.engine import CursorKey, Row, Transaction
from discue.store.listeners import INSERT_CURSOR
from discue.store.pagination import Listing, Selection, Table, listed
from discue.store.purge import Job
from discue.store.redeliveries import JOINED, OF_LISTENER
from discue.store.tables import placeholders, prefixed, read_number, read_one, row_reader

COUNTED: Final = 1_000
"""The length of the longest range whose messages are counted: creating a replay waits for the count."""

_LOOKED_AT: Final = 100

_COLUMNS: Final = (
    "id, organization, public_id, listener, state, from_seq, until_seq, position, selected, created_at, updated_at, "
    "pace, delivered, failed, expired, filtered, retrying, ended_at"
)
_OF_LISTENER: Final = f"SELECT {_COLUMNS}, spec FROM replay WHERE organization = $1 AND listener = $2"
_GET: Final = f"SELECT {_COLUMNS}, spec FROM replay WHERE organization = $1 AND public_id = $2"
_OF_ORGANIZATION: Final = f"SELECT {prefixed('j', _COLUMNS)}, j.spec, {OF_LISTENER} FROM replay j {JOINED}"
_OPEN: Final = f"{_OF_LISTENER} AND ended_at IS NULL ORDER BY id LIMIT $3"
_INSERT: Final = f"INSERT INTO replay ({_COLUMNS}, spec) VALUES ({placeholders(1, 19)})"
# A worker that claims the live cursor at this moment waits, and claims the new one with it.
_LIVE: Final = """
    UPDATE cursor SET version = version WHERE organization = $1 AND listener = $2 AND stream = 0
    RETURNING queue, owner"""
_DELETE: Final = "DELETE FROM replay WHERE organization = $1 AND id = $2"
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

_from_row = row_reader(Replay, f"{_COLUMNS}, spec", spec=msgspec.json.Decoder(ReplaySpec).decode)
_values: Callable[[Replay], Row] = attrgetter(*_COLUMNS.split(", "))


async def get(tx: Transaction, organization: int, public_id: str) -> Replay | None:
    return await read_one(tx, _from_row, _GET, organization, public_id)


async def page(tx: Transaction, organization: int, listener: int, selection: Selection) -> Listing[Replay]:
    table = Table("replay", _OF_LISTENER, (organization, listener), alias_column="public_id")
    return await listed(tx, table, selection, _from_row)


async def page_of_organization(
    tx: Transaction, organization: int, selection: Selection
) -> Listing[tuple[Replay, JobListener]]:
    """Read replays of all listeners."""
    table = Table("replay", _OF_ORGANIZATION, (organization,), "j.id", prefix="j.", alias_column="public_id")
    return await listed(tx, table, selection, lambda row: (_from_row(row[:-3]), JobListener(*row[-3:])))


async def list_open(tx: Transaction, organization: int, listener: int, limit: int) -> list[Replay]:
    """Read replays that have not ended, oldest first."""
    return [_from_row(row) for row in await tx.rows(_OPEN, organization, listener, limit)]


async def insert(tx: Transaction, made: Replay) -> None:
    """Insert a replay and its cursor, which gets the owner of the listener's live cursor."""
    await tx.execute(_INSERT, *_values(made), msgspec.json.encode(made.spec).decode())
    # Without a live cursor, the listener is being deleted, and the replay with it.
    live = await tx.row(_LIVE, made.organization, made.listener)
    if live is not None:
        place = (made.organization, made.listener, made.id)
        await tx.execute(INSERT_CURSOR, *place, *live, 1, 0, made.until_seq, made.position)


async def delete(tx: Transaction, replay: Replay, job_id: int) -> bool:
    """Delete a replay. Returns whether it existed.

    Its cursor is deleted with it, so that nothing more is stored for it; a job removes the rest.
    """
    deleted = await tx.execute(_DELETE, replay.organization, replay.id) == 1
    if await tx.execute(_DELETE_CURSOR, replay.organization, replay.listener, replay.id):
        job = Job(replay.organization, job_id, "purge_replay", listener=replay.listener, stream=replay.id)
        await purge.enqueue(tx, job)
    return deleted


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
