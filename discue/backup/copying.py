"""Copying an installation to another database, in short steps, and comparing the copy.

Until it is finished, a row in the target's `meta` keeps workers from serving it. The row also names the copy: if two
processes copy into one database, one of them fails. An interrupted copy starts over.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial
from typing import Final, NamedTuple

import msgspec

from discue.domain.errors import StoreUnusable
from discue.store import encryption, tables
from discue.store.encryption import Encryption
from discue.store.engine import PULL_OWNER, Row, Transaction, Value
from discue.store.store import Store

ROWS_A_STEP: Final = 512
BYTES_A_STEP: Final = 4_194_304

_MARK: Final = """
    INSERT INTO meta (key, value) VALUES ('copy', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value"""
_KEEP_MARK: Final = "UPDATE meta SET value = value WHERE key = 'copy' AND value = $1"
_UNMARK: Final = "DELETE FROM meta WHERE key = 'copy' AND value = $1"
_LIVING: Final = """
    SELECT count(*) FROM worker WHERE dead = 0 AND lease_until > clock_ms() AND lease_until <= clock_ms() + lease_ms"""
_STATE: Final = (
    "SELECT version, 0, 0 FROM feed_head WHERE shard = 0",
    "SELECT count(*), CAST(sum(head) AS BIGINT), CAST(sum(tail) AS BIGINT) FROM queue_head",
    "SELECT count(*), CAST(sum(token) AS BIGINT), CAST(sum(version) AS BIGINT) FROM cursor",
    "SELECT count(*), max(id), 0 FROM job",
    "SELECT value, 0, 0 FROM meta WHERE key = 'encryption'",
)


class Side(msgspec.Struct, frozen=True):
    """A database of a copy: its source or its target."""

    store: Store
    name: str
    is_held: bool
    """Whether a lock of this process keeps workers from serving the database."""


class Copy(NamedTuple):
    """A copy that has begun."""

    source: Side
    target: Side
    id: str
    state: tuple[Row, ...]
    """Figures of the source that change as soon as a worker serves it."""
    begun_at: int
    """Milliseconds since the epoch."""
    starts_again: bool
    """Whether the target has rows of a copy that was interrupted."""


async def begin(source: Side, target: Side, now: int, copy_id: str) -> Copy:
    """Mark the target as being filled.

    Raises StoreUnusable if one of them is served, messages wait in the source's intake, or the target has rows that are
    not those of an unfinished copy.
    """
    await _require_empty_intake(source)
    epoch, version, state = await source.store.read(lambda tx: _inspect(tx, source))
    starts_again = await target.store.write_exclusively(
        lambda tx: _begin(tx, target, copy_id, source_epoch=epoch, source_version=version)
    )
    return Copy(source, target, copy_id, state, now, starts_again)


async def fill(copy: Copy) -> AsyncGenerator[tuple[str, int], None]:
    """Copy all rows, table by table. Yields the table of each step, and the number of its rows that were copied.

    Raises StoreUnusable if one of the databases is served now, or another process copies into the target.
    """
    source, target = copy.source.store, copy.target.store
    for table in tables.TABLES:
        while await target.write(partial(_delete_some, copy=copy, table=table)):
            yield table.name, 0
        after: tables.Key | None = ()
        while after is not None:
            rows, is_last = await source.read(partial(_read, copy=copy, table=table, after=after))
            await target.write(partial(_write, copy=copy, table=table, rows=rows))
            yield table.name, len(rows)
            after = None if is_last else tuple(rows[-1][: len(table.key)])


async def finish(copy: Copy) -> None:
    """Release the target for serving. Raises StoreUnusable if the source has changed since the copy began."""
    await _require_empty_intake(copy.source)
    stands = await copy.source.store.read(lambda tx: _final(tx, copy))
    await copy.target.store.write(lambda tx: _finish(tx, copy, stands))


def as_copied(table: tables.TableSpec, columns: Sequence[str], rows: list[Row], begun_at: int) -> list[Row]:
    """Convert rows to those of the target, where no worker owns a cursor or has a request in flight."""
    if table is tables.CURSOR:
        # A cursor whose messages are pulled keeps its owner, which stands for any worker.
        owner = columns.index("owner")
        return [row if row[owner] == PULL_OWNER else _with(row, {owner: None}) for row in rows]
    if table is tables.DELIVERY_ROW:
        state = columns.index("state")
        due: dict[int, Value] = {state: "retry", columns.index("due_at"): begun_at, columns.index("sender"): None}
        return [_with(row, due) if row[state] == "sending" else row for row in rows]
    return rows


async def _inspect(tx: Transaction, source: Side) -> tuple[str, str, tuple[Row, ...]]:
    """Return the epoch, the schema version and the state of the source."""
    await tables.require_copied(tx, source.name)
    await _require_unserved(tx, source)
    return await tables.meta(tx, "epoch"), await tables.meta(tx, "schema_version"), await _state(tx)


async def _begin(tx: Transaction, target: Side, copy_id: str, *, source_epoch: str, source_version: str) -> bool:
    """Mark the target. Returns whether it was marked before."""
    await _require_unserved(tx, target)
    if await tables.meta(tx, "epoch") == source_epoch:
        raise StoreUnusable(f"{target.name} is the source itself, or a copy of its file. Name another database.")
    schema_version = await tables.meta(tx, "schema_version")
    if schema_version != source_version:
        raise StoreUnusable(
            f"{target.name} has schema version {schema_version}, and the other database {source_version}. "
            "Run `discue migrate` on the older one."
        )
    was_marked = bool(await tables.meta(tx, "copy"))
    if not was_marked and not await _is_empty(tx):
        raise StoreUnusable(f"{target.name} is not empty. Name an empty database.")
    await tx.execute(_MARK, copy_id)
    return was_marked


async def _is_empty(tx: Transaction) -> bool:
    for table in tables.TABLES:
        rows = await tables.rows_after(tx, table, table.columns[-1:], (), limit=1)
        # A new database has the head of the feed, with version 0.
        if rows and (table is not tables.FEED_HEAD or rows != [(0,)]):
            return False
    return True


async def _delete_some(tx: Transaction, copy: Copy, table: tables.TableSpec) -> int:
    """Delete rows of an interrupted copy, or the head of the feed in a new database. Returns how many."""
    await _require_ours(tx, copy)
    key = ", ".join(table.key)
    return await tables.delete_oldest(tx, table.name, key, key, kept=0)


async def _read(tx: Transaction, copy: Copy, table: tables.TableSpec, after: tables.Key) -> tuple[list[Row], bool]:
    """Read the next rows as the target stores them, and whether they are the last ones of the table."""
    await _require_unserved(tx, copy.source)
    if await _figures(tx, _STATE[0]) != copy.state[0]:
        raise _changed(copy.source)
    # Sizes are read before bodies, so that a step never holds more of them in memory than it copies.
    fitting = await _fitting(tx, table, after)
    rows = await tables.rows_after(tx, table, table.columns, after, limit=fitting)
    is_last = not rows or (fitting == ROWS_A_STEP and len(rows) < ROWS_A_STEP)
    return as_copied(table, table.columns, rows, copy.begun_at), is_last


async def _fitting(tx: Transaction, table: tables.TableSpec, after: tables.Key) -> int:
    """Return how many of the next rows one step copies: at least one, however large it is."""
    if not table.bodies:
        return ROWS_A_STEP
    sizes = await tables.rows_after(tx, table, (*table.key, "size"), after, limit=ROWS_A_STEP)
    fitting = tables.within_bytes(sizes, BYTES_A_STEP)
    return len(fitting) if len(fitting) < len(sizes) else ROWS_A_STEP


async def _write(tx: Transaction, copy: Copy, table: tables.TableSpec, rows: list[Row]) -> None:
    await _require_ours(tx, copy)
    await tables.insert_rows(tx, table, rows)


async def _final(tx: Transaction, copy: Copy) -> Encryption:
    """Check that the source is unchanged, and read its encryption state: the target needs the same keys."""
    await _require_unserved(tx, copy.source)
    if await _state(tx) != copy.state:
        raise _changed(copy.source)
    return await encryption.read(tx)


async def _finish(tx: Transaction, copy: Copy, stands: Encryption) -> None:
    await _require_ours(tx, copy)
    await encryption.write(tx, stands)
    await tx.execute(_UNMARK, copy.id)


async def _require_ours(tx: Transaction, copy: Copy) -> None:
    """Raise StoreUnusable if the target is served, or another process copies into it."""
    await _require_unserved(tx, copy.target)
    if await tx.execute(_KEEP_MARK, copy.id) != 1:
        raise StoreUnusable(f"Another process copies into {copy.target.name}.")


async def _require_unserved(tx: Transaction, side: Side) -> None:
    if side.is_held:
        return
    row = await tx.row(_LIVING)
    if row and row[0]:
        raise StoreUnusable(
            f"{side.name} is served by {row[0]} running worker{'' if row[0] == 1 else 's'}. Stop them; a worker that "
            "crashed expires within seconds."
        )


async def _require_empty_intake(source: Side) -> None:
    if (await source.store.engine.poll(())).has_intake:
        raise StoreUnusable(
            f"Messages of applications wait in the intake of {source.name}. Stop the applications, serve it until its "
            "table `intake` is empty, and copy then."
        )


def _changed(source: Side) -> StoreUnusable:
    return StoreUnusable(
        f"{source.name} changed while it was copied. Run the same `discue copy` again, and do not serve the source "
        "meanwhile."
    )


async def _state(tx: Transaction) -> tuple[Row, ...]:
    """Read figures that differ after a worker has served the database, since that claims cursors or adds messages."""
    return tuple([await _figures(tx, sql) for sql in _STATE])


async def _figures(tx: Transaction, sql: str) -> Row:
    return tuple(await tx.row(sql) or ())


def _with(row: Row, changes: dict[int, Value]) -> Row:
    return tuple(changes.get(place, value) for place, value in enumerate(row))


ROWS_PER_COMPARISON: Final = 2_048


class ComparedRows(msgspec.Struct, frozen=True):
    """The result of comparing some rows of a table."""

    table: str
    rows: int
    bytes: int
    """The size of their bodies."""
    difference: str = ""
    """A description of the first difference; empty if there is none."""


async def compare(copy: Copy) -> AsyncIterator[ComparedRows]:
    """Compare the databases table by table, and stop in each table at the first difference."""
    for table in tables.TABLES:
        after: tables.Key | None = ()
        while after is not None:
            # Bodies are compared by size only: otherwise both databases would be read as a whole.
            ours = await _rows(copy.source, table, after)
            ours = as_copied(table, table.narrow, ours, copy.begun_at)
            theirs = await _rows(copy.target, table, after)
            size = sum(row[table.narrow.index("size")] for row in ours) if table.bodies else 0
            difference = "" if ours == theirs else _difference(table, ours, theirs)
            yield ComparedRows(table.name, len(ours), size, difference)
            is_over = ours != theirs or len(ours) < ROWS_PER_COMPARISON
            after = None if is_over else tuple(ours[-1][: len(table.key)])


async def _rows(side: Side, table: tables.TableSpec, after: tables.Key) -> list[Row]:
    return await side.store.read(
        partial(tables.rows_after, table=table, columns=table.narrow, after=after, limit=ROWS_PER_COMPARISON)
    )


def _difference(table: tables.TableSpec, ours: list[Row], theirs: list[Row]) -> str:
    """Describe the first key whose rows differ."""
    width = len(table.key)
    one, other = ({row[:width]: row[width:] for row in rows} for rows in (ours, theirs))
    key = min(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    where = ", ".join(f"{column} {value}" for column, value in zip(table.key, key, strict=True))
    if key not in other:
        return f"{table.name}: the row with {where} is missing"
    if key not in one:
        return f"{table.name}: the row with {where} is not in the source"
    return f"{table.name}: the rows with {where} differ"


ROWS_PER_COUNT: Final = 50_000


async def count(store: Store, table: tables.TableSpec) -> int:
    """Count the rows of a table by statements that are short, however many rows there are."""
    counted: int = 0
    after: tables.Key = ()
    while passed := await store.read(partial(_passed, table=table, after=after)):
        counted, after = counted + ROWS_PER_COUNT, passed
    rest = f"SELECT count(*) FROM ({tables.select(table, table.key, is_first=not after)}) AS rest"
    return counted + await store.read(lambda tx: tables.read_number(tx, rest, *after, ROWS_PER_COUNT))


async def _passed(tx: Transaction, table: tables.TableSpec, after: tables.Key) -> tables.Key:
    """Return the key of the last of the next `ROWS_PER_COUNT` rows; empty if there are fewer."""
    sql = f"{tables.select(table, table.key, is_first=not after)} OFFSET {ROWS_PER_COUNT - 1}"
    return tuple(await tx.row(sql, *after, 1) or ())
