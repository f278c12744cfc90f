"""Row locks of the simulated database: a transaction that hangs keeps those that it has, and others wait for them.

A transaction that does not hang is one step, and nobody sees its locks. Appends lock their queues, settles their
listeners. Works of the control plane wait for nothing, and lock nothing.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from discue.store.engine import Batch
from tests.simulation.loop import Host
from tests.simulation.network import Network

if TYPE_CHECKING:
    from tests.simulation.cluster import ClusterEngine

Rows = frozenset[tuple[str, int, int]]


def rows_of(batch: Batch) -> Rows:
    """Return the rows that a batch locks."""
    appends = [*batch.appends, *(append for routed in batch.topic_appends for append in routed.appends)]
    return frozenset(
        [("queue", each.organization, each.queue) for each in appends]
        + [("listener", each.organization, each.listener) for each in batch.settles]
    )


class Held(NamedTuple):
    """A transaction that hangs, or a request that waits for it."""

    engine: "ClusterEngine"
    rows: Rows
    execute: Callable[[], None]


class Locks:
    """The locks of the one transaction that hangs, if there is one."""

    def __init__(self, network: Network) -> None:
        self.hangs = asyncio.Event()
        """Set when a transaction has begun to hang."""
        self.held: Held | None = None
        self._network = network
        self._victim: Host | None = None
        self._waiting: list[Held] = []

    @property
    def session_id(self) -> int:
        """The session whose transaction hangs; 0: none does."""
        return self.held.engine.session_id if self.held is not None else 0

    def hang_next(self, host: Host) -> None:
        """Let the next transaction of a machine hang, and the machine with it."""
        self.hangs.clear()
        self._victim = host

    def admit(self, request: Held) -> bool:
        """Return whether a request may run now. Otherwise it runs later, or never."""
        trace = self._network.loop.trace
        if self.held is not None and request.rows & self.held.rows:
            trace.reach("wait for a row lock")
            self._waiting.append(request)
            return False
        if request.rows and request.engine.host is self._victim:
            trace.add(request.engine.host.name, "hangs", f"with locks on {sorted(request.rows)}")
            trace.reach("transaction that hangs with its locks")
            self._victim, self.held = None, request
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
