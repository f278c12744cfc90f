"""The table: made by SQL, by SQLAlchemy and by Alembic."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, MetaData, create_engine, inspect, text
from sqlalchemy.pool import NullPool

import discue_client.inbox.alembic  # noqa: F401 - registers the operations
from discue_client.inbox.sqlalchemy import inbox_table
from discue_client.inbox.table import create_statements, drop_statements
from tests.clients.python.outbox.databases import empty_database


@pytest.fixture
def connection(engine_name: str, tmp_path: Path) -> Iterator[Connection]:
    with empty_database(engine_name, tmp_path) as url:
        engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
        with engine.connect() as made:
            yield made


def _definition(connection: Connection) -> object:
    found = inspect(connection)
    columns = [
        {name: str(each[name]) for name in ("name", "type", "nullable")} for each in found.get_columns("discue_inbox")
    ]
    indexes = [(each["name"], each["column_names"]) for each in found.get_indexes("discue_inbox")]
    return columns, indexes, found.get_pk_constraint("discue_inbox")["constrained_columns"]


def test_alembic_creates_and_drops_the_table_that_sqlalchemy_describes(connection: Connection) -> None:
    metadata = MetaData()
    inbox_table(metadata)
    context = MigrationContext.configure(connection)
    operations = Operations(context)

    operations.create_discue_inbox()  # type: ignore[attr-defined] # registered by the import
    assert compare_metadata(context, metadata) == []

    operations.drop_discue_inbox()  # type: ignore[attr-defined] # as above
    assert inspect(connection).get_table_names() == []


def test_sqlalchemy_creates_the_table_of_the_sql(connection: Connection) -> None:
    metadata = MetaData()
    inbox_table(metadata)

    metadata.create_all(connection)
    made = _definition(connection)
    metadata.drop_all(connection)

    for statement in create_statements(connection.dialect.name) * 2:
        connection.execute(text(statement))
    assert _definition(connection) == made
    for statement in drop_statements(connection.dialect.name):
        connection.execute(text(statement))
    assert inspect(connection).get_table_names() == []


def test_unsupported_database_is_refused_with_the_supported_ones() -> None:
    for statements in (create_statements, drop_statements):
        with pytest.raises(ValueError, match="The inbox works on PostgreSQL and SQLite, not on mysql"):
            statements("mysql")
