"""A store on a database of its own, for whatever engine a test is run with."""

import asyncio
import atexit
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path

from discue.store.engine import Engine
from discue.store.postgres import engine as postgres_engine
from discue.store.postgres.engine import PostgresEngine
from discue.store.sqlite.engine import SqliteEngine
from discue.store.store import Store
from tests.support.memory import folder_in_memory
from tests.support.postgres.copies import Copies
from tests.support.postgres.fixtures import shared_cluster

WAITING_BYTES = 1 << 20
BUSY_SECONDS = 20.0
"""How long a connection to a server that works may take: on a machine that runs many tests, more than a second."""

# The usual 5 seconds to open an engine are enough only on a machine that does nothing else.
vars(postgres_engine)["_OPEN_SECONDS"] = BUSY_SECONDS

Report = Callable[[str, BaseException], None]


def _unexpected(place: str, error: BaseException) -> None:
    raise AssertionError(f"the engine reported a failure: {place}") from error


@contextmanager
def _sqlite(folder: Path, report: Report) -> Iterator[Engine]:
    yield SqliteEngine(migrated_file(folder / "discue.db"), report=report)


def migrated_file(path: Path) -> Path:
    """Create a migrated database unless one exists. Copying a template is faster than migrating."""
    if not path.exists():
        path.touch(0o600)
        path.write_bytes(_migrated())
    return path


@cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory(dir=folder_in_memory()) as folder, asyncio.Runner() as runner:
        engine = SqliteEngine(Path(folder) / "discue.db", report=_unexpected)
        runner.run(engine.open())
        runner.run(engine.close())
        return engine.path.read_bytes()


@contextmanager
def _postgres(_folder: Path, report: Report) -> Iterator[Engine]:
    with _copies().lent() as dsn:
        yield PostgresEngine(dsn, report=report, connect_seconds=BUSY_SECONDS)


@cache
def _copies() -> Copies:
    copies = Copies(shared_cluster(), migrated_template())
    # Before the server ends: what was registered last runs first.
    atexit.register(copies.close)
    return copies


@cache
def migrated_template() -> str:
    """A database of this process's server that is as an engine leaves a new one: a copy is made faster."""
    cluster, name = shared_cluster(), "migrated"
    cluster.create_database(name)
    engine = PostgresEngine(cluster.dsn(name), report=_unexpected)
    with asyncio.Runner() as runner:
        runner.run(engine.open())
        runner.run(engine.close())
    return name


ENGINES: dict[str, Callable[[Path, Report], AbstractContextManager[Engine]]] = {
    "postgres": _postgres,
    "sqlite": _sqlite,
}


@contextmanager
def opened_store(
    runner: asyncio.Runner, engine_name: str, folder: Path, report: Report = _unexpected
) -> Iterator[Store]:
    with ENGINES[engine_name](folder, report) as engine, store_on(runner, engine) as store:
        yield store


@contextmanager
def store_on(runner: asyncio.Runner, engine: Engine) -> Iterator[Store]:
    """Open an engine and yield a store on it."""
    runner.run(engine.open())
    try:
        yield Store(engine, max_waiting_bytes=WAITING_BYTES)
    finally:
        runner.run(engine.close())


def another(engine: Engine) -> Engine:
    """Return a second engine on the same database, as another process would open it."""
    if isinstance(engine, PostgresEngine):
        return PostgresEngine(engine._address, report=_unexpected, connect_seconds=BUSY_SECONDS)
    assert isinstance(engine, SqliteEngine)
    return SqliteEngine(engine.path, report=_unexpected, siblings=True)
