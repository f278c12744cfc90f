"""Publishing in the transaction of an application, with each library."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from discue_client import outbox, wire
from discue_client.outbox import waking
from discue_client.outbox.rows import Row, message_of, new_row
from tests.clients.python.outbox.databases import outbox_database, run, waiting
from tests.support.everywhere import EVERYWHERE

ORDER = {"order": 17}
STORED = ("orders", "customer-9", b'{"order":17}')


def store(connection: Any) -> None:
    outbox.publish(connection, "orders", ORDER, key="customer-9")


async def store_async(connection: Any) -> None:
    await outbox.publish_async(connection, "orders", ORDER, key="customer-9")


def with_session(url: str, *, commit: bool) -> None:
    engine = create_engine(make_url(url.replace("postgresql:", "postgresql+psycopg:")), poolclass=NullPool)
    with Session(engine) as session:
        store(session)
        session.commit() if commit else session.rollback()


def with_scoped_session(url: str, *, commit: bool) -> None:
    engine = create_engine(make_url(url.replace("postgresql:", "postgresql+psycopg:")), poolclass=NullPool)
    session = scoped_session(sessionmaker(engine))
    store(session)
    session.commit() if commit else session.rollback()
    session.remove()


def with_connection_of_sqlalchemy(url: str, *, commit: bool) -> None:
    engine = create_engine(make_url(url.replace("postgresql:", "postgresql+psycopg:")), poolclass=NullPool)
    with engine.connect() as connection:
        store(connection)
        connection.commit() if commit else connection.rollback()


def with_sqlite3(url: str, *, commit: bool) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        store(connection)
        connection.commit() if commit else connection.rollback()


def with_psycopg(url: str, *, commit: bool) -> None:
    with psycopg.connect(url) as connection:
        store(connection)
        connection.commit() if commit else connection.rollback()


def with_cursor_of_psycopg(url: str, *, commit: bool) -> None:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        store(cursor)
        connection.commit() if commit else connection.rollback()


async def with_async_session(url: str, *, commit: bool) -> None:
    engine = create_async_engine(make_url(url.replace("postgresql:", "postgresql+asyncpg:")), poolclass=NullPool)
    async with AsyncSession(engine) as session:
        await store_async(session)
        await (session.commit() if commit else session.rollback())


async def with_async_connection_of_sqlalchemy(url: str, *, commit: bool) -> None:
    engine = create_async_engine(make_url(url.replace("postgresql:", "postgresql+psycopg:")), poolclass=NullPool)
    async with engine.connect() as connection:
        await store_async(connection)
        await (connection.commit() if commit else connection.rollback())


async def with_async_psycopg(url: str, *, commit: bool) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await store_async(connection)
        await (connection.commit() if commit else connection.rollback())


async def with_asyncpg(url: str, *, commit: bool) -> None:
    connection = await asyncpg.connect(url)
    transaction = connection.transaction()
    await transaction.start()
    await store_async(connection)
    await (transaction.commit() if commit else transaction.rollback())
    await connection.close()


async def with_pool_of_asyncpg(url: str, *, commit: bool) -> None:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await store_async(connection)
        await (transaction.commit() if commit else transaction.rollback())


_DJANGO = """
import sys
import django
from django.conf import settings

engine, name, user, host, port, commit = sys.argv[1:]
settings.configure(
    DATABASES={"default": {"ENGINE": engine, "NAME": name, "USER": user, "HOST": host, "PORT": port}},
    INSTALLED_APPS=["discue_client.outbox.django"],
)
django.setup()
from django.core.management import call_command
from django.db import transaction
from discue_client.outbox.django import publish

call_command("migrate", verbosity=0)
call_command("makemigrations", check=True, dry_run=True, verbosity=0)
with transaction.atomic():
    publish("orders", {"order": 17}, key="customer-9")
    transaction.set_rollback(commit != "True")
"""


def with_django(url: str, *, commit: bool) -> None:
    """Creates the table by the migration."""
    run(url, "DROP TABLE IF EXISTS django_migrations", "DROP TABLE discue_outbox")
    if url.startswith("postgresql"):
        run(url, "DROP FUNCTION discue_outbox_notify()")
    parsed = make_url(url)
    engine = "postgresql" if parsed.drivername == "postgresql" else "sqlite3"
    values = (parsed.database, parsed.username, parsed.host, parsed.port, commit)
    command = [sys.executable, "-c", _DJANGO, f"django.db.backends.{engine}", *(str(each or "") for each in values)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 0, ended.stderr


SYNC = (with_session, with_scoped_session, with_connection_of_sqlalchemy, with_django)
POSTGRES_ONLY = (with_psycopg, with_cursor_of_psycopg)
ASYNC = (
    with_async_session,
    with_async_connection_of_sqlalchemy,
    with_async_psycopg,
    with_asyncpg,
    with_pool_of_asyncpg,
)


def _in_loop(work: Callable[..., Any]) -> Callable[..., None]:
    def run_it(url: str, *, commit: bool) -> None:
        asyncio.run(work(url, commit=commit))

    return run_it


CASES = [
    *(
        pytest.param(engine, work, id=f"{engine}-{work.__name__}")
        for work in SYNC
        for engine in ("sqlite", "postgres")
        # Django starts a process, for a second. The test of the page does that, too.
        if EVERYWHERE or work is not with_django
    ),
    pytest.param("sqlite", with_sqlite3, id="sqlite-with_sqlite3"),
    *(pytest.param("postgres", work, id=f"postgres-{work.__name__}") for work in POSTGRES_ONLY),
    *(pytest.param("postgres", _in_loop(work), id=f"postgres-{work.__name__}") for work in ASYNC),
]


@pytest.mark.parametrize(("engine_name", "work"), CASES)
def test_message_is_stored_by_the_commit_and_not_by_a_rollback(
    url: str, engine_name: str, work: Callable[..., None]
) -> None:
    work(url, commit=True)
    assert [(queue, key, bytes(payload)) for queue, key, payload in waiting(url)] == [STORED]

    run(url, "DELETE FROM discue_outbox")
    work(url, commit=False)
    assert waiting(url) == []


class _Counting:
    def __init__(self) -> None:
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1


def test_session_wakes_the_relays_of_the_process_after_the_commit(tmp_path: Path) -> None:
    relay = _Counting()
    waking.add(relay)
    with outbox_database("sqlite", tmp_path) as url, Session(create_engine(url, poolclass=NullPool)) as session:
        store(session)
        store(session)
        assert relay.wakes == 0

        session.commit()
        waking.remove(relay)
        outbox.wake()

    assert relay.wakes == 1


@pytest.mark.parametrize("data", ["<order/>", b"\x00\xff", ORDER, None, 17, "17"])
def test_row_is_sent_as_the_message_that_was_given(data: Any) -> None:
    fields: dict[str, Any] = {"headers": {"x-tenant": "t"}, "content_type": "application/x-order", "type": "order.paid"}
    row = new_row("orders", data, key="a", **fields)

    message = json.loads(wire.encode(message_of(Row(1, row.key, row.payload, row.form, row.fields))))

    expected = {"data_base64": "AP8="} if isinstance(data, bytes) else {"data": data}
    assert message == {"key": "a"} | fields | expected


@pytest.mark.parametrize("delay", [90, 90.0, timedelta(seconds=90)])
def test_delay_counts_from_the_call(delay: Any) -> None:
    before = round(time.time() * 1_000)

    row = new_row("orders", ORDER, delay=delay, expires_at=datetime(2100, 1, 1, tzinfo=UTC))

    fields = json.loads(row.fields)
    assert before + 90_000 <= fields["deliver_at"] <= round(time.time() * 1_000) + 90_000
    assert fields == {"deliver_at": fields["deliver_at"], "expires_at": 4_102_444_800_000}


@pytest.mark.parametrize(
    ("queue", "data", "error"), [("", ORDER, ValueError), ("..", ORDER, ValueError), ("orders", object(), TypeError)]
)
def test_message_that_cannot_be_sent_is_refused_before_it_is_stored(
    tmp_path: Path, queue: str, data: object, error: type[Exception]
) -> None:
    with outbox_database("sqlite", tmp_path) as url, closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as made:
        with pytest.raises(error):
            outbox.publish(made, queue, data)
        made.commit()

        assert waiting(url) == []


def test_wrong_kind_of_connection_is_a_type_error_that_says_what_to_do() -> None:
    with pytest.raises(TypeError, match=r"takes a Session .*, not builtins\.str\.$"):
        outbox.publish("postgresql://", "orders", ORDER)
    with pytest.raises(TypeError, match=r"AsyncSession\. Use `publish_async` for it\.$"):
        outbox.publish(AsyncSession(), "orders", ORDER)
    with pytest.raises(TypeError, match=r"Session\. Use `publish` for it\.$"):
        asyncio.run(outbox.publish_async(Session(), "orders", ORDER))


def test_import_needs_no_library_of_a_database() -> None:
    program = (
        "import sys, discue_client.outbox; print({'sqlalchemy', 'asyncpg', 'psycopg', 'sqlite3'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)

    assert ended.stdout == "set()\n"
