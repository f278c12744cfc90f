"""Counts on SQLite: added to in the transaction that they count."""

from collections.abc import Sequence

import apsw

from discue.store.tables import chunks, statement_of_rows
from discue.store.tallies import TallyEntry

_ADD = statement_of_rows(
    lambda values: (
        f"INSERT INTO tally (organization, period, kind, slot, n) VALUES {values} "
        "ON CONFLICT (organization, period, kind, slot) DO UPDATE SET n = n + excluded.n"
    ),
    columns=5,
)


def count(connection: apsw.Connection, counted: Sequence[TallyEntry], slot: int) -> None:
    """Must run inside a write transaction."""
    for chunk in chunks(counted):
        values = [value for each in chunk for value in (each.organization, each.period, each.kind, slot, each.n)]
        connection.execute(_ADD(len(chunk)), values)
