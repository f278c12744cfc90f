"""The inbox as a table of SQLAlchemy 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, Column, Index, Table, Text

from discue_client.inbox.table import INDEX, TABLE

if TYPE_CHECKING:
    from sqlalchemy import MetaData


def inbox_table(metadata: MetaData) -> Table:
    """Add the table to the metadata, and return it: `metadata.create_all` creates it."""
    return Table(
        TABLE,
        metadata,
        Column("message", Text, primary_key=True),
        Column("consumer", Text, primary_key=True),
        Column("marked_at", BigInteger, nullable=False),
        Index(INDEX, "marked_at"),
    )
