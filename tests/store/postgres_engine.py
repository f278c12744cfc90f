"""Engines on PostgreSQL for tests that need more than one, or one whose server fails."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

from discue.domain.model import Queue
from discue.store import queues
from discue.store.engine import Appended, Batch, Notification, Row, Settle, Transaction
from discue.store.listeners import insert
from discue.store.postgres.engine import PostgresEngine
from tests.store.rows import a_listener, a_queue, a_settle, an_append, row_id, take_all
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.processes import until
from tests.support.postgres.session import Session

ORGANIZATION = row_id(1)
QUEUE = a_queue(ORGANIZATION, 10)
LISTENER = a_listener(QUEUE, 11)
OWNER = 7


class Opened:
    """An engine, what it reported, and what it heard."""

    def __init__(self, address: str, *, commit_seconds: float = 10.0) -> None:
        self.places: list[str] = []
        self.errors: list[BaseException] = []
        self.hints: asyncio.Queue[Notification] = asyncio.Queue()
        self.losses = 0
        self.engine = PostgresEngine(address, report=self._report, commit_seconds=commit_seconds)

    def _report(self, place: str, error: BaseException) -> None:
        self.places.append(place)
        self.errors.append(error)

    async def listen(self) -> None:
        """Returns when it hears."""
        self.engine.listen(self.hints.put_nowait, self._lost)
        assert await self.hints.get() == Notification(anything=True)

    def _lost(self) -> None:
        self.losses += 1

    async def lay(self, queue: Queue = QUEUE) -> Settle:
        """A queue with a listener whose cursor has an owner, and a settle that would change nothing in it."""
        await self.work(partial(queues.insert, queue=queue))
        await self.work(partial(insert, listener=LISTENER, head=0))
        await self.work(lambda tx: take_all(tx, OWNER))
        return a_settle(LISTENER, token=1)

    async def append(self, first: int, count: int = 1, queue: Queue = QUEUE) -> Appended | Exception:
        return (await self.engine.commit(Batch(appends=(an_append(queue, first, count),)))).appends[0]

    async def settle(self, settle: Settle) -> bool | Exception:
        return (await self.engine.commit(Batch(settles=(settle,)))).settles[0]

    async def work(self, work: Callable[[Transaction], object]) -> object:
        """The work's answer: its result, or its exception."""
        return (await self.engine.commit(Batch(works=(work,)))).works[0]  # type: ignore[arg-type]

    async def rows(self, sql: str) -> list[Row]:
        return await self.engine.read(lambda tx: tx.rows(sql))

    async def stored(self) -> list[str]:
        """The ids in the log, in order."""
        return [row[0] for row in await self.rows("SELECT id FROM log ORDER BY seq")]


@asynccontextmanager
async def opened(address: str, *, commit_seconds: float = 10.0) -> AsyncIterator[Opened]:
    made = Opened(address, commit_seconds=commit_seconds)
    await made.engine.open()
    try:
        yield made
    finally:
        await made.engine.close()


async def becomes(is_so: Callable[[], bool], what: str) -> None:
    """Poll, next to the loop, for a state that nothing signals."""
    await asyncio.to_thread(until, is_so, what, 10.0)


def database_of(address: str) -> str:
    return address.rpartition("/")[2]


async def blocked(cluster: Cluster, count: int = 1) -> None:
    """Returns when so many statements wait for somebody's lock."""
    await becomes(lambda: _waiting(cluster) == count, f"{count} statements wait")


async def some_blocked(cluster: Cluster) -> None:
    """Returns when any statement waits for somebody's lock."""
    await becomes(lambda: _waiting(cluster) > 0, "a statement waits")


def _waiting(cluster: Cluster) -> int:
    [(count,)] = cluster.run_sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    return int(count or 0)


@contextmanager
def gate(cluster: Cluster, address: str) -> Iterator[Session]:
    """`HELD` waits in it, until this session unlocks."""
    with cluster.connect(database_of(address)) as session:
        session.run("SELECT pg_advisory_lock(5)")
        yield session


async def held(tx: Transaction) -> None:
    await tx.row("SELECT pg_advisory_xact_lock_shared(5)")
