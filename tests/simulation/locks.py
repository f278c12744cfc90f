"""Row locks of the simulated database: a transaction that hangs keeps those that it has, and others wait for them.

A transaction that does not hang is one step, and nobody sees its locks. Appends lock their queues, settles their
listeners. Works lock the rows that they change, which shows when they are tried, and what they lock exclusively.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw

from discue.store.engine import Batch, Work
from discue.store.sqlite.engine import SqliteTransaction, run_to_end
from tests.simulation.loop import Host
from tests.simulation.network import Network

if TYPE_CHECKING:
    from tests.simulation.cluster import ClusterEngine

Rows = frozenset[tuple[Any, ...]]
_NAMES = {"queue_head": "queue", "cursor": "listener"}
"""The tables of the rows that appends and settles lock."""


def rows_of(batch: Batch) -> Rows:
    """Return the rows that a batch locks."""
    appends = [*batch.appends, *(append for routed in batch.topic_appends for append in routed.appends)]
    return frozenset(
        [("queue", each.organization, each.queue) for each in appends]
        + [("listener", each.organization, each.listener) for each in batch.settles]
    )


def rows_of_works(connection: apsw.Connection, works: Sequence[Work[Any]], hanging: int) -> Rows:
    """Return the rows that works lock before one of them, perhaps, ends the hanging session. They are undone."""
    tried = _Trial(connection, hanging)
    connection.preupdate_hook(tried.note, id=tried)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for work in works:
            # Whatever it raises, it will raise again.
            with suppress(Exception):
                run_to_end(work(tried))
    finally:
        connection.execute("ROLLBACK")
        connection.preupdate_hook(None, id=tried)
    return frozenset(tried.locked)


class _Trial(SqliteTransaction):
    """A transaction that notes what it would lock."""

    def __init__(self, connection: apsw.Connection, hanging: int) -> None:
        super().__init__(connection)
        self.locked = set[tuple[Any, ...]]()
        self._hanging = hanging
        self._goes_on = True

    def note(self, update: apsw.PreUpdate) -> None:
        # An inserted row is invisible to other transactions, so none waits for it.
        if update.old is not None:
            self._lock(_NAMES.get(update.table_name, update.table_name), *update.old[:2])

    async def exclusive(self) -> None:
        self._lock("exclusive")

    async def end_sessions(self, session_id: int) -> None:
        if session_id == self._hanging:
            self._goes_on = False

    def _lock(self, *row: Any) -> None:
        if self._goes_on:
            self.locked.add(row)


class Held(NamedTuple):
    """A transaction that hangs, or a request that waits for it."""

    engine: "ClusterEngine"
    batch: Batch | None
    """None: it only reads."""
    execute: Callable[[], None]


class Locks:
    """The locks of the one transaction that hangs, if there is one."""

    def __init__(self, network: Network, rows_of_works: Callable[[Sequence[Work[Any]]], Rows]) -> None:
        self.hangs = asyncio.Event()
        """Set when a transaction has begun to hang."""
        self.held: Held | None = None
        self._rows: Rows = frozenset()
        """The rows that it has locked."""
        self._rows_of_works = rows_of_works
        self._network = network
        self._victim: Host | None = None
        self._works = False
        self._waiting: list[Held] = []

    @property
    def session_id(self) -> int:
        """The session whose transaction hangs; 0: none does."""
        return self.held.engine.session_id if self.held is not None else 0

    def hang_next(self, host: Host, *, works: bool) -> None:
        """Let a machine hang in its next transaction: one with works, or another one."""
        self.hangs.clear()
        self._victim, self._works = host, works

    def admit(self, request: Held) -> bool:
        """Return whether a request may run now. Otherwise it runs later, or never."""
        trace, batch = self._network.loop.trace, request.batch
        if batch is None:
            return True
        is_victim = request.engine.host is self._victim and bool(batch.works) is self._works
        if self.held is None and not is_victim:
            return True
        rows = rows_of(batch)
        if batch.works:
            rows |= self._rows_of_works(batch.works)
        if self.held is not None and rows & self._rows:
            trace.reach("wait of a work for a lock" if batch.works else "wait for a row lock")
            self._waiting.append(request)
            return False
        if rows and is_victim:
            trace.add(request.engine.host.name, "hangs", f"with locks on {sorted(rows, key=repr)}")
            trace.reach(f"{'work' if batch.works else 'transaction'} that hangs with its locks")
            self._victim, self.held, self._rows = None, request, rows
            request.engine.host.is_paused = True
            self.hangs.set()
            return False
        return True

    def end_session(self, session_id: int) -> None:
        """Roll back what a worker's transaction has done, and end its connections: it is expired."""
        if self.held is not None and session_id == self.session_id:
            self._network.loop.trace.reach("hanging transaction that was ended")
            self.held.engine.lose()
            self.release(commits=False)

    def clear(self) -> None:
        """Forget all transactions: the server has crashed."""
        self._victim = self.held = None
        self._waiting.clear()

    def release(self, *, commits: bool) -> None:
        """End the transaction that hangs, if there is one, and let others have their turn."""
        self._victim = None
        requests, self._waiting = self._waiting, []
        if self.held is not None and commits:
            requests.insert(0, self.held)
        self.held = None
        for request in requests:
            self._network.at(self._network.loop.time(), request.execute, between=(None, None))
