"""The table: made by SQL, by SQLAlchemy and by Alembic."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, MetaData, create_engine, inspect, text
from sqlalchemy.pool import NullPool

import discue_client.outbox.alembic  # noqa: F401 - registers the operations
from discue_client.outbox.sqlalchemy import outbox_table
from discue_client.outbox.table import create_statements, drop_statements
from tests.clients.python.outbox.databases import empty_database


@pytest.fixture
def connection(engine_name: str, tmp_path: Path) -> Iterator[Connection]:
    with empty_database(engine_name, tmp_path) as url:
        engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
        with engine.connect() as made:
            yield made


def functions(connection: Connection) -> list[str]:
    if connection.dialect.name == "sqlite":
        return []
    found = connection.execute(text("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"))
    return [str(row[0]) for row in found]


def test_alembic_creates_and_drops_the_table_that_sqlalchemy_describes(connection: Connection) -> None:
    metadata = MetaData()
    outbox_table(metadata)
    context = MigrationContext.configure(connection)
    operations = Operations(context)

    operations.create_discue_outbox()  # type: ignore[attr-defined] # registered by the import
    assert compare_metadata(context, metadata) == []
    assert len(inspect(connection).get_indexes("discue_outbox")) == 3

    operations.drop_discue_outbox()  # type: ignore[attr-defined] # as above
    assert inspect(connection).get_table_names() == []
    assert functions(connection) == []


def test_sqlalchemy_creates_the_table_of_the_sql_and_drops_all_of_it(connection: Connection) -> None:
    metadata = MetaData()
    outbox_table(metadata)

    metadata.create_all(connection)
    made = _definition(connection)
    metadata.drop_all(connection)
    assert functions(connection) == []

    for statement in create_statements(connection.dialect.name) * 2:
        connection.execute(text(statement))
    assert _definition(connection) == made
    for statement in drop_statements(connection.dialect.name):
        connection.execute(text(statement))


def _definition(connection: Connection) -> object:
    found = inspect(connection)
    columns = [
        {name: str(each[name]) for name in ("name", "type", "nullable")} for each in found.get_columns("discue_outbox")
    ]
    indexes = [(each["name"], each["column_names"]) for each in found.get_indexes("discue_outbox")]
    return columns, sorted(indexes), functions(connection)


def test_sqlite_never_gives_a_number_twice() -> None:
    connection = sqlite3.connect(":memory:")
    for statement in create_statements("sqlite"):
        connection.execute(statement)
    insert = "INSERT INTO discue_outbox (queue, payload, form, fields, created_at) VALUES ('q', '', 'text', '{}', 0)"

    connection.execute(insert)
    connection.execute("DELETE FROM discue_outbox")
    connection.execute(insert)

    assert connection.execute("SELECT id FROM discue_outbox").fetchall() == [(2,)]
    connection.close()


def test_unsupported_database_is_refused_with_the_supported_ones() -> None:
    with pytest.raises(ValueError, match="works on PostgreSQL and SQLite, not on mysql"):
        create_statements("mysql")
