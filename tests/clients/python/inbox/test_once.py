"""Marking a message in the transaction of its effect, with each library."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event as Signal
from typing import Any, TypeAlias

import asyncpg
import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from discue_client import inbox
from discue_client.webhook import Event
from tests.clients.python.outbox.databases import connect, run
from tests.support.everywhere import EVERYWHERE

MESSAGE = "0VbuHmmk0005kDDUCpss3"
EVENT = Event(MESSAGE, {"order": 17}, datetime.now(UTC), {}, b"", {"discue-replay": "r"})
EFFECT = f"INSERT INTO effects VALUES ('{MESSAGE}')"

Sync: TypeAlias = Callable[[str], AbstractContextManager[Any]]
Async: TypeAlias = Callable[[str], AbstractAsyncContextManager[Any]]


class Failed(Exception):
    """The error of an effect."""


def effects(url: str) -> int:
    return len(run(url, "SELECT message FROM effects"))


def marks(url: str) -> list[tuple[str, str]]:
    return [(message, consumer) for message, consumer in run(url, "SELECT message, consumer FROM discue_inbox")]


def _engine(url: str, **options: Any) -> Any:
    return create_engine(make_url(url.replace("postgresql:", "postgresql+psycopg:")), poolclass=NullPool, **options)


def _statement(connection: Any, sql: str) -> Any:
    return text(sql) if type(connection).__module__.startswith("sqlalchemy") else sql


@contextmanager
def session(url: str) -> Iterator[Any]:
    with Session(_engine(url)) as made:
        yield made


@contextmanager
def scoped(url: str) -> Iterator[Any]:
    made = scoped_session(sessionmaker(_engine(url)))
    yield made
    made.remove()


@contextmanager
def connection_of_sqlalchemy(url: str) -> Iterator[Any]:
    with _engine(url).connect() as made:
        yield made


@contextmanager
def sqlite(url: str) -> Iterator[Any]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as made:
        yield made


@contextmanager
def autocommitting_sqlite(url: str) -> Iterator[Any]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as made:
        yield made


@contextmanager
def cursor_of_sqlite(url: str) -> Iterator[Any]:
    with sqlite(url) as made, closing(made.cursor()) as cursor:
        yield cursor


@contextmanager
def of_psycopg(url: str) -> Iterator[Any]:
    with closing(psycopg.connect(url)) as made:
        yield made


@contextmanager
def autocommitting_psycopg(url: str) -> Iterator[Any]:
    with closing(psycopg.connect(url, autocommit=True)) as made:
        yield made


@contextmanager
def cursor_of_psycopg(url: str) -> Iterator[Any]:
    with of_psycopg(url) as made, made.cursor() as cursor:
        yield cursor


@asynccontextmanager
async def async_session(url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(make_url(url.replace("postgresql:", "postgresql+asyncpg:")), poolclass=NullPool)
    async with AsyncSession(engine) as made:
        yield made


@asynccontextmanager
async def async_connection_of_sqlalchemy(url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(make_url(url.replace("postgresql:", "postgresql+psycopg:")), poolclass=NullPool)
    async with engine.connect() as made:
        yield made


@asynccontextmanager
async def async_psycopg(url: str) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(url) as made:
        yield made


@asynccontextmanager
async def of_asyncpg(url: str) -> AsyncIterator[Any]:
    made = await asyncpg.connect(url)
    yield made
    await made.close()


@asynccontextmanager
async def of_a_pool(url: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool, pool.acquire() as made:
        yield made


def _case(engine: str, opened: Any) -> Any:
    return pytest.param(engine, opened, id=f"{engine}-{opened.__name__}")


SYNC = [
    *(_case(engine, each) for each in (session, scoped, connection_of_sqlalchemy) for engine in ("sqlite", "postgres")),
    *(_case("sqlite", each) for each in (sqlite, autocommitting_sqlite, cursor_of_sqlite)),
    *(_case("postgres", each) for each in (of_psycopg, autocommitting_psycopg, cursor_of_psycopg)),
]
_WITHOUT_A_TRANSACTION = ("sqlite-sqlite", "sqlite-cursor_of_sqlite")
ASYNC = [
    _case("postgres", each)
    for each in (async_session, async_connection_of_sqlalchemy, async_psycopg, of_asyncpg, of_a_pool)
]


def fail(connection: Any) -> None:
    with inbox.once(connection, MESSAGE):
        connection.execute(_statement(connection, EFFECT))
        raise Failed


async def fail_async(connection: Any) -> None:
    async with inbox.once(connection, MESSAGE):
        await connection.execute(_statement(connection, EFFECT))
        raise Failed


async def fail_after(connection: Any) -> None:
    async with connection.transaction():
        async with inbox.once(connection, EVENT):
            await connection.execute(EFFECT)
        raise Failed


@pytest.mark.parametrize(("engine_name", "opened"), SYNC)
def test_first_of_two_requests_has_the_effect(url: str, opened: Sync) -> None:
    found = []
    for _ in range(2):
        with opened(url) as connection, inbox.once(connection, EVENT) as first:
            found.append(first)
            if first:
                connection.execute(_statement(connection, EFFECT))
    assert (found, effects(url), marks(url)) == ([True, False], 1, [(MESSAGE, "")])


@pytest.mark.parametrize(("engine_name", "opened"), SYNC)
def test_effect_that_fails_leaves_no_mark_and_is_tried_again(url: str, opened: Sync) -> None:
    with opened(url) as connection, pytest.raises(Failed):
        fail(connection)
    assert (effects(url), marks(url)) == (0, [])
    with opened(url) as connection, inbox.once(connection, MESSAGE) as first:
        connection.execute(_statement(connection, EFFECT))
    assert (first, effects(url), marks(url)) == (True, 1, [(MESSAGE, "")])


def _begun(connection: Any) -> Any:
    """Open a transaction that has only read, and return what ends it."""
    owner = connection.connection if isinstance(connection, (sqlite3.Cursor, psycopg.Cursor)) else connection
    if getattr(owner, "isolation_level", "") is None or getattr(owner, "autocommit", False) is True:
        owner.execute("BEGIN")
    connection.execute(_statement(connection, "SELECT 1")).fetchall()
    return owner


# sqlite3 opens no transaction for a statement that reads.
@pytest.mark.parametrize(("engine_name", "opened"), [each for each in SYNC if each.id not in _WITHOUT_A_TRANSACTION])
def test_mark_and_effect_are_rolled_back_with_the_transaction(url: str, opened: Sync) -> None:
    with opened(url) as connection:
        owner = _begun(connection)
        with inbox.once(connection, MESSAGE) as first:
            connection.execute(_statement(connection, EFFECT))
        owner.rollback()
    assert (first, effects(url), marks(url)) == (True, 0, [])


@pytest.mark.parametrize(("engine_name", "opened"), SYNC)
def test_failed_effect_leaves_the_open_transaction_usable(url: str, opened: Sync) -> None:
    with opened(url) as connection:
        owner = _begun(connection)
        connection.execute(_statement(connection, EFFECT))
        with pytest.raises(Failed):
            fail(connection)
        owner.commit()
    assert (effects(url), marks(url)) == (1, [])


def _in_loop(work: Callable[[], Awaitable[None]]) -> None:
    async def run_it() -> None:
        await work()

    asyncio.run(run_it())


@pytest.mark.parametrize(("engine_name", "opened"), ASYNC)
def test_async_block_has_its_effect_once(url: str, opened: Async) -> None:
    found = []

    async def fail_and_repeat() -> None:
        async with opened(url) as connection:
            with pytest.raises(Failed):
                await fail_async(connection)
        for _ in range(2):
            async with opened(url) as connection, inbox.once(connection, EVENT) as first:
                found.append(first)
                if first:
                    await connection.execute(_statement(connection, EFFECT))

    _in_loop(fail_and_repeat)
    assert (found, effects(url), marks(url)) == ([True, False], 1, [(MESSAGE, "")])


@pytest.mark.parametrize(("engine_name", "opened"), ASYNC[-2:])
def test_async_mark_is_rolled_back_with_the_transaction(url: str, opened: Async) -> None:
    async def roll_back() -> None:
        async with opened(url) as connection:
            with pytest.raises(Failed):
                await fail_after(connection)

    _in_loop(roll_back)
    assert (effects(url), marks(url)) == (0, [])


@pytest.mark.parametrize("outcome", ["commit", "rollback"])
def test_second_of_two_requests_at_once_waits_for_the_first(url: str, outcome: str) -> None:
    """The first one is in its effect when the second one comes."""
    began, may_end = Signal(), Signal()

    def handle(number: int) -> bool | None:
        with closing(connect(url)) as connection:
            try:
                with inbox.once(connection, MESSAGE) as first:
                    if number == 0:
                        began.set()
                        assert may_end.wait(30)
                    if first:
                        connection.execute(EFFECT)
                    if number == 0 and outcome == "rollback":
                        raise Failed
            except Failed:
                return None
            return first

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(handle, 0)
        assert began.wait(30)
        two = pool.submit(handle, 1)
        assert not two.done()
        may_end.set()
        found = [one.result(30), two.result(30)]

    assert found == ([True, False] if outcome == "commit" else [None, True])
    assert effects(url) == 1


def test_consumers_share_a_table(url: str) -> None:
    with closing(connect(url)) as connection:
        found = []
        for consumer in ("mail", "stock", "mail"):
            with inbox.once(connection, EVENT, consumer=consumer) as first:
                found.append(first)
    assert found == [True, True, False]
    assert sorted(marks(url)) == [(MESSAGE, "mail"), (MESSAGE, "stock")]


def test_replay_has_an_effect_only_where_its_key_is_given(url: str) -> None:
    with closing(connect(url)) as connection:
        found = []
        for given in (EVENT, EVENT.deduplication_key, EVENT):
            with inbox.once(connection, given) as first:
                found.append(first)
    assert found == [True, True, False]


@pytest.mark.parametrize("engine_name", ["postgres"])
def test_session_that_commits_each_statement_is_refused(url: str) -> None:
    with (
        Session(_engine(url, isolation_level="AUTOCOMMIT")) as made,
        pytest.raises(Exception, match="SAVEPOINT can only be used in transaction blocks"),
        inbox.once(made, EVENT),
    ):
        raise AssertionError("The block is not entered.")
    assert marks(url) == []


def test_old_marks_are_forgotten(url: str) -> None:
    old = "INSERT INTO discue_inbox VALUES ('{}', '', {})"
    run(url, old.format("a", 1), old.format("b", 2), old.format("c", 3))
    with closing(connect(url)) as connection:
        with inbox.once(connection, MESSAGE):
            pass
        assert [inbox.forget(connection, limit=2) for _ in range(3)] == [2, 1, 0]
    assert marks(url) == [(MESSAGE, "")]
    with session(url) as made:
        assert inbox.forget(made, older_than=timedelta(seconds=-60)) == 1
        made.commit()
    assert marks(url) == []


@pytest.mark.parametrize(("engine_name", "opened"), ASYNC)
def test_old_marks_are_forgotten_on_a_loop(url: str, opened: Async) -> None:
    run(url, "INSERT INTO discue_inbox VALUES ('a', '', 1)")

    async def forget() -> None:
        async with opened(url) as connection:
            assert await inbox.forget_async(connection) == 1

    _in_loop(forget)


@pytest.mark.parametrize("message", ["", None, 17, {"id": 17}])
def test_argument_that_is_not_a_message_is_refused(message: Any) -> None:
    with closing(sqlite3.connect(":memory:")) as connection, pytest.raises(TypeError, match="an event, a delivery or"):
        inbox.once(connection, message)


def test_unsupported_connections_are_refused_with_the_alternative(url: str) -> None:
    with (
        pytest.raises(TypeError, match=r"The inbox takes a Session .*, not builtins\.object\.$"),
        inbox.once(object(), "a"),
    ):
        pass
    with pytest.raises(TypeError, match="Use `forget_async` for it"):
        inbox.forget(AsyncSession())
    with pytest.raises(TypeError, match="Use `async with` for it"), inbox.once(AsyncSession(), "a"):
        pass

    async def enter() -> None:
        with closing(connect(url)) as connection:
            with pytest.raises(TypeError, match="Use `with` for it"):
                async with inbox.once(connection, "a"):
                    pass
            with pytest.raises(TypeError, match="Use `forget` for it"):
                await inbox.forget_async(connection)

    _in_loop(enter)


_DJANGO = """
import sys
import django
from django.conf import settings

engine, name, user, host, port = sys.argv[1:]
settings.configure(
    DATABASES={"default": {"ENGINE": engine, "NAME": name, "USER": user, "HOST": host, "PORT": port}},
    INSTALLED_APPS=["discue_client.inbox.django"],
)
django.setup()
from datetime import timedelta
from django.core.management import call_command
from django.db import connection, transaction
from discue_client.inbox.django import forget, once

call_command("migrate", verbosity=0)
call_command("makemigrations", check=True, dry_run=True, verbosity=0)

def handle(fails=False):
    with once("m") as first:
        connection.cursor().execute("INSERT INTO effects VALUES ('m')")
        if fails:
            raise ValueError
        return first

try:
    handle(fails=True)
except ValueError:
    pass
with transaction.atomic():
    try:
        handle(fails=True)
    except ValueError:
        pass
with transaction.atomic():
    assert handle()
    transaction.set_rollback(True)
assert handle()
assert not handle()
assert (forget(), forget(older_than=timedelta(seconds=-60))) == (0, 1)
call_command("migrate", "discue_inbox", "zero", verbosity=0)
"""


@pytest.mark.skipif(not EVERYWHERE, reason="Django starts a process, for a second. The test of the page does that too.")
def test_django_has_its_effect_once(url: str) -> None:
    run(url, "DROP TABLE discue_inbox")
    parsed = make_url(url)
    engine = "postgresql" if parsed.drivername == "postgresql" else "sqlite3"
    values = (parsed.database, parsed.username, parsed.host, parsed.port)
    command = [sys.executable, "-c", _DJANGO, f"django.db.backends.{engine}", *(str(each or "") for each in values)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 0, ended.stderr
    assert effects(url) == 2
