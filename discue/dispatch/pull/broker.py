"""The pull broker: all requests of consumers in this worker, by listener, and their long polls."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final, NamedTuple

from discue.control.pulls import MOST_AT_ONCE, Decision, DecisionResult, LeasedMessage, PullClient, PullTarget
from discue.dispatch.pull.receive import RoundResult, has_work, read_new, run_round, size_of, store_changes
from discue.dispatch.pull.session import PullContext, PullSession
from discue.dispatch.timers import Timers
from discue.domain.errors import DiscueError, Overloaded, StoreDamaged
from discue.observability.logs import Log
from discue.observability.supervisor import BackgroundTasks
from discue.store import pull_leases
from discue.store.cursors import LaneRecord, lanes_after
from discue.store.engine import PULL_OWNER, Appended, CursorKey, Notification, QueueKey
from discue.store.group_commit import resolve
from discue.store.message_log import last_seq_stored_before

MAX_POLLS: Final = 1_000
"""How many long polls of one listener may wait in this worker."""
_MAX_ROUNDS: Final = 8
"""How many rounds a poll takes part in after its deadline, while there may be more messages."""
_GRACE_MS: Final = 500
"""How long after its deadline a poll may end, if a round runs or there may be more messages: on a busy worker, a round
waits for its turn."""
_NO_MESSAGES: Final[list[LeasedMessage]] = []


@dataclass(slots=True)
class LongPoll:
    """A request for up to `most` messages. It waits until `deadline`, in milliseconds since the epoch.

    It does not end without messages before it has taken part in a round, unless its client has to leave.
    """

    client: PullClient
    most: int
    deadline: int
    response: "asyncio.Future[list[LeasedMessage]]"
    rounds: int = 0


class DecisionBatch(NamedTuple):
    """Decisions of a consumer. Without `response`, no one waits for their results."""

    decisions: Sequence[Decision]
    response: "asyncio.Future[list[DecisionResult]] | None"


class Waiters:
    """The long polls and decisions of one listener. If none is left, it has no task and no timer, and is closed.

    It is a `timers.Sleeper`.
    """

    def __init__(self, target: PullTarget, broker: "PullBroker") -> None:
        self.target = target
        self.wakes_at = 0
        self.is_closed = False
        self._broker = broker
        self._polls: deque[LongPoll] = deque()
        self._batches: deque[DecisionBatch] = deque()
        self._task: asyncio.Task[None] | None = None
        self._must_check = False
        self._check_at = 0
        """When a message is due next, in milliseconds since the epoch; 0 if none is."""
        self._head_seen = 0
        self._needed = 0
        """The memory that the last round has found missing."""

    async def poll(self, client: PullClient, most: int, deadline: int) -> list[LeasedMessage]:
        """Wait for messages. If cancelled, none stays leased. Raises Overloaded."""
        if len(self._polls) >= MAX_POLLS:
            raise Overloaded(f"{MAX_POLLS} requests already wait for messages of this listener. Try again soon.")
        poll = LongPoll(client, most, deadline, asyncio.get_running_loop().create_future())
        self._polls.append(poll)
        self.notify()
        try:
            return await poll.response
        except asyncio.CancelledError:
            if poll.response.done() and not poll.response.cancelled() and poll.response.exception() is None:
                self._release(poll.response.result())
            self._rest()
            raise

    async def decide(self, decisions: Sequence[Decision]) -> list[DecisionResult]:
        """Apply decisions, and return their results when they are stored."""
        response: asyncio.Future[list[DecisionResult]] = asyncio.get_running_loop().create_future()
        self._batches.append(DecisionBatch(decisions, response))
        self.notify()
        return await response

    def decide_soon(self, decisions: Sequence[Decision]) -> None:
        """Apply decisions without waiting for their results."""
        self._batches.append(DecisionBatch(decisions, None))
        self.notify()

    def notify(self) -> None:
        """Run a round soon: there may be messages."""
        self._must_check = True
        if self._task is None:
            self._task = self._broker.tasks.spawn(self._run_rounds())

    def on_head(self, head: int) -> None:
        """Run a round if the log goes further than the last round has seen."""
        if head > self._head_seen:
            self.notify()

    def wake(self) -> None:
        """End the polls whose time is over, and run a round if a message is due."""
        now = self._broker.context.clock.now()
        for poll in self._polls:
            if poll.rounds and self._ends_at(poll) <= now:
                resolve(poll.response, _NO_MESSAGES)
        if 0 < self._check_at <= now and self._open_polls():
            self.notify()
        self._rest()

    def on_clock_set_back(self, _now: int) -> None:
        """End the polls, whose deadlines may be far ahead: consumers ask again."""
        for poll in self._polls:
            resolve(poll.response, _NO_MESSAGES)
        self._rest()

    def disconnect_inactive(self) -> None:
        """End the polls of inactive clients without messages."""
        for poll in self._polls:
            if not poll.client.is_active:
                resolve(poll.response, _NO_MESSAGES)
        self._rest()

    async def _run_rounds(self) -> None:
        try:
            while self._must_check or self._batches:
                self._must_check = False
                self._rest()
                await self._run_round()
        finally:
            self._task = None
        self._rest()

    async def _run_round(self) -> None:
        batches, polls = list(self._batches), self._open_polls()
        self._batches.clear()
        decisions = [decision for batch in batches for decision in batch.decisions]
        most = min(sum(poll.most for poll in polls), MOST_AT_ONCE)
        if not batches and not most:
            return
        try:
            result = await run_round(self._broker.context, self.target, decisions, most, needed=self._needed)
        except Exception as error:
            self._fail(batches, error)
            if isinstance(error, DiscueError):
                return
            raise
        self._needed = result.needed
        results = iter(result.decisions)
        for batch in batches:
            of_batch = list(islice(results, len(batch.decisions)))
            if batch.response is not None:
                resolve(batch.response, of_batch)
        # Polls that arrived during the round have not taken part: it may have read before their messages were stored.
        for poll in polls:
            poll.rounds += 1
        self._hand_out(result)
        if result.reservation is not None:
            result.reservation.release()
        self._broker.on_round(self, result)

    def _open_polls(self) -> list[LongPoll]:
        """Remove the polls that have ended, and return the others."""
        self._polls = deque(poll for poll in self._polls if not poll.response.done())
        return list(self._polls)

    def _hand_out(self, result: RoundResult) -> None:
        """Divide the messages among the polls in their order. Polls without messages go on, unless they must end."""
        now, left = self._broker.context.clock.now(), deque(result.messages)
        waiting = deque[LongPoll]()
        for poll in self._open_polls():
            messages = [left.popleft() for _ in range(min(poll.most, len(left)))]
            if messages and result.reservation is not None:
                is_all = len(messages) == len(result.messages)
                size = result.reservation.bytes if is_all else size_of(messages)
                poll.client.hold(result.reservation.split(size))
                resolve(poll.response, messages)
            elif result.refusal is not None:
                resolve(poll.response, result.refusal)
            elif (
                poll.rounds
                and poll.deadline <= now
                and (not result.has_more or poll.rounds >= _MAX_ROUNDS or poll.deadline + _GRACE_MS <= now)
            ):
                resolve(poll.response, _NO_MESSAGES)
            else:
                waiting.append(poll)
        self._polls = waiting
        if left:
            self._release(left)
        self._check_at, self._head_seen = result.next_at, max(self._head_seen, result.head)
        if result.has_more or (result.makes_due and waiting):
            self._must_check = bool(waiting)

    def _release(self, messages: Iterable[LeasedMessage]) -> None:
        """Release messages whose consumer is gone: they are due again, as if they had not been leased."""
        releases = [Decision(message.receipt, "release") for message in messages]
        if releases:
            self._broker.waiters_of(self.target).decide_soon(releases)

    def _fail(self, batches: Sequence[DecisionBatch], error: Exception) -> None:
        for batch in batches:
            if batch.response is not None:
                resolve(batch.response, error)
        for poll in self._polls:
            resolve(poll.response, error)
        self._polls.clear()

    def _rest(self) -> None:
        """Set the next time to wake. If no request is left and no round runs, close."""
        polls = self._open_polls()
        if not polls and not self._batches and self._task is None:
            self.is_closed = True
            self._broker.on_closed(self)
            return
        times = [self._ends_at(poll) for poll in polls if poll.rounds]
        if self._check_at and self._task is None:
            times.append(self._check_at)
        if times:
            self._broker.timers.wake_at(self, min(times))

    def _ends_at(self, poll: LongPoll) -> int:
        """Return when a poll ends without messages, if it has taken part in a round."""
        # A round that runs may find messages for it.
        return poll.deadline if self._task is None else poll.deadline + _GRACE_MS


MAX_CLIENTS: Final = 10_000
"""How many pull requests may be open at once in this worker."""
_SHARES: Final = 4
_FEW_CLIENTS: Final = 100
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
        self._of_account: Counter[int] = Counter()
        self._is_closed = False

    @property
    def queues(self) -> tuple[QueueKey, ...]:
        """The queues whose messages consumers wait for."""
        return tuple(self._by_queue)

    @contextmanager
    def connect(self, key: int, account: int) -> Iterator[PullClient]:
        """Register a client of an account for the duration of the block. Raises Overloaded.

        An account can have a quarter of `MAX_CLIENTS`. The last quarter is reserved for accounts with fewer than
        `_FEW_CLIENTS`.
        """
        own, share = self._of_account[account], MAX_CLIENTS // _SHARES
        if own >= share or len(self._clients) >= (MAX_CLIENTS if own < _FEW_CLIENTS else MAX_CLIENTS - share):
            raise Overloaded(
                "Too many requests for messages are already open, or too many of this account. Try again soon."
            )
        client = PullClient(key)
        client.is_active = not self._is_closed
        self._clients[client] = None
        self._of_account[account] += 1
        try:
            yield client
        finally:
            self._clients.pop(client, None)
            self._of_account[account] -= 1
            if not self._of_account[account]:
                del self._of_account[account]
            client.release()

    async def pull(self, client: PullClient, target: PullTarget, most: int, wait_ms: int) -> list[LeasedMessage]:
        if not client.is_active:
            return []
        return await self.waiters_of(target).poll(client, most, self.context.clock.now() + wait_ms)

    async def decide(self, target: PullTarget, decisions: Sequence[Decision]) -> list[DecisionResult]:
        return await self.waiters_of(target).decide(decisions)

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
                # The next run of the job checks the rest.
                for _ in range(_OLD_ROUNDS):
                    if not await self._miss_some(record):
                        break
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

    async def _miss_some(self, record: LaneRecord) -> bool:
        """Return whether another round would find more. If the cursor changes meanwhile, the next run looks again."""
        context, store, now = self.context, self.context.store, self.context.clock.now()
        before, losses = now - context.deadline_ms, context.losses
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
        return await store_changes(context, session, losses) and found.position < session.position < last

    def on_round(self, waiters: Waiters, result: RoundResult) -> None:
        """Notify other workers, whose consumers may wait for messages that the round made due."""
        store, target = self.context.store, waiters.target
        if result.makes_due and store.has_other_workers:
            store.engine.notify(Notification(heads=(((target.organization, target.queue), result.head),)))

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

    def waiters_of(self, target: PullTarget) -> Waiters:
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
