"""Opening and inspecting PostgreSQL databases."""

import asyncio
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from discue.domain.errors import StoreUnavailable, StoreUnusable
from discue.store.engine import Notification
from discue.store.migrations import migrations
from discue.store.postgres import schema
from discue.store.postgres.connection import Server, _each_host
from discue.store.postgres.engine import PostgresEngine
from discue.store.postgres.schema import DIALECT, inspect_database
from tests.store.postgres_engine import Opened, becomes, database_of, opened
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.fixtures import new_database
from tests.support.postgres.processes import until
from tests.support.second_migration import add_second_migration
from tests.support.stores import migrated_template

SECRET = "s3cr3t%21word"
KNOWN = migrations(DIALECT)


@pytest.fixture
def empty(runner: asyncio.Runner, postgres_cluster: Cluster) -> Iterator[str]:
    with new_database(postgres_cluster) as dsn:
        yield dsn


@pytest.fixture
def migrated(runner: asyncio.Runner, postgres_cluster: Cluster) -> Iterator[str]:
    with new_database(postgres_cluster, migrated_template()) as dsn:
        yield dsn


async def refusal(address: str) -> str:
    """Return why a database is refused: the engine and the inspection agree, and reveal no password."""
    with pytest.raises(StoreUnusable) as surveyed:
        await inspect_database(address)
    with pytest.raises(StoreUnusable) as refused:
        await PostgresEngine(address, report=lambda *_: None).open()
    assert str(refused.value) == str(surveyed.value)
    for error in (refused.value, surveyed.value, refused.value.__cause__):
        assert not re.search("s3cr3t", repr(error) + str(error))
    return str(refused.value)


async def test_an_empty_database_is_surveyed_and_left_as_it_is(postgres_cluster: Cluster, empty: str) -> None:
    found = await inspect_database(empty)
    assert (found.exists, found.version) == (True, 0)
    assert found.pending == tuple(migration.name for migration in KNOWN)
    tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert postgres_cluster.run_sql(tables, database_of(empty)) == [("0",)]


async def test_a_second_start_finds_everything(empty: str) -> None:
    epoch = "SELECT value FROM meta WHERE key = 'epoch'"
    async with opened(empty) as made:
        await made.lay()
        await made.append(100, 3)
        first = await made.rows(epoch)
    found = await inspect_database(empty)
    assert (found.version, found.pending) == (KNOWN[-1].number, ())
    async with opened(empty) as made:
        assert len(await made.stored()) == 3
        assert await made.rows(epoch) == first
        assert len(first[0][0]) == 32


async def test_engines_that_start_together_migrate_once(postgres_cluster: Cluster, empty: str) -> None:
    engines = [Opened(empty) for _ in range(6)]
    await asyncio.gather(*(each.engine.open() for each in engines))
    assert await engines[0].rows("SELECT value FROM meta WHERE key = 'schema_version'") == [(str(KNOWN[-1].number),)]
    await asyncio.gather(*(each.engine.close() for each in engines))
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    assert postgres_cluster.run_sql(locks) == [("0",)]


@pytest.mark.parametrize(
    ("compatible_from", "lease_ms", "expected"),
    [
        pytest.param(2, 60_000, "refused", id="too old, and runs"),
        pytest.param(2, -1, "migrated", id="too old, and its lease is over"),
        pytest.param(1, 60_000, "migrated", id="can use the new schema"),
    ],
)
async def test_database_is_not_migrated_away_from_under_a_worker(
    postgres_cluster: Cluster,
    empty: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compatible_from: int,
    lease_ms: int,
    expected: str,
) -> None:
    async with schema.connected(empty) as connection:
        await schema.migrate(connection, KNOWN)
    add_second_migration(monkeypatch, tmp_path, compatible_from=compatible_from)
    postgres_cluster.run_sql(
        "INSERT INTO worker (session_id, lease_until, dead, role, slot, lease_ms, is_leaving) "
        f"VALUES (1, clock_ms() + {lease_ms}, 0, 'all', 1, 10000, 0)",
        database_of(empty),
    )

    if expected == "refused":
        with pytest.raises(StoreUnusable) as error:
            await PostgresEngine(empty, report=lambda *_: None).open()
        assert str(error.value).startswith("A worker of an older version would go on with a database that is too new")
        assert "they know schema version 1, and 2 is needed. Stop them" in str(error.value)
    else:
        async with opened(empty):
            pass
    stored = "SELECT value FROM meta WHERE key = 'schema_version'"
    assert postgres_cluster.run_sql(stored, database_of(empty)) == [("1" if expected == "refused" else "2",)]


async def test_process_that_hangs_between_two_migrations_keeps_nobody_from_starting(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_IDLE_SECONDS", 1)
    client = await Server(empty).connect(10.0)
    async with schema._alone(client):
        async with opened(empty) as made:
            assert await made.rows("SELECT 1") == [(1,)]
        assert client.is_closed()


async def test_a_database_that_needs_a_newer_program_is_refused(postgres_cluster: Cluster, migrated: str) -> None:
    postgres_cluster.run_sql(
        "UPDATE meta SET value = '99' WHERE key = 'compatible_from';"
        "UPDATE meta SET value = '120' WHERE key = 'schema_version'",
        database_of(migrated),
    )
    assert "version 99" in await refusal(migrated)


@pytest.mark.parametrize(
    "theirs",
    ["CREATE TABLE users (id int)", "CREATE VIEW meta AS SELECT 1 AS key", "CREATE TABLE meta (key text, value text)"],
)
async def test_another_programs_database_is_refused_and_left_as_it_is(
    postgres_cluster: Cluster, empty: str, theirs: str
) -> None:
    postgres_cluster.run_sql(theirs, database_of(empty))
    assert "another program" in await refusal(empty)
    tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')"
    assert postgres_cluster.run_sql(tables, database_of(empty)) == [("1",)]


async def test_another_programs_tables_in_another_schema_are_none_of_ours(
    postgres_cluster: Cluster, empty: str
) -> None:
    postgres_cluster.run_sql("CREATE TABLE users (id int); CREATE SCHEMA ours", database_of(empty))
    async with opened(f"{empty}?search_path=ours") as made:
        await made.lay()
        assert await made.rows("SELECT schemaname FROM pg_tables WHERE tablename = 'log'") == [("ours",)]


async def test_error_about_an_address_omits_its_password(postgres_cluster: Cluster, runner: asyncio.Runner) -> None:
    at = f"127.0.0.1:{postgres_cluster.port}"
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{refusing.getsockname()[1]}"
        for address, reason in (
            (f"postgresql://discue:{SECRET}@{at}/nowhere", "no such database"),
            (f"postgresql://nobody:{SECRET}@{at}/postgres", "rejects the user"),
            (f"postgresql://discue:{SECRET}@{nobody}/postgres", "cannot be reached"),
            (f"postgresql://discue:{SECRET}@nowhere.invalid/postgres", "cannot be reached"),
            (f"postgresql://discue:s3cr3t/word@{at}/postgres", "URL is invalid"),
            (f"postgresql://discue:{SECRET}@{at}/postgres?application_name=a&nonsense=1", "nonsense"),
            (f"postgresql://discue:{SECRET}@/postgres?host=/nowhere", "cannot be reached"),
            (f"postgresql://discue:{SECRET}@{at}/postgres?search_path=nowhere", "search_path"),
        ):
            assert reason in await refusal(address)


async def test_a_password_that_is_refused_is_not_repeated(runner: asyncio.Runner) -> None:
    with Cluster() as cluster:
        hba = cluster.data / "pg_hba.conf"
        hba.write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        cluster.run_sql("CREATE ROLE alice LOGIN PASSWORD 'right one'; SELECT pg_reload_conf()")
        wrong = f"postgresql://alice:{SECRET}@127.0.0.1:{cluster.port}/postgres"
        right = wrong.replace(SECRET, "right%20one")
        until(lambda: _refuses(cluster), "the server asks for passwords")
        assert "rejects the password" in await refusal(wrong)
        assert "GRANT CREATE" in await refusal_of_tables(right)
        cluster.run_sql("GRANT CREATE ON SCHEMA public TO alice")
        async with opened(right) as made:
            await made.lay()
            await made.listen()
            # A password that changes while the engine runs is an outage, not an end.
            cluster.run_sql("ALTER ROLE alice PASSWORD 'another'")
            cluster.disconnect_all()
            await becomes(lambda: made.losses == 1, "the loss is told")
            with pytest.raises(StoreUnavailable):
                await made.rows("SELECT 1")
            assert any(isinstance(error, asyncpg.InvalidPasswordError) for error in made.errors)
            assert not re.search("right one|right%20one", repr(made.errors) + repr(made.engine))
            cluster.run_sql("ALTER ROLE alice PASSWORD 'right one'")
            assert await made.hints.get() == Notification(anything=True)
            assert await made.rows("SELECT 1") == [(1,)]


async def refusal_of_tables(address: str) -> str:
    with pytest.raises(StoreUnusable) as refused:
        await PostgresEngine(address, report=lambda *_: None).open()
    return str(refused.value)


def _refuses(cluster: Cluster) -> bool:
    return "scram" in str(cluster.run_sql("SELECT auth_method FROM pg_hba_file_rules"))


async def test_a_database_in_another_encoding_is_refused(postgres_cluster: Cluster, runner: asyncio.Runner) -> None:
    postgres_cluster.run_sql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    assert "LATIN1" in await refusal(postgres_cluster.dsn("latin"))
    postgres_cluster.drop_database("latin")


async def test_a_server_that_is_too_old_is_refused(migrated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_OLDEST_SERVER", 99)
    assert "needs 99 or newer" in await refusal(migrated)


async def test_a_server_is_reached_over_its_unix_socket(postgres_cluster: Cluster, migrated: str) -> None:
    async with opened(postgres_cluster.unix_dsn(database_of(migrated))) as made:
        await made.lay()
        assert await made.rows("SELECT inet_client_addr()") == [(None,)]


@pytest.mark.parametrize(
    ("address", "hosts"),
    [
        ("postgresql://u:p@a:1/d?x=y", ["postgresql://u:p@a:1/d?x=y"]),
        (
            "postgresql://u:p@a:1,[::1]:2,c/d?x=y",
            [f"postgresql://u:p@{host}/d?x=y" for host in ("a:1", "[::1]:2", "c")],
        ),
        ("postgresql:///d?host=/run/x", ["postgresql:///d?host=/run/x"]),
        (
            "postgresql:///d?host=/run/x,b&port=1,2&sslmode=require",
            ["postgresql:///d?host=%2Frun%2Fx&sslmode=require&port=1", "postgresql:///d?host=b&sslmode=require&port=2"],
        ),
        ("postgresql://u@/d?host=a,b&port=7", [f"postgresql://u@/d?host={host}&port=7" for host in "ab"]),
        ("postgresql://u@/d?host=a:1,b:2", [f"postgresql://u@/d?host={host}" for host in ("a%3A1", "b%3A2")]),
    ],
)
def test_an_address_is_one_for_each_of_its_hosts(address: str, hosts: list[str]) -> None:
    assert list(_each_host(address)) == hosts
