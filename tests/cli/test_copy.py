import asyncio
import re
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path
from typing import TypeVar

import apsw
import pytest

from discue.config.settings import Settings
from discue.crypto import signing
from discue.observability.logs import Log
from discue.server.installation import open_engine
from discue.store.sqlite.schema import identity_of
from discue.store.store import Store
from discue.store.tables import TABLES
from tests.cli.commands import PATIENCE_SECONDS, Output, environment, receiving, request, run, serving
from tests.support.databases import ENGINE_NAMES, new_database
from tests.support.everywhere import EVERYWHERE
from tests.support.forked import Forked
from tests.support.installations import MESSAGES, furnish
from tests.support.second_migration import add_second_migration
from tests.support.stores import WAITING_BYTES

T = TypeVar("T")

_PACED = """
import sys
from discue.cli.main import main
from discue.backup import copying

fill = copying.fill

async def slowed(copy):
    done = {}
    async for table, rows in fill(copy):
        done[table] = done.get(table, 0) + rows
        print(table, done[table], flush=True)
        sys.stdin.readline()
        yield table, rows

copying.fill = slowed
copying.ROWS_A_STEP = 3
sys.exit(main(sys.argv[1:]))
"""
"""The command, in steps of three rows. It waits for a line after each."""


# Tests of the store take the other direction.
DIRECTIONS = list(permutations(ENGINE_NAMES, 2)) if EVERYWHERE else [("postgres", "sqlite")]


@pytest.fixture(params=DIRECTIONS, ids="-to-".join)
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The addresses of two empty databases, of different engines."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    with (
        new_database(request, request.param[0], tmp_path / "old") as source,
        new_database(request, request.param[1], tmp_path / "new") as target,
    ):
        yield source, target


def on_store(database: str, work: Callable[[Store], Awaitable[T]]) -> T:
    """Do something with a database that no command does."""

    async def opened() -> T:
        async with open_engine(Settings(database=database), Log()) as engine:
            return await work(Store(engine, max_waiting_bytes=WAITING_BYTES))

    return asyncio.run(opened())


def copy(folder: Path, databases: tuple[str, str]) -> subprocess.CompletedProcess[str]:
    return run(folder, "copy", "--from", databases[0], "--to", databases[1])


class Paced:
    """The command in a process of its own, step by step."""

    def __init__(self, folder: Path, databases: tuple[str, str]) -> None:
        command = ("-c", _PACED, "copy", "--from", databases[0], "--to", databases[1])
        self.process = Forked(command, folder=folder, environment=environment(), has_input=True)
        self.out, self.log = Output(self.process.stdout), Output(self.process.stderr)

    def until(self, step: str) -> None:
        """Go on to a step, and stand still there."""
        assert self.process.stdin is not None
        while f"{step}\n" not in self.out.text:
            before = self.out.text.count("\n")
            self.out.wait_for(rf"(?:.*\n){{{before + 1}}}")
            if f"{step}\n" not in self.out.text:
                self.process.stdin.write("\n")
                self.process.stdin.flush()

    def go_on(self) -> int:
        """Let the process run to its end; returns the exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        code = self.process.wait(PATIENCE_SECONDS)
        self.out.to_the_end()
        self.log.to_the_end()
        return code


@contextmanager
def throttled(folder: Path, databases: tuple[str, str]) -> Iterator[Paced]:
    copying = Paced(folder, databases)
    try:
        yield copying
    finally:
        copying.process.kill()
        if copying.process.stdin and not copying.process.stdin.closed:
            copying.go_on()


def test_copy_prints_a_summary_and_works_like_its_source(tmp_path: Path, databases: tuple[str, str]) -> None:
    key = on_store(databases[0], furnish).key
    result = copy(tmp_path, databases)

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{databases[0]} was copied to {databases[1]}. Both contain the same rows:\n")
    assert [line.split()[0] for line in result.stdout.splitlines()[1:-1]] == [table.name for table in TABLES]
    assert f"  log {MESSAGES - 1:>24}, " in result.stdout
    with serving(tmp_path, "--database", databases[1]) as server:
        assert request("GET", f"{server.url}/queues", key).json()["queues"][0]["alias"] == "orders"
        assert server.stop() == 0


def test_pending_messages_are_delivered_by_the_copy_with_an_unchanged_secret(
    tmp_path: Path, databases: tuple[str, str]
) -> None:
    old, new = (("--allow-private-targets", "--database", database) for database in databases)
    with receiving() as receipts:
        with serving(tmp_path, *old) as server:
            key = server.key
            queue = f"/queues/{request('POST', f'{server.url}/queues', key, {}).json()['queue']['id']}"
            basic = {"type": "basic", "username": "ada", "password": "s3cr3t"}
            fields = {"notify_url": receipts.url, "liveness_url": receipts.url, "authentication": basic}
            listener = request("POST", f"{server.url}{queue}/listeners", key, fields).json()["listener"]
            request("POST", f"{server.url}{queue}/messages", key, {"data": "first"})
            receipts.wait_for(1)
            assert server.stop() == 0
        with serving(tmp_path, *old, "--role", "api") as server:
            messages = f"{server.url}{queue}/messages"
            pending = [request("POST", messages, key, {"data": number}).json() for number in range(3)]
            # A worker that delivers nothing makes tests all the same.
            test = request("POST", f"{server.url}{queue}/listeners/{listener['id']}/tests", key, {}).json()["test"]
            assert test["state"] == "acknowledged"
            assert server.stop() == 0
        assert copy(tmp_path, databases).returncode == 0
        keys = ("--encryption-key-file", "old/discue.db.key") if (tmp_path / "old/discue.db.key").exists() else ()
        with serving(tmp_path, *new, *keys) as server:
            receipts.wait_for(5)
            shown = request("GET", f"{server.url}{queue}/listeners/{listener['id']}", key).json()["listener"]
            assert shown["notify_url"] == receipts.url
            assert server.stop() == 0

    assert sorted(headers["webhook-id"] for headers, _ in receipts.requests[1:]) == sorted(
        [test["message_id"], *(answer["message"]["id"] for answer in pending)]
    )
    for headers, body in receipts.requests:
        assert headers["authorization"] == "Basic YWRhOnMzY3IzdA=="
        signing.verify(
            signing.decode_secret(listener["secret"]), headers, body, 1_000 * int(headers["webhook-timestamp"])
        )


@pytest.mark.parametrize("ended", ["killed", "asked to stop"])
def test_interrupted_copy_cannot_be_served_and_starts_again(
    tmp_path: Path, databases: tuple[str, str], ended: str
) -> None:
    on_store(databases[0], furnish)
    with throttled(tmp_path, databases) as copying:
        copying.until("log 9")
        copying.process.send_signal(signal.SIGTERM if ended == "asked to stop" else signal.SIGKILL)
        code = copying.go_on()

    assert code == (1 if ended == "asked to stop" else -signal.SIGKILL)
    if ended == "asked to stop":
        assert "Stopped. The new database is not complete: run the same command again" in copying.log.text
    for command in ("init", "serve", "migrate"):
        refused = run(tmp_path, command, "--database", databases[1])
        assert refused.returncode == 1
        assert "A copy into" in refused.stderr
        assert "is not finished" in refused.stderr
    again = copy(tmp_path, databases)
    assert again.returncode == 0, again.stderr
    assert f"The rows of an unfinished copy in {databases[1]} are deleted first.\n" in again.stdout
    assert "Both contain the same rows" in again.stdout
    assert run(tmp_path, "init", "--database", databases[1]).returncode == 0


def test_served_database_cannot_be_source_or_target(tmp_path: Path, databases: tuple[str, str]) -> None:
    run(tmp_path, "init", "--database", databases[1])
    with serving(tmp_path, "--database", databases[0]) as server:
        assert server.url
        forth, back = copy(tmp_path, databases), copy(tmp_path, (databases[1], databases[0]))

    assert forth.returncode == back.returncode == 1
    served = r"Another process serves|is served by 1 running worker"
    assert re.search(served, forth.stderr)
    assert re.search(served, back.stderr)


def test_copy_stops_if_writes_fail_and_starts_again(tmp_path: Path) -> None:
    databases = (f"sqlite:///{tmp_path}/old.db", f"sqlite:///{tmp_path}/new.db")
    on_store(databases[0], furnish)
    with throttled(tmp_path, databases) as copying:
        copying.until("log 9")
        connection = apsw.Connection(str(tmp_path / "new.db"))
        connection.execute("BEGIN IMMEDIATE")
        code = copying.go_on()
        connection.close()

    assert code == 1
    assert "not available at the moment" in copying.log.text
    assert "run the same command again" in copying.log.text
    assert copy(tmp_path, databases).returncode == 0


def test_difference_fails_the_copy_which_cannot_be_served(tmp_path: Path, databases: tuple[str, str]) -> None:
    on_store(databases[0], furnish)

    async def spoil(store: Store) -> None:
        await store.write(lambda tx: tx.execute("UPDATE log SET size = 1 WHERE seq = 2"))

    with throttled(tmp_path, databases) as copying:
        copying.until("log 9")
        on_store(databases[1], spoil)
        assert copying.go_on() == 1

    assert "log: the rows with organization" in copying.log.text
    assert "seq 2 differ" in copying.log.text
    assert run(tmp_path, "init", "--database", databases[1]).returncode == 1
    assert copy(tmp_path, databases).returncode == 0


def test_target_that_is_not_empty_is_rejected_unchanged(tmp_path: Path, databases: tuple[str, str]) -> None:
    for database in databases:
        run(tmp_path, "init", "--database", database)
    before = run(tmp_path, "keys", "list", "--json", "--database", databases[1]).stdout
    result = copy(tmp_path, databases)

    assert result.returncode == 1
    assert "is not empty" in result.stderr
    assert run(tmp_path, "keys", "list", "--json", "--database", databases[1]).stdout == before


def test_missing_source_creates_no_target(tmp_path: Path) -> None:
    result = copy(tmp_path, ("sqlite:///old.db", "sqlite:///new.db"))

    assert result.returncode == 1
    assert "sqlite:///old.db contains no discue database" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_one_file_by_two_names_is_rejected(tmp_path: Path) -> None:
    run(tmp_path, "init")
    (tmp_path / "link.db").symlink_to(tmp_path / "discue.db")
    result = copy(tmp_path, ("sqlite:///discue.db", "sqlite:///link.db"))

    assert result.returncode == 1
    assert "sqlite:///discue.db and sqlite:///link.db are the same file." in result.stderr


def test_newer_schema_version_is_rejected_unchanged(tmp_path: Path) -> None:
    run(tmp_path, "init")
    connection = apsw.Connection(str(tmp_path / "discue.db"))
    connection.execute("UPDATE meta SET value = '900' WHERE key = 'schema_version'")
    assert_not_copied(tmp_path, "a newer version of discue")
    assert connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchall() == [("900",)]
    connection.close()


def test_older_schema_version_is_rejected_unchanged(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, "init")
    add_second_migration(monkeypatch, tmp_path_factory.mktemp("migration"))
    assert_not_copied(tmp_path, "Run `discue migrate --database sqlite:///discue.db` first")
    assert identity_of(tmp_path / "discue.db").schema_version == 1


def assert_not_copied(folder: Path, reason: str) -> None:
    result = copy(folder, ("sqlite:///discue.db", "sqlite:///new.db"))
    assert result.returncode == 1
    assert reason in result.stderr
    assert not (folder / "new.db").exists()


@pytest.mark.parametrize("flag", ["--from", "--to"])
def test_password_is_not_printed(tmp_path: Path, flag: str) -> None:
    other = {"--from": "--to", "--to": "--from"}[flag]
    result = run(tmp_path, "copy", flag, "postgresql://user:geheim@host:port:99/", other, "sqlite:///a.db")

    assert result.returncode == 2
    assert "geheim" not in result.stderr + result.stdout
    assert f"argument {flag}: invalid database URL" in result.stderr
