"""Consumers in pull mode: any number of workers lease the messages of one listener, on a manual clock."""

import asyncio
from collections.abc import Sequence
from random import Random

import msgspec

from discue.control.pulls import Action, Decision, DecisionResult, LeasedMessage, PullTarget
from discue.dispatch.pull.broker import PullBroker
from discue.dispatch.pull.session import PullContext
from discue.domain.clock import Clock
from discue.domain.ids import RowIds
from discue.domain.model import DeliveryOptions, Listener, Queue
from discue.domain.trace_context import TraceIds
from discue.observability.logs import Log
from discue.store import listeners, queues
from discue.store.engine import Transaction
from tests.dispatch.stage import DAY_MS, Stage
from tests.store.rows import a_listener

LEASE_MS = 30_000


class PullFixture:
    """A queue, a listener in pull mode, and a worker that leases its messages."""

    def __init__(self, stage: Stage, queue: Queue, listener: Listener) -> None:
        self.stage = stage
        self.queue = queue
        self.listener = listener
        self.place = PullTarget(listener.organization, listener.id, queue.id)
        self._slots = 0
        self.pulls = self.worker()

    def worker(self, clock: Clock | None = None) -> PullBroker:
        """Make another worker. Its leases follow the clock; by default, that of the stage."""
        stage = self.stage
        self._slots += 1
        random = Random(0)  # noqa: S311 - repeatable
        row_ids, trace_ids = RowIds(stage.clock, self._slots), TraceIds(random.randbytes)
        clock, limits = clock or stage.clock, (50, 30 * DAY_MS)
        hooks = (lambda: None, lambda *_: None)
        context = PullContext(stage.store, clock, row_ids, random.random, *limits, trace_ids, *hooks)
        return PullBroker(context, Log("test"))

    async def publish(self, count: int = 1) -> list[str]:
        return await self.stage.publish(self.queue, count)

    async def pull(self, most: int = 10, *, worker: PullBroker | None = None) -> list[LeasedMessage]:
        return await pull(worker or self.pulls, self.place, most, 0)

    async def pulled(self, most: int = 10) -> list[str]:
        """Pull, and return the ids of the messages."""
        return [each.entry.id for each in await self.pull(most)]

    async def begin_waiting(self, most: int = 10, wait_ms: int = 20_000) -> "asyncio.Task[list[LeasedMessage]]":
        """Start a long poll, and return when it waits or has ended."""
        poll = asyncio.get_running_loop().create_task(pull(self.pulls, self.place, most, wait_ms))
        await self.idle()
        return poll

    async def say(
        self, action: Action, handed: Sequence[LeasedMessage], seconds: int | None = None
    ) -> list[DecisionResult]:
        decisions = [Decision(each.receipt, action, seconds) for each in handed]
        return await self.pulls.decide(self.place, decisions)

    async def idle(self, *pulls: PullBroker) -> None:
        """Return when nothing goes on that will go on without the test."""
        for _ in range(3):
            await asyncio.sleep(0)
        while tasks := {task for each in (*pulls, self.pulls) for task in each.tasks.running}:
            await asyncio.wait(tasks)
            await asyncio.sleep(0)

    async def advance(self, milliseconds: int) -> None:
        self.stage.clock.advance(milliseconds)
        self.pulls.timers.wake_due()
        await self.idle()

    async def attempts(self) -> list[tuple[int, int, str, int]]:
        """Seq, number, error and milliseconds of each, in the order of their making."""
        rows = await self.stage.rows(
            "SELECT seq, number, error, took_ms FROM attempt WHERE organization = $1 ORDER BY id",
            self.place.organization,
        )
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    async def delivery_rows(self) -> list[tuple[int, str, int]]:
        return await self.stage.delivery_rows(self.listener)


async def pull(pulls: PullBroker, place: PullTarget, most: int, wait_ms: int, key: int = 1) -> list[LeasedMessage]:
    """Pull as the API does."""
    with pulls.connect(key, 1) as client:
        return await pulls.pull(client, place, most, wait_ms)


async def pull_fixture(stage: Stage, options: DeliveryOptions | None = None, *, ordered: bool = False) -> PullFixture:
    """Make a queue with a listener in pull mode."""
    queue = await stage.queue(await stage.organization(), ordered=ordered)
    return await another_listener(stage, queue, options)


async def another_listener(
    stage: Stage, queue: Queue, options: DeliveryOptions | None = None, number: int = 900
) -> PullFixture:
    """Add a listener in pull mode to a queue."""
    made = msgspec.structs.replace(
        a_listener(queue, number),
        mode="pull",
        notify_url="",
        liveness_url="",
        secrets=b"[]",
        options=options or DeliveryOptions(),
    )

    async def work(tx: Transaction) -> None:
        head = await queues.head(tx, queue.organization, queue.id)
        assert head is not None
        await listeners.insert(tx, made, head.head)

    await stage.store.write(work)
    found = PullFixture(stage, queue, made)
    stage.store.on_append = [found.pulls.on_appended]
    return found
