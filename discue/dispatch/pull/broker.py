"""All that are asked for messages in this worker: a desk for each listener for which somebody waits."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from discue.control.pulls import Decision, DecisionResult, LeasedMessage, PullClient, PullTarget
from discue.dispatch.pull.receive import Brought, Means
from discue.dispatch.pull.session import Ledger
from discue.dispatch.pull.waiters import Desk
from discue.dispatch.timers import Timers
from discue.domain.errors import Overloaded
from discue.observability.logs import Log
from discue.store import pull_leases
from discue.store.cursors import LaneRecord, lanes_after
from discue.store.engine import PULL_OWNER, Appended, CursorKey, Notification, QueueKey
from discue.store.message_log import last_seq_stored_before

VISITORS: Final = 10_000
"""Requests that may be under way at once, at all desks."""
_READ_AT_ONCE: Final = 100


class Pulls:
    """Implements `control.pulls.Puller`.

    Any worker may be asked, also one without lanes. It hears of new messages as lanes do, and one heap of due times
    serves all that wait.
    """

    def __init__(self, means: Means, log: Log) -> None:
        self.means = means
        self.timers = Timers(means.clock)
        self._log = log
        self._desks: dict[PullTarget, Desk] = {}
        self._of_queue: dict[QueueKey, dict[PullTarget, Desk]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._visitors: set[PullClient] = set()
        self._is_closed = False

    @property
    def queues(self) -> tuple[QueueKey, ...]:
        """Those for whose messages somebody waits."""
        return tuple(self._of_queue)

    @contextmanager
    def connect(self, key: int) -> Iterator[PullClient]:
        if len(self._visitors) >= VISITORS:
            raise Overloaded(f"{VISITORS} requests for messages are under way already. Try again soon.")
        client = PullClient(key)
        client.is_active = not self._is_closed
        self._visitors.add(client)
        try:
            yield client
        finally:
            self._visitors.discard(client)

    async def pull(self, client: PullClient, place: PullTarget, most: int, wait_ms: int) -> list[LeasedMessage]:
        if not client.is_active:
            return []
        return await self._desk(place).poll(client, most, self.means.clock.now() + wait_ms)

    async def answer(self, place: PullTarget, decisions: Sequence[Decision]) -> list[DecisionResult]:
        return await self._desk(place).state(decisions)

    def appended(self, appended: Appended) -> None:
        """Messages were stored by this worker."""
        self._ring((appended.organization, appended.queue))

    def heard(self, heads: Iterable[tuple[QueueKey, int]]) -> None:
        """Messages were stored, or are due again, by what another worker did."""
        for queue, _ in heads:
            self._ring(queue)

    def polled(self, heads: Mapping[QueueKey, int]) -> None:
        """How far logs go: whoever waits, and has not seen it, looks again."""
        for queue in self.queues:
            for desk in tuple(self._of_queue.get(queue, {}).values()):
                desk.learn(heads.get(queue, 0))

    def doubt(self) -> None:
        """The store may be another one: what was read and is not stored yet is read again."""
        self.means.doubts.count += 1

    def changed(self, kind: str, organization: int, ref: int) -> None:
        """Follow the change feed: whom it concerns looks again. Whose key has changed has to come again."""
        if kind in {"api_key", "everything"}:
            self._see_off(lambda client: kind == "everything" or client.key == ref)
        for place, desk in tuple(self._desks.items()):
            if _concerns(place, kind, organization, ref):
                desk.ring()

    def close(self) -> None:
        """Nobody waits any longer: those who do get nothing, and come again."""
        self._is_closed = True
        self._see_off(lambda _visitor: True)
        self.timers.stop()

    async def miss_too_old(self) -> None:
        """Deliveries that waited longer than the deadline allows are missed, also where nobody asks for them."""
        after: CursorKey = (0, 0, 0)
        while True:
            read = partial(lanes_after, owner=PULL_OWNER, after=after, limit=_READ_AT_ONCE)
            records = await self.means.store.read(read)
            for record in records:
                await self._miss_too_old(record)
            if len(records) < _READ_AT_ONCE:
                return
            after = records[-1].key

    async def _miss_too_old(self, record: LaneRecord) -> None:
        """Once: what somebody changes meanwhile is looked at the next time."""
        if record.head <= record.position and not record.retrying:
            return
        rules, store = self.means.rules(), self.means.store
        before = rules.now - rules.deadline_ms
        look = await store.read(partial(pull_leases.read_snapshot, listener=record.key[:2], now=rules.now, seqs=()))
        if look is None:
            return
        ledger, found = Ledger(look, rules), look.record
        bounds = (found.position, found.head)
        last_before = partial(last_seq_stored_before, organization=found.organization, queue=found.queue)
        ledger.miss_through(await store.read(partial(last_before, bounds=bounds, before=before)))
        for each in look.due:
            ledger.give_up(each, before)
        settle = ledger.take()
        if settle is not None:
            await store.settle(settle)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def wake_at(self, desk: Desk, due_at: int) -> None:
        self.timers.wake_at(desk, due_at, len(self._desks))

    def brought(self, desk: Desk, brought: Brought) -> None:
        store, place = self.means.store, desk.place
        if brought.makes_due and store.has_other_workers:
            store.engine.notify(Notification(heads=(((place.organization, place.queue), brought.head),)))

    def give_back(self, place: PullTarget, released: list[Decision]) -> None:
        self._desk(place).note(released)

    def is_left(self, desk: Desk) -> None:
        place = desk.place
        if self._desks.get(place) is desk:
            del self._desks[place]
            queue = (place.organization, place.queue)
            of_queue = self._of_queue[queue]
            del of_queue[place]
            if not of_queue:
                del self._of_queue[queue]

    def _see_off(self, concerns: Callable[[PullClient], bool]) -> None:
        leaving = [client for client in self._visitors if concerns(client)]
        for client in leaving:
            client.is_active = False
        if leaving:
            for desk in tuple(self._desks.values()):
                desk.see_off()

    def _desk(self, place: PullTarget) -> Desk:
        desk = self._desks.get(place)
        if desk is None:
            desk = self._desks[place] = Desk(place, self)
            self._of_queue.setdefault((place.organization, place.queue), {})[place] = desk
        return desk

    def _ring(self, queue: QueueKey) -> None:
        desks = self._of_queue.get(queue)
        if desks:
            for desk in tuple(desks.values()):
                desk.ring()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("pull_failed", exc_info=error)


def _concerns(place: PullTarget, kind: str, organization: int, ref: int) -> bool:
    if kind == "everything":
        return True
    of_listener = kind == "listener" and ref == place.listener
    # Of a message its deletion is one: what waits behind it may be due.
    of_queue = kind in {"queue", "message"} and ref == place.queue
    return place.organization == organization and (of_listener or of_queue or kind == "organization")
