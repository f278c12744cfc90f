"""An installation: an open database with the control plane on it, and the machine that the process runs on."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from discue.auth.control_plane_cache import ControlPlaneCache
from discue.config.settings import Settings
from discue.control.context import ControlContext
from discue.control.hosts import HostChecks
from discue.crypto import keyring
from discue.crypto.keyring import Keyring
from discue.domain.clock import Clock, DatabaseClock, SystemClock
from discue.domain.egress import EgressPolicy
from discue.domain.ids import COMMAND_SLOTS, PublicIds, RandomBytes, RandomText, RowIds
from discue.observability.logs import Log
from discue.sending.dialer import Resolve
from discue.store import tables
from discue.store.engine import Engine
from discue.store.migrations import DatabaseInspection, newest
from discue.store.sqlite import schema
from discue.store.sqlite.connection import SerialThread, StartThread
from discue.store.sqlite.engine import SqliteEngine
from discue.store.sqlite.siblings import SiblingNotifier
from discue.store.store import Store

# No secret. The operating system's generator would cost a system call per failed attempt, during which other threads
# take the interpreter.
_jitter = Random().random  # noqa: S311


@dataclass(frozen=True, slots=True)
class Machine:
    """The time, randomness, threads and name resolution of a process: all of its machine except connections and files.

    It is read while the parts of a process are built, and not afterwards.
    """

    clock: Clock = field(default_factory=SystemClock)
    """For leases, polls and the database. Tests may move the clock of the control plane, but not this one."""
    random_bytes: RandomBytes = os.urandom
    start_thread: StartThread = SerialThread
    """Starts the threads that write to SQLite."""
    siblings: SiblingNotifier | None = None
    """Notifies the other workers on the same SQLite file that the same parent has started; None if there are none."""
    resolve: Resolve | None = None
    """Resolves host names; None for the resolver of the system."""
    database: Engine | None = None
    """A database that several simulated machines share; None: the one that the settings name."""
    random: Callable[[], float] = _jitter
    """Spreads retries and probes."""


@asynccontextmanager
async def open_installation(
    settings: Settings, clock: Clock, log: Log, machine: Machine | None = None
) -> AsyncIterator[ControlContext]:
    """Open the database and apply pending migrations. Raises StoreUnusable with the reason and the remedy."""
    machine = machine or Machine()
    async with open_engine(settings, log, machine) as engine:
        await engine.read(lambda tx: tables.require_copied(tx, settings.database_shown))
        database_clock = DatabaseClock(clock)
        if settings.database_path is None:
            # Workers compare times that others have stored with their own clocks, so all of these follow the database's
            # clock. A file has no clock.
            clock = database_clock
        # A command may write while a server runs: the random slot keeps their row ids apart.
        row_ids = RowIds(clock, slot=COMMAND_SLOTS[machine.random_bytes(1)[0]])
        store = Store(
            engine,
            max_waiting_bytes=settings.max_waiting_bytes,
            max_reserved_bytes=settings.max_unread_bytes,
            worker_slot=lambda: row_ids.slot,
            monotonic=machine.clock.monotonic,
            clock=database_clock,
        )
        cache = ControlPlaneCache(
            store, clock, max_message_bytes=settings.max_message_bytes, quotas=settings.default_quotas
        )
        await cache.open()
        yield ControlContext(
            store=store,
            cache=cache,
            clock=clock,
            public_ids=PublicIds(clock, machine.random_bytes),
            row_ids=row_ids,
            random_text=RandomText(machine.random_bytes),
            random_bytes=machine.random_bytes,
            egress=egress_policy(settings),
            settings=settings,
            keyring=Keyring(keyring.current_keys(settings), lambda: keyring.current_keys(settings)),
            hosts=HostChecks(machine.resolve),
        )


@asynccontextmanager
async def open_engine(settings: Settings, log: Log, machine: Machine | None = None) -> AsyncIterator[Engine]:
    """Open the database and apply pending migrations. Raises StoreUnusable with the reason and the remedy."""
    engine = engine_of(settings, log, machine)
    await engine.open()
    if engine.migrated_from:
        versions = {"from_version": engine.migrated_from, "to_version": newest()}
        log.info("database_migrated", database=settings.database_shown, **versions)
    try:
        yield engine
    finally:
        await engine.close()


def engine_of(settings: Settings, log: Log, machine: Machine | None = None) -> Engine:
    """Return the engine for the database URL, not opened yet."""
    machine = machine or Machine()
    if machine.database is not None:
        return machine.database
    path = settings.database_path

    def report(place: str, error: BaseException) -> None:
        log.error("store_failed", place=place, exc_info=error)

    if path is not None:
        return SqliteEngine(
            path,
            report=report,
            siblings=settings.workers > 1,
            notifier=machine.siblings,
            clock=machine.clock,
            start_thread=machine.start_thread,
        )
    # Imported here: it would be a tenth of the imports of a command on SQLite.
    from discue.store.postgres.engine import PostgresEngine  # noqa: PLC0415

    return PostgresEngine(settings.database, report=report)


async def inspect_database(settings: Settings) -> DatabaseInspection:
    """Inspect the database without changing it. Raises StoreUnusable with the reason and the remedy."""
    path = settings.database_path
    if path is not None:
        return schema.inspect_database(path)
    from discue.store.postgres import schema as postgres_schema  # noqa: PLC0415 - as above

    return await postgres_schema.inspect_database(settings.database)


def egress_policy(settings: Settings) -> EgressPolicy:
    """Return which addresses requests may be sent to, and through which proxy, from the settings."""
    allowed, proxy, direct = settings.allow_private_targets, settings.egress_proxy, settings.no_proxy
    return EgressPolicy(allowed is True, () if isinstance(allowed, bool) else allowed, proxy, direct)
