"""Databases of applications, with an outbox in them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from discue_client.outbox.table import create_statements
from tests.support.postgres import fixtures as postgres


@contextmanager
def empty_database(engine_name: str, folder: Path) -> Iterator[str]:
    """Yield the URL of a database without tables."""
    if engine_name == "sqlite":
        yield f"sqlite:///{folder}/application.db"
    else:
        with postgres.new_database(postgres.shared_cluster()) as dsn:
            yield dsn


def connect(url: str) -> Any:
    """Return a connection that commits each statement."""
    if url.startswith("sqlite"):
        return sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    return psycopg.connect(url, autocommit=True)


def run(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements, and return the rows of the last one."""
    with closing(connect(url)) as connection:
        for statement in statements[:-1]:
            connection.execute(statement)
        last = connection.execute(statements[-1])
        rows: list[tuple[Any, ...]] = last.fetchall() if last.description else []
        return rows


@contextmanager
def outbox_database(engine_name: str, folder: Path) -> Iterator[str]:
    """Yield the URL of a database with an outbox."""
    with empty_database(engine_name, folder) as url:
        run(url, *create_statements("sqlite" if engine_name == "sqlite" else "postgresql"))
        yield url


def waiting(url: str) -> list[tuple[Any, ...]]:
    """Return the queue, the key and the payload of each row."""
    return run(url, "SELECT queue, key, payload FROM discue_outbox ORDER BY id")
