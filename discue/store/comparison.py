"""Whether a copy is what it was made from: every row, by all of its columns but the messages' bodies."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Final

import msgspec

from discue.store.copying import CopyProgress, Side, as_copied
from discue.store.engine import Row
from discue.store.tables import TABLES, Key, TableSpec, rows_after

ROWS_A_LOOK: Final = 2_048


class ComparedRows(msgspec.Struct, frozen=True):
    """What was compared at once: rows of a table, and `bytes` of their bodies. `difference` says what is wrong."""

    table: str
    rows: int
    bytes: int
    difference: str = ""


async def compare(source: Side, target: Side, progress: CopyProgress) -> AsyncIterator[ComparedRows]:
    """Table by table. Of a table that is not the same in both, the first difference is told."""
    for table in TABLES:
        after: Key | None = ()
        while after is not None:
            ours = await _rows(source, table, after)
            ours = as_copied(table, table.narrow, ours, progress.begun_at)
            theirs = await _rows(target, table, after)
            yield _look(table, ours, theirs)
            is_over = ours != theirs or len(ours) < ROWS_A_LOOK
            after = None if is_over else tuple(ours[-1][: len(table.key)])


async def _rows(side: Side, table: TableSpec, after: Key) -> list[Row]:
    return await side.store.read(partial(rows_after, table=table, columns=table.narrow, after=after, limit=ROWS_A_LOOK))


def _look(table: TableSpec, ours: list[Row], theirs: list[Row]) -> ComparedRows:
    size = sum(row[table.narrow.index("size")] for row in ours) if table.bodies else 0
    return ComparedRows(table.name, len(ours), size, "" if ours == theirs else _difference(table, ours, theirs))


def _difference(table: TableSpec, ours: list[Row], theirs: list[Row]) -> str:
    """The first key at which they are not the same."""
    width = len(table.key)
    one, other = ({row[:width]: row[width:] for row in rows} for rows in (ours, theirs))
    key = min(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    where = ", ".join(f"{column} {value}" for column, value in zip(table.key, key, strict=True))
    if key not in other:
        return f"{table.name}: the row with {where} is missing"
    if key not in one:
        return f"{table.name}: the row with {where} is not in the source"
    return f"{table.name}: the row with {where} is another one"
