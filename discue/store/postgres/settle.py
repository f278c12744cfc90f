"""Settle on PostgreSQL: one statement per batch, which commits by itself.

It moves the cursors in the order of their keys, guarded by token and version, and writes the other rows only for
cursors that moved. A kind of row that the batch does not have is left out of the statement.
"""

from collections.abc import Sequence
from functools import cache
from itertools import count
from typing import Any, Final

import asyncpg

from discue.store import batch_rows, tallies
from discue.store.engine import Settle

# A plain `IN` would become a join, row by row; this looks up a hash. (The session has no hash joins.)
_IF_MOVED: Final = "(new.settle IN (SELECT number FROM moved)) IS TRUE"
_TALLY_COLUMNS: Final = ("organization", "period", "kind", "n")


@cache
def statement(wanted: tuple[bool, ...]) -> str:
    """Return the statement for a batch. `wanted` says which of `CHANGES` it has rows for, and last whether it has
    counts.
    """
    numbers = count(2)

    def arrays(table: str, columns: Sequence[str]) -> str:
        kinds = ["bigint", *[batch_rows.sql_type(table, column) for column in columns]]
        return ", ".join(f"${next(numbers)}::{kind}[]" for kind in kinds)

    # On `= ANY (ARRAY[x])` see `append`.
    parts = [
        "slot AS (SELECT $1::bigint AS number)",
        f"""moved AS (
            UPDATE cursor SET {batch_rows.CURSOR_CHANGES}, token = cursor.token + new.releases,
                owner = CASE WHEN new.releases = 0 OR cursor.stream > 0 THEN cursor.owner END
            FROM unnest({arrays("cursor", batch_rows.CURSOR_COLUMNS)})
                WITH ORDINALITY AS new (releases, {", ".join(batch_rows.CURSOR_COLUMNS)}, number)
            WHERE cursor.organization = ANY (ARRAY[new.organization]) AND cursor.listener = new.listener
                AND cursor.stream = new.stream AND cursor.token = new.token AND cursor.version = new.version
            RETURNING new.number
        )""",
    ]
    for number, change in enumerate(batch_rows.CHANGES):
        if wanted[number]:
            parts.append(f"change_{number} AS ({_change(change, arrays(change.table, change.columns))})")
    if wanted[-1]:
        parts.append(f"counted AS ({_count(arrays('tally', _TALLY_COLUMNS))})")
    return f"WITH {', '.join(parts)} SELECT number FROM moved"


def _change(change: batch_rows.RowChange, arrays: str) -> str:
    table, columns = change.table, ", ".join(change.columns)
    new = f"unnest({arrays}) AS new (settle, {columns})"
    if change.action in ("delete", "update"):
        keys = [f"{table}.organization = ANY (ARRAY[new.organization])"]
        keys += [f"{table}.{column} = new.{column}" for column in change.key[1:]]
        matches = " AND ".join([*keys, _IF_MOVED])
        if change.action == "delete":
            return f"DELETE FROM {table} USING {new} WHERE {matches}"
        return f"UPDATE {table} SET {change.assignments} FROM {new} WHERE {matches}"
    values = ", ".join(f"new.{column}" for column in change.columns)
    key = ", ".join(change.key)
    conflict = "DO NOTHING" if change.action == "insert" else f"({key}) DO UPDATE SET {change.assignments}"
    return f"INSERT INTO {table} ({columns}) SELECT {values} FROM {new} WHERE {_IF_MOVED} ON CONFLICT {conflict}"


def _count(arrays: str) -> str:
    return f"""
        INSERT INTO tally (organization, period, kind, slot, n)
        SELECT new.organization, new.period, new.kind, (SELECT number FROM slot), sum(new.n)::bigint
        FROM unnest({arrays}) AS new (settle, {", ".join(_TALLY_COLUMNS)})
        WHERE {_IF_MOVED} GROUP BY new.organization, new.period, new.kind
        ON CONFLICT (organization, period, kind, slot) DO UPDATE SET n = tally.n + excluded.n"""


async def settle(connection: asyncpg.Connection, settles: Sequence[Settle], tally_slot: int) -> list[bool | Exception]:
    """Apply the settles; they are durable when this returns.

    Returns for each whether its cursor had the expected token and version.
    """
    # Only the first of several settles that expect the same cursor can find it.
    first = {batch_rows.expected_cursor(item): item for item in reversed(settles)}
    # Like heads, cursors are locked in the order of their keys.
    ordered = [first[expected] for expected in sorted(first)]
    values = [tally_slot, *_columns([(1 if item.releases else 0, *batch_rows.cursor_values(item)) for item in ordered])]
    numbered = list(enumerate(ordered, 1))
    rows = [[(number, *row) for number, item in numbered for row in change.rows(item)] for change in batch_rows.CHANGES]
    rows.append([(number, *each) for number, item in numbered for each in tallies.attempt_entries(item.attempts)])
    for part in rows:
        values += _columns(part)
    found = await connection.fetch(statement(tuple(map(bool, rows))), *values)
    moved = {batch_rows.expected_cursor(ordered[number - 1]) for (number,) in found}
    return [
        first[expected] is item and expected in moved
        for item in settles
        for expected in (batch_rows.expected_cursor(item),)
    ]


def empty_statement() -> tuple[Any, ...]:
    """Return the statement for a batch that only moves cursors, and parameters for no cursor at all."""
    return (statement((False,) * (len(batch_rows.CHANGES) + 1)), 0, *[()] * (len(batch_rows.CURSOR_COLUMNS) + 1))


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    return list(zip(*rows, strict=True))
