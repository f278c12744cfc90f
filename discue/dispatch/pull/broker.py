"""The pull broker: all requests of consumers in this worker, by listener."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

from discue.control.pulls import Decision, DecisionResult, LeasedMessage, PullClient, PullTarget
from discue.dispatch.pull.receive import RoundResult, has_work, read_new
from discue.dispatch.pull.session import PullContext, PullSession
from discue.dispatch.pull.waiters import Waiters
from discue.dispatch.timers import Timers
from discue.domain.errors import Overloaded, StoreDamaged
from discue.observability.logs import Log
from discue.observability.supervisor import BackgroundTasks
from discue.store import pull_leases
from discue.store.cursors import LaneRecord, lanes_after
from discue.store.engine import PULL_OWNER, Appended, CursorKey, Notification, QueueKey
from discue.store.message_log import last_seq_stored_before

MAX_CLIENTS: Final = 10_000
"""How many pull requests may be open at once in this worker."""
_CURSORS_PER_READ: Final = 100
_OLD_ROUNDS: Final = 20
"""The rounds in which a run of the job looks at old messages of a listener."""


class PullBroker:
    """Implements `control.pulls.Puller`.

    Every worker can serve every listener in pull mode, also a worker without lanes. It learns of new messages as lanes
    do. All waiting requests share one heap of due times.
    """

    def __init__(self, context: PullContext, log: Log) -> None:
        self.context = context
        self.timers = Timers(context.clock)
        self._waiters: dict[PullTarget, Waiters] = {}
        self._by_queue: dict[QueueKey, dict[PullTarget, Waiters]] = {}
        self.tasks = BackgroundTasks(log, "pull_failed")
        # A dictionary for its order: clients are disconnected in the order in which they came.
        self._clients: dict[PullClient, None] = {}
        self._is_closed = False

    @property
    def queues(self) -> tuple[QueueKey, ...]:
        """The queues whose messages consumers wait for."""
        return tuple(self._by_queue)

    @contextmanager
    def connect(self, key: int) -> Iterator[PullClient]:
        """Register a client for the duration of the block. Raises Overloaded."""
        if len(self._clients) >= MAX_CLIENTS:
            raise Overloaded(f"{MAX_CLIENTS} requests for messages are already open. Try again soon.")
        client = PullClient(key)
        client.is_active = not self._is_closed
        self._clients[client] = None
        try:
            yield client
        finally:
            self._clients.pop(client, None)
            client.release()

    async def pull(self, client: PullClient, target: PullTarget, most: int, wait_ms: int) -> list[LeasedMessage]:
        """Lease up to `most` messages, waiting up to `wait_ms` for the first one."""
        if not client.is_active:
            return []
        return await self._waiters_of(target).poll(client, most, self.context.clock.now() + wait_ms)

    async def decide(self, target: PullTarget, decisions: Sequence[Decision]) -> list[DecisionResult]:
        """Apply decisions, and return their results when they are stored."""
        return await self._waiters_of(target).decide(decisions)

    def on_appended(self, appended: Appended) -> None:
        """Wake the consumers of a queue in which this worker stored messages."""
        self._notify((appended.organization, appended.queue))

    def on_heads(self, heads: Iterable[tuple[QueueKey, int]]) -> None:
        """Wake the consumers of queues in which another worker stored messages or made some due again."""
        for queue, _ in heads:
            self._notify(queue)

    def on_snapshot_heads(self, heads: Mapping[QueueKey, int]) -> None:
        """Wake the consumers that have not seen the head of their queue."""
        for target, waiters in tuple(self._waiters.items()):
            waiters.on_head(heads.get((target.organization, target.queue), 0))

    def invalidate(self) -> None:
        """Store nothing that is based on an earlier snapshot: the store may be another server now."""
        self.context.losses += 1

    def on_change(self, kind: str, organization: int, ref: int) -> None:
        """Follow the change feed: wake the consumers concerned, and disconnect those whose API key has changed."""
        if kind in {"api_key", "everything"}:
            self._disconnect(lambda client: kind == "everything" or client.key == ref)
        for target, waiters in tuple(self._waiters.items()):
            if _is_concerned(target, kind, organization, ref):
                waiters.notify()

    def close(self) -> None:
        """End all waiting requests without messages; their consumers repeat them elsewhere."""
        self._is_closed = True
        self._disconnect(lambda _client: True)
        self.timers.stop()

    async def miss_too_old(self) -> None:
        """Miss deliveries that have waited longer than the deadline, also of listeners without consumers."""
        async for record in self._unsettled():
            try:
                await self._miss_too_old(record)
            except StoreDamaged:
                self.context.store.damage.note((record.organization, record.queue))

    async def has_work(self) -> bool:
        """Return whether a consumer of any listener holds a message, or can pull one now."""
        async for record in self._unsettled():
            if await has_work(self.context, record.key[:2]):
                return True
        return False

    async def _unsettled(self) -> AsyncIterator[LaneRecord]:
        """Yield the cursors with deliveries that are not settled."""
        after: CursorKey = (0, 0, 0)
        while True:
            read = partial(lanes_after, owner=PULL_OWNER, after=after, limit=_CURSORS_PER_READ)
            records = await self.context.store.read(read)
            for record in records:
                if record.head > record.position or record.retrying:
                    yield record
            if len(records) < _CURSORS_PER_READ:
                return
            after = records[-1].key

    async def _miss_too_old(self, record: LaneRecord) -> None:
        """Miss deliveries of a listener. The next run of the job looks at the rest."""
        for _ in range(_OLD_ROUNDS):
            if not await self._miss_some(record):
                break

    async def _miss_some(self, record: LaneRecord) -> bool:
        """Return whether another round would find more. If the cursor changes meanwhile, the next run looks again."""
        context, store, now = self.context, self.context.store, self.context.clock.now()
        before = now - context.deadline_ms
        snapshot = await store.read(partial(pull_leases.read_snapshot, listener=record.key[:2], now=now, seqs=()))
        if snapshot is None:
            return False
        session, found = PullSession(snapshot, context, now=now), snapshot.record
        last_before = partial(last_seq_stored_before, organization=found.organization, queue=found.queue)
        last = await store.read(partial(last_before, bounds=(found.position, found.head), before=before))
        if not (found.ordered and found.retrying) and not session.has_filter:
            session.miss_through(last)
        elif last > found.position:
            # A range would cover messages that the filter rejects, and messages behind held keys, which the keys' rows
            # have yet to count. So the new messages are settled one by one, as in a round that leases nothing. It does
            # not wait for memory: other organizations would wait with it.
            with store.ledger.hold(found.organization, session.most_bytes(0)):
                session.lease_new(await read_new(store, session, found), 0)
        for each in snapshot.due:
            session.miss_if_old(each, before)
        settle = session.take()
        if settle is None or not await store.settle(settle):
            return False
        if settle.new_misses is not None:
            context.on_missed()
        return found.position < session.position < last

    def on_round(self, waiters: Waiters, result: RoundResult) -> None:
        """Notify other workers, whose consumers may wait for messages that the round made due."""
        store, target = self.context.store, waiters.target
        if result.makes_due and store.has_other_workers:
            store.engine.notify(Notification(heads=(((target.organization, target.queue), result.head),)))

    def release(self, target: PullTarget, releases: list[Decision]) -> None:
        """Release messages whose consumer is gone."""
        self._waiters_of(target).decide_soon(releases)

    def on_closed(self, waiters: Waiters) -> None:
        """Remove waiters that have no request left."""
        target = waiters.target
        if self._waiters.get(target) is waiters:
            del self._waiters[target]
            queue = (target.organization, target.queue)
            by_target = self._by_queue[queue]
            del by_target[target]
            if not by_target:
                del self._by_queue[queue]

    def _disconnect(self, is_concerned: Callable[[PullClient], bool]) -> None:
        leaving = [client for client in self._clients if is_concerned(client)]
        for client in leaving:
            client.is_active = False
        if leaving:
            for waiters in tuple(self._waiters.values()):
                waiters.disconnect_inactive()

    def _waiters_of(self, target: PullTarget) -> Waiters:
        waiters = self._waiters.get(target)
        if waiters is None:
            waiters = self._waiters[target] = Waiters(target, self)
            self._by_queue.setdefault((target.organization, target.queue), {})[target] = waiters
        return waiters

    def _notify(self, queue: QueueKey) -> None:
        by_target = self._by_queue.get(queue)
        if by_target:
            for waiters in tuple(by_target.values()):
                waiters.notify()


def _is_concerned(target: PullTarget, kind: str, organization: int, ref: int) -> bool:
    if kind == "everything":
        return True
    is_listener = kind == "listener" and ref == target.listener
    # A `message` entry is a deletion: the messages behind it may be due.
    is_queue = kind in {"queue", "message"} and ref == target.queue
    return target.organization == organization and (is_listener or is_queue or kind == "organization")
