"""Settle on SQLite: move the cursors, guarded by token and version, then write the other rows of those that moved."""

from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Final

import apsw

from discue.store import batch_rows, tallies
from discue.store.engine import Settle
from discue.store.sqlite.append import count
from discue.store.tables import chunks, statement_of_rows

# SQLite rewrites the index of owners whenever a statement assigns `owner`: cursors that only move have their own.
_RELEASE: Final = ", owner = CASE WHEN cursor.stream > 0 THEN cursor.owner END, token = cursor.token + 1"


def _cursor_statement(assignments: str, token: str, values: str) -> str:
    return f"""
        WITH new ({", ".join(batch_rows.CURSOR_COLUMNS)}) AS (VALUES {values})
        UPDATE cursor SET {assignments} FROM new
        WHERE cursor.organization = new.organization AND cursor.listener = new.listener AND cursor.stream = new.stream
            AND cursor.token = new.token AND cursor.version = new.version
        RETURNING cursor.organization, cursor.listener, cursor.stream, {token}, cursor.version - 1"""


def _statement(change: batch_rows.RowChange, values: str) -> str:
    table, columns, key = change.table, ", ".join(change.columns), ", ".join(change.key)
    if change.action == "delete":
        return f"DELETE FROM {table} WHERE ({key}) IN (VALUES {values})"
    if change.action == "update":
        matches = " AND ".join(f"{table}.{column} = new.{column}" for column in change.key)
        new = f"WITH new ({columns}) AS (VALUES {values})"
        return f"{new} UPDATE {table} SET {change.assignments} FROM new WHERE {matches}"
    conflict = "DO NOTHING" if change.action == "insert" else f"({key}) DO UPDATE SET {change.assignments}"
    return f"INSERT INTO {table} ({columns}) VALUES {values} ON CONFLICT {conflict}"


_MOVE_CURSORS: Final = statement_of_rows(
    partial(_cursor_statement, batch_rows.CURSOR_CHANGES, "cursor.token"), columns=len(batch_rows.CURSOR_COLUMNS)
)
_RELEASE_CURSORS: Final = statement_of_rows(
    partial(_cursor_statement, batch_rows.CURSOR_CHANGES + _RELEASE, "cursor.token - 1"),
    columns=len(batch_rows.CURSOR_COLUMNS),
)
_CHANGES: Final = tuple(
    (change.rows, statement_of_rows(partial(_statement, change), columns=len(change.columns)))
    for change in batch_rows.CHANGES
)


def settle(connection: apsw.Connection, settles: Sequence[Settle], tally_slot: int) -> list[bool | Exception]:
    """Apply the settles; must run inside a write transaction.

    Returns for each whether its cursor had the expected token and version.
    """
    if not settles:
        return []
    # Only the first of several settles that expect the same cursor can find it.
    first = {batch_rows.expected_cursor(item): item for item in reversed(settles)}
    moved = _move_cursors(connection, tuple(first.values()))
    results: list[bool | Exception] = [
        first[expected] is item and expected in moved
        for item in settles
        for expected in (batch_rows.expected_cursor(item),)
    ]
    applied = [item for item, result in zip(settles, results, strict=True) if result]
    for rows_of, statement in _CHANGES:
        for chunk in chunks(list(chain.from_iterable(map(rows_of, applied)))):
            connection.execute(statement(len(chunk)), tuple(chain.from_iterable(chunk)))
    count(connection, tallies.attempt_entries([each for item in applied for each in item.attempts]), tally_slot)
    return results


def _move_cursors(connection: apsw.Connection, settles: Sequence[Settle]) -> set[batch_rows.ExpectedCursor]:
    moved: set[batch_rows.ExpectedCursor] = set()
    for statement, releases in ((_MOVE_CURSORS, False), (_RELEASE_CURSORS, True)):
        for chunk in chunks([item for item in settles if item.releases is releases]):
            moved.update(
                connection.execute(
                    statement(len(chunk)), tuple(chain.from_iterable(map(batch_rows.cursor_values, chunk)))
                )
            )
    return moved
