"""An installation of an earlier program is upgraded: everything is still readable, and delivery goes on.

The fixtures were written, read and finished by the program of commit 3ae712a, which was killed while it worked. The
present program must show the same before it delivers, and send and count the same afterwards. The script that ran
the old program is in the history: `git show 0a664bd:tests/upgrade/make_fixtures.py`.
"""

import gzip
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from discue.config.settings import Settings
from discue.observability.logs import Log
from discue.server.http import Address
from discue.server.installation import open_installation
from discue.server.worker import Worker, served
from tests.cli.commands import COMMAND, run_forked
from tests.faults.client import Client
from tests.faults.receiver import Receiver
from tests.support.clocks import StandingClock
from tests.support.postgres.fixtures import new_database, shared_cluster
from tests.upgrade import story

FIXTURES = Path(__file__).parent / "fixtures"
CLIENTS: story.Json = json.loads((FIXTURES / "clients.json").read_text(encoding="utf-8"))

NEW_FIELDS = {"status_reason", "status_changed_at", "waits_for", "withheld", "private_targets", "trace"}
"""Fields that the old program did not show."""

NEW_FIELDS_OF_MESSAGES = {"size", "state"}
NEW_FIELDS_OF_LISTED_MESSAGES = {"size", "state", "key", "headers"}

NEW_FIELDS_OF_MISSED = {"queue_id", "listener_id"}
NEW_FIELDS_OF_USERS = {"status"}
NEW_FIELDS_OF_DELIVERIES = {"last_error", "last_detail"}

_CLOCK = """
CREATE OR REPLACE FUNCTION clock_ms() RETURNS BIGINT LANGUAGE sql VOLATILE AS
    'SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - {behind}'"""
"""A database that runs from the crash on, as the clocks of the workers: pulled messages follow it."""

pytestmark = pytest.mark.xdist_group("upgrade")


class RunningClock:
    """A clock that runs from an instant on, in milliseconds since the Unix epoch."""

    def __init__(self, now: int) -> None:
        self._ahead = now - time.monotonic_ns() // 1_000_000

    def now(self) -> int:
        return self._ahead + time.monotonic_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


def expected(name: str) -> Any:
    content = (FIXTURES / name).read_bytes()
    return json.loads(gzip.decompress(content) if name.endswith(".gz") else content)


def without_new_fields(shown: Any) -> Any:
    """Return what a response shows, without fields that the old program did not show."""
    if isinstance(shown, dict):
        if "size" in shown:
            new = NEW_FIELDS_OF_MESSAGES if "deliveries" in shown else NEW_FIELDS_OF_LISTED_MESSAGES
            shown = {name: value for name, value in shown.items() if name not in new}
        if "missed_at" in shown:
            shown = {name: value for name, value in shown.items() if name not in NEW_FIELDS_OF_MISSED}
        if "last_status" in shown:
            shown = {name: value for name, value in shown.items() if name not in NEW_FIELDS_OF_DELIVERIES}
        if "email" in shown:
            shown = {name: value for name, value in shown.items() if name not in NEW_FIELDS_OF_USERS}
        return {name: without_new_fields(value) for name, value in shown.items() if name not in NEW_FIELDS}
    return [without_new_fields(each) for each in shown] if isinstance(shown, list) else shown


@contextmanager
def loaded(engine_name: str, folder: Path, port: int = story.PORT_IN_FIXTURES) -> Iterator[str]:
    """Load the fixture of an engine, with the listeners at a port, and migrate it; yields the database's address."""
    sql = (FIXTURES / f"{engine_name}.sql").read_text(encoding="utf-8") + story.statement_for_port(port)
    if engine_name == "sqlite":
        path = folder / "discue.db"
        path.touch(0o600)
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(sql)
        address = f"sqlite:///{path}"
        migrate(folder, address)
        yield address
    else:
        with new_database(shared_cluster()) as address:
            database = address.rpartition("/")[2]
            shared_cluster().run_sql(sql, database)
            migrate(folder, address)
            shared_cluster().run_sql(_CLOCK.format(behind=time.time_ns() // 1_000_000 - story.CRASHED_AT), database)
            yield address


def migrate(folder: Path, address: str) -> None:
    ended = run_forked(folder, *COMMAND, "migrate", "--database", address)
    assert ended.returncode == 0, ended.stderr
    assert " info database_migrated " in ended.stderr


@asynccontextmanager
async def running(database: str, clock: StandingClock | RunningClock, role: Any) -> AsyncIterator[story.Callers]:
    """Run the present program on a database; yields what makes its clients."""
    log = Log("upgrade")
    settings = Settings(
        database=database, port=0, role=role, allow_private_targets=True, disable_after_seconds=86_400 * 365
    )
    async with open_installation(settings, clock, log) as installation:
        worker = Worker(installation, log)
        async with served(worker, Address("127.0.0.1", 0), max_connections=100) as server:
            with ExitStack() as stack:
                yield lambda key: stack.enter_context(closing(Client(server.address, key=key)))


async def test_upgraded_installation_shows_everything_as_before(engine_name: str, tmp_path: Path) -> None:
    with loaded(engine_name, tmp_path) as database:
        async with running(database, StandingClock(story.CRASHED_AT), "api") as caller:
            shown = await story.everything_readable(caller, CLIENTS)

    before = expected(f"{engine_name}-readable.json.gz")
    assert shown.keys() == before.keys()
    # The old program had pages of events of its own kind.
    for shows in (shown, before):
        del shows["/events"]["_links"]
    for name, value in before.items():
        assert without_new_fields(shown[name]) == value, name


@pytest.mark.torture
async def test_upgraded_installation_delivers_and_counts_as_before(engine_name: str, tmp_path: Path) -> None:
    async with Receiver() as receiver:
        with loaded(engine_name, tmp_path, receiver.port) as database:
            async with running(database, RunningClock(story.CRASHED_AT), "all") as caller:
                ending = await story.finish(caller(CLIENTS["owner"]))

    before = expected("ending.json")
    assert story.sent_to_listeners(receiver.delivered, CLIENTS["secrets"]) == before.pop("delivered")
    assert ending == before
