"""Copying an installation to another database, in steps that survive crashes, and comparing the copy.

A step and its progress are one transaction on the target, so a copy continues exactly where it stopped. Until it is
finished, a row in the target's `meta` keeps workers from serving it.
"""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Final

import msgspec

from discue.domain.errors import StoreUnusable
from discue.store import encryption, tables
from discue.store.encryption import Encryption
from discue.store.engine import PULL_OWNER, Row, Transaction, Value
from discue.store.store import Store

ROWS_A_STEP: Final = 512
BYTES_A_STEP: Final = 4_194_304

_META: Final = "SELECT value FROM meta WHERE key = $1"
_MARK: Final = "INSERT INTO meta (key, value) VALUES ('copy', $1)"
_ADVANCE: Final = "UPDATE meta SET value = $1 WHERE key = 'copy' AND value = $2"
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


class CopyProgress(msgspec.Struct, frozen=True):
    """The progress of a copy."""

    source: str
    """The epoch of the source."""
    schema_version: str
    state: tuple[Row, ...]
    """Figures of the source that differ as soon as a worker has served it."""
    begun_at: int
    """Milliseconds since the epoch."""
    table: str = tables.TABLES[0].name
    """The table that is being copied; empty when all tables are copied."""
    after: tables.Key = ()
    """The key of the last row that was copied."""
    rows: int = 0
    """The number of rows of the table that were copied."""

    @property
    def is_copied(self) -> bool:
        return not self.table


async def require_finished(tx: Transaction, name: str) -> None:
    """Raise StoreUnusable if the database is the target of an unfinished copy."""
    if await _meta(tx, "copy"):
        raise StoreUnusable(
            f"A copy into {name} is not finished. Run the same `discue copy` again, or name another database."
        )


async def begin(source: Side, target: Side, now: int) -> CopyProgress:
    """Mark the target as being filled, or read the progress of an earlier copy of the same source.

    Raises StoreUnusable if one of them is served, the target is not empty, messages wait in the source's intake, or the
    source has changed since the copy began.
    """
    await _require_empty_intake(source)
    fresh = await source.store.read(lambda tx: _fresh(tx, source, now))
    return await target.store.write_exclusively(lambda tx: _begin(tx, target, fresh))


async def step(source: Side, target: Side, progress: CopyProgress) -> CopyProgress:
    """Copy some rows of one table in one transaction, and return the new progress.

    Raises StoreUnusable if one of the two is served now, or another process copies into the target.
    """
    (table,) = [each for each in tables.TABLES if each.name == progress.table]
    rows, is_last = await source.store.read(lambda tx: _read(tx, source, table, progress))
    following = _following(table, [] if is_last else rows, progress)
    await target.store.write(lambda tx: _write(tx, target, table, rows, steps=(progress, following)))
    return following


async def finish(source: Side, target: Side, progress: CopyProgress) -> None:
    """Release the target for serving. Raises StoreUnusable if the source has changed since the copy began."""
    await _require_empty_intake(source)
    stands = await source.store.read(lambda tx: _final(tx, source, progress))
    await target.store.write(lambda tx: _finish(tx, target, progress, stands))


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


async def _fresh(tx: Transaction, source: Side, now: int) -> CopyProgress:
    await require_finished(tx, source.name)
    await _require_unserved(tx, source)
    return CopyProgress(await _meta(tx, "epoch"), await _meta(tx, "schema_version"), await _state(tx), now)


async def _begin(tx: Transaction, target: Side, fresh: CopyProgress) -> CopyProgress:
    await _require_unserved(tx, target)
    if await _meta(tx, "epoch") == fresh.source:
        raise StoreUnusable(f"{target.name} is the source itself, or a copy of its file. Name another database.")
    schema_version = await _meta(tx, "schema_version")
    if schema_version != fresh.schema_version:
        raise StoreUnusable(
            f"{target.name} has schema version {schema_version}, and the other database {fresh.schema_version}. "
            "Run `discue migrate` on the older one."
        )
    stored = await _meta(tx, "copy")
    if stored:
        earlier = msgspec.json.decode(stored, type=CopyProgress)
        _require_same(target, earlier, fresh)
        return earlier
    if not await _is_empty(tx):
        raise StoreUnusable(f"{target.name} is not empty. Name an empty database.")
    # The head of the feed is copied like other rows.
    await tx.execute(f"DELETE FROM {tables.FEED_HEAD.name}")
    await tx.execute(_MARK, _text(fresh))
    return fresh


def _require_same(target: Side, earlier: CopyProgress, fresh: CopyProgress) -> None:
    empty = "Name an empty database instead."
    if earlier.source != fresh.source:
        raise StoreUnusable(f"{target.name} holds an unfinished copy of another database. {empty}")
    if (earlier.schema_version, earlier.state) != (fresh.schema_version, fresh.state):
        raise StoreUnusable(f"{target.name} holds an unfinished copy of an earlier state of the source. {empty}")


async def _is_empty(tx: Transaction) -> bool:
    for table in tables.TABLES:
        rows = await tables.rows_after(tx, table, table.columns[-1:], (), limit=1)
        # A new database has the head of the feed, with version 0.
        if rows and (table is not tables.FEED_HEAD or rows != [(0,)]):
            return False
    return True


async def _read(
    tx: Transaction, source: Side, table: tables.TableSpec, progress: CopyProgress
) -> tuple[list[Row], bool]:
    """Read the next rows as the target stores them, and whether they are the last ones of the table."""
    await _require_unserved(tx, source)
    if await _figures(tx, _STATE[0]) != progress.state[0]:
        raise _changed(source)
    # Sizes are read before bodies, so that a step never holds more of them in memory than it copies.
    fitting = await _fitting(tx, table, progress.after)
    rows = await tables.rows_after(tx, table, table.columns, progress.after, limit=fitting)
    # A step that was limited by bytes may have reached the end as well: then an empty step follows.
    is_last = fitting == ROWS_A_STEP and len(rows) < ROWS_A_STEP
    return as_copied(table, table.columns, rows, progress.begun_at), is_last


async def _fitting(tx: Transaction, table: tables.TableSpec, after: tables.Key) -> int:
    """Return how many of the next rows one step copies: at least one, however large it is."""
    if not table.bodies:
        return ROWS_A_STEP
    sizes = await tables.rows_after(tx, table, (*table.key, "size"), after, limit=ROWS_A_STEP)
    fitting = tables.within_bytes(sizes, BYTES_A_STEP)
    return len(fitting) if len(fitting) < len(sizes) else ROWS_A_STEP


def _following(table: tables.TableSpec, rows: Sequence[Row], progress: CopyProgress) -> CopyProgress:
    """Return the progress after some rows; at the end of the table there are none."""
    if not rows:
        names = [each.name for each in tables.TABLES] + [""]
        following = names[names.index(table.name) + 1]
        return msgspec.structs.replace(progress, table=following, after=(), rows=0)
    last = tuple(rows[-1][: len(table.key)])
    return msgspec.structs.replace(progress, after=last, rows=progress.rows + len(rows))


async def _write(
    tx: Transaction, target: Side, table: tables.TableSpec, rows: list[Row], *, steps: tuple[CopyProgress, CopyProgress]
) -> None:
    await _require_unserved(tx, target)
    await tables.insert_rows(tx, table, rows)
    before, after = steps
    # The previous progress is the condition: of two processes that copy into one target, one fails here.
    if await tx.execute(_ADVANCE, _text(after), _text(before)) != 1:
        raise StoreUnusable(f"Another process copies into {target.name}.")


async def _final(tx: Transaction, source: Side, progress: CopyProgress) -> Encryption:
    """Check that the source is unchanged, and read its encryption state: the target needs the same keys."""
    await _require_unserved(tx, source)
    if await _state(tx) != progress.state:
        raise _changed(source)
    return await encryption.read(tx)


async def _finish(tx: Transaction, target: Side, progress: CopyProgress, stands: Encryption) -> None:
    await _require_unserved(tx, target)
    await encryption.write(tx, stands)
    if await tx.execute(_UNMARK, _text(progress)) != 1:
        raise StoreUnusable(f"Another process copies into {target.name}.")


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
        f"{source.name} changed while it was copied. Start again with an empty database, and do not serve "
        "the source meanwhile."
    )


async def _state(tx: Transaction) -> tuple[Row, ...]:
    """Read figures that differ after a worker has served the database, since that claims cursors or adds messages."""
    return tuple([await _figures(tx, sql) for sql in _STATE])


async def _figures(tx: Transaction, sql: str) -> Row:
    return tuple(await tx.row(sql) or ())


async def _meta(tx: Transaction, key: str) -> str:
    row = await tx.row(_META, key)
    return row[0] if row else ""


def _text(progress: CopyProgress) -> str:
    return msgspec.json.encode(progress).decode()


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


async def compare(source: Side, target: Side, progress: CopyProgress) -> AsyncIterator[ComparedRows]:
    """Compare the databases table by table, and stop in each table at the first difference."""
    for table in tables.TABLES:
        after: tables.Key | None = ()
        while after is not None:
            # Bodies are compared by size only: otherwise both databases would be read as a whole.
            ours = await _rows(source, table, after)
            ours = as_copied(table, table.narrow, ours, progress.begun_at)
            theirs = await _rows(target, table, after)
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
