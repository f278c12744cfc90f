"""The database as the rest of the service sees it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast

from discue.domain.clock import DatabaseClock, SystemClock
from discue.domain.errors import Overloaded, StoreDamaged
from discue.domain.messages import Entry
from discue.observability.metrics import ACKNOWLEDGED, COMMIT_SECONDS, CommitKind, Histogram, Measures
from discue.store import tallies
from discue.store.engine import (
    Append,
    Appended,
    Batch,
    BatchOutcome,
    ClusterSnapshot,
    Engine,
    LogPage,
    Notification,
    QueueKey,
    Settle,
    TopicAppend,
    Transaction,
    Work,
)
from discue.store.group_commit import (
    COMMIT_COST,
    A,
    CommitTime,
    GivenSettle,
    GroupCommit,
    SettleSource,
    Sized,
    WaitingAppends,
    call_apart,
)
from discue.store.ledger import DEFAULT_MAX_BYTES, Ledger
from discue.store.sources import RefusedRequests
from discue.store.tallies import ListenerCounts

T = TypeVar("T")
Part = TypeVar("Part")

DAMAGE_REMEDY: Final = "Restore the database from a backup."

_FAULT_KEPT_SECONDS: Final = 600.0
"""How long a fault counts after it was last found. Lanes and jobs repeat their reads and requests more often."""
_FAULTY_PARTS_KEPT: Final = 1_000
"""Maximum number of parts. All further parts count as one."""

_WAITING_ROWS: Final = 4_096
_RESERVE: Final = 4
"""The divisor of the limits that yields the reserve on top of them, for organizations that have little waiting."""
_LITTLE: Final = 16
"""The divisor of the limits that yields how much counts as little."""
_LONGEST_WAIT_SECONDS: Final = 0.3
_WORKS_TOGETHER: Final = 32


class RecentFaults(Generic[Part]):
    """The parts in which this worker found a fault in the last ten minutes. None stands for all others."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seen: dict[Part | None, float] = {}
        self._new: list[Part | None] = []

    def note(self, part: Part | None) -> None:
        """Note that a part has a fault."""
        if part not in self._seen and len(self._seen) >= _FAULTY_PARTS_KEPT:
            part = None
        if part not in self.parts():
            self._new.append(part)
        self._seen[part] = self._monotonic()

    def parts(self) -> frozenset[Part | None]:
        """Return the parts with a fault."""
        if not self._seen:
            return frozenset()
        since = self._monotonic() - _FAULT_KEPT_SECONDS
        self._seen = {part: seen_at for part, seen_at in self._seen.items() if seen_at > since}
        return frozenset(self._seen)

    def take_new(self) -> list[Part | None]:
        """Return the parts that were noted since the last call, and not in the ten minutes before."""
        new, self._new = self._new, []
        return new


class Store:
    """Reads go to the engine; writes wait for a shared commit (`GroupCommit`), of which a few run concurrently.

    Waiting publishes are limited in rows, in bytes and by the recent duration of commits: beyond that, `append` raises
    `Overloaded` at once. An organization that has little waiting does not meet the limits because of others.
    Cancelling a caller never cancels a commit: its outcome stands.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_waiting_bytes: int,
        max_reserved_bytes: int = DEFAULT_MAX_BYTES,
        worker_slot: Callable[[], int] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        clock: DatabaseClock | None = None,
    ) -> None:
        """`worker_slot` returns a number that no other process has that writes at the same time.

        `clock` is adjusted by each poll.
        """
        self.engine = engine
        self.on_append: list[Callable[[Appended], None]] = []
        """Called after a commit, for each append in it. Workers without lanes need none: others read the log."""
        self.on_heads: list[Callable[[Iterable[tuple[QueueKey, int]]], None]] = []
        """Called after a commit, with the queues to which works have appended messages, and their last seqs."""
        self.healthy = True
        self.damage = RecentFaults[QueueKey](monotonic)
        """The damage that reads and writes of this worker have found: queues, or None for data of no single queue."""
        self.proxy_faults = RecentFaults[int](monotonic)
        """Organizations whose deliveries waited for the egress proxy."""
        self.refusals = RefusedRequests()
        """Requests to sources that this worker has refused."""
        self.has_other_workers = False
        """Whether other workers must be notified of what this one appends."""
        self.workers = 1
        """The number of workers on the database, this one included, as far as this one knows."""
        self.measures = Measures()
        self.listener_counts = ListenerCounts()
        self.ledger = Ledger(max_bytes=max_reserved_bytes, monotonic=monotonic, is_store_healthy=lambda: self.healthy)
        """Grants the reservations of everything that reads."""
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting_bytes = 0
        self._waiting_rows = 0
        self._waiting_cost = 0
        self._waiting: dict[int, WaitingAppends] = {}
        """The waiting appends by organization."""
        self._monotonic = monotonic
        self.clock = clock or DatabaseClock(SystemClock())
        self._worker_slot = worker_slot or (lambda: 0)
        concurrency = engine.concurrency
        self._appends = self._group_commits("publish" if concurrency.apart else "all", concurrency.appends)
        self._cost_together = COMMIT_COST * concurrency.appends
        self._settles = self._works = self._urgent_works = self._appends
        if concurrency.apart:
            self._settles = self._group_commits("settle", concurrency.settles)
            self._works = self._group_commits("work", concurrency.works)
            self._urgent_works = self._group_commits("work", concurrency.urgent_works)
        self._works_started = 0

    @property
    def is_busy(self) -> bool:
        """Whether a commit is running, or anything waits for a commit or its result."""
        return any(group.is_busy for group in (*self._appends, *self._settles, *self._works, *self._urgent_works))

    async def poll(self, queues: Sequence[QueueKey]) -> ClusterSnapshot:
        """Read the state of the cluster, and adjust the clock."""
        sent_at = self.clock.monotonic()
        snapshot = await self.engine.poll(queues)
        if snapshot.clock_ms is not None:
            self.clock.adjust(snapshot.clock_ms, sent_at)
        return snapshot

    def read(self, work: Work[T]) -> Coroutine[Any, Any, T]:
        """See `engine.Engine.read`."""
        return self._noting_damage(self.engine.read, work)

    def search(self, work: Work[T]) -> Coroutine[Any, Any, T]:
        """See `engine.Engine.search`."""
        return self._noting_damage(self.engine.search, work)

    def load(self, work: Work[T]) -> Coroutine[Any, Any, T]:
        """See `engine.Engine.load`."""
        return self._noting_damage(self.engine.load, work)

    async def page(self, organization: int, queue: int, after: int, rows: int, *, max_bytes: int) -> LogPage:
        """See `engine.Engine.page`."""
        try:
            return await self.engine.page(organization, queue, after, rows, max_bytes=max_bytes)
        except StoreDamaged:
            self.damage.note((organization, queue))
            raise

    async def _noting_damage(self, run: Callable[[Work[T]], Awaitable[T]], work: Work[T]) -> T:
        try:
            return await run(work)
        except StoreDamaged:
            self.damage.note(None)
            raise

    async def append(self, append: Append) -> Appended:
        """Store messages of one queue. Raises `Overloaded`, `StoreUnavailable`, `StaleConfiguration`, `QueueClosed`."""
        item, started_at = self._admit(append), self._monotonic()
        group = self._by_key(self._appends, append.queue)
        try:
            appended: Appended = await group.add(group.appends, item)
        except StoreDamaged:
            self.damage.note((append.organization, append.queue))
            raise
        self.measures.count_published(item.rows, item.bytes, self._monotonic() - started_at)
        return appended

    async def append_to_topic(self, append: TopicAppend) -> tuple[Appended, ...]:
        """Store messages of a topic in all of its queues.

        Raises `Overloaded`, `StoreUnavailable`, `AlreadyDone`, and `StaleConfiguration` if the topic or one of the
        queues changed since the messages were routed.
        """
        item, started_at = self._admit(append), self._monotonic()
        group = self._by_key(self._appends, append.topic)
        appended: tuple[Appended, ...] = await group.add(group.topic_appends, item)
        self.measures.count_published(item.rows, item.bytes, self._monotonic() - started_at)
        return appended

    def check_capacity(self, organization: int, size: int = 0) -> None:
        """Raise `Overloaded` if that many more bytes are too many. Callers check before they read a body."""
        rows, waiting, limit = self._waiting_rows, self._waiting_bytes, self._max_waiting_bytes
        own = self._waiting.get(organization)
        if rows >= _WAITING_ROWS or waiting + size > limit:
            little = own is None or own.rows < _WAITING_ROWS // _LITTLE
            little = little and (size if own is None else own.bytes + size) <= limit // _LITTLE
            more = 1 + 1 / _RESERVE
            if not little or rows >= _WAITING_ROWS * more or waiting + size > limit * more:
                raise Overloaded
        if own is None:
            return
        # Commits take the organizations' appends in turns, so more of one organization does not delay another.
        cost = self._waiting_cost
        if len(self._waiting) > 1:
            cost = min(cost, own.cost * len(self._waiting))
        # The next commit always has room: only commits update the estimate of their duration.
        if cost >= self._cost_together:
            commits = cost // self._cost_together
            if min(each.commit_time.seconds(commits) for each in self._appends) > _LONGEST_WAIT_SECONDS:
                raise Overloaded

    def _admit(self, append: A) -> Sized[A]:
        """Count an append before it waits: other callers check the capacity before a commit takes it."""
        organization = append.organization
        own = self._waiting.get(organization)
        item = Sized.of(append, own or WaitingAppends(organization))
        self.check_capacity(organization, item.bytes)
        if own is None:
            own = self._waiting[organization] = item.own
        own.rows += item.rows
        own.bytes += item.bytes
        own.cost += item.cost
        self._waiting_rows += item.rows
        self._waiting_bytes += item.bytes
        self._waiting_cost += item.cost
        return item

    async def settle(self, settle: Settle) -> bool:
        """Store a settle. Returns whether its cursor had the expected token and version: else nothing was stored."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.add_settle(GivenSettle(settle, future), settle.listener)
        return await future

    def add_settle(self, source: SettleSource, listener: int) -> None:
        """Store what a source has to settle of a listener. The source is told the result."""
        self._by_key(self._settles, listener).add_settle(source)

    async def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction. If it raises, the transaction changes nothing and the error is raised here."""
        # Works have no key of their own: they take turns.
        self._works_started += 1
        group = self._by_key(self._works, self._works_started << 22)
        return await self._noting_damage(partial(group.add, group.works), work)

    async def write_urgently(self, work: Work[T]) -> T:
        """Like `write`, but never queued behind other works: those may wait for a lock that a hung process holds.

        An urgent work may wait for such a lock, too. Then another one overtakes it: the renewal of a lease a takeover.
        """
        group = next((each for each in self._urgent_works if each.running is None), self._urgent_works[0])
        return cast("T", await group.add(group.works, work))

    async def write_exclusively(self, work: Work[T]) -> T:
        """Like `write`, but no other exclusive write of any process runs between its reads and its writes."""

        async def exclusively(tx: Transaction) -> T:
            await tx.exclusive()
            return await work(tx)

        return await self.write(exclusively)

    async def probe_writes(self) -> None:
        """Check after a failure, by a write that changes nothing, whether the store accepts writes again."""
        if not self.healthy:
            await self.write(_write_nothing)

    def _on_taken(self, items: Sequence[Sized[Any]]) -> None:
        rows = size = cost = 0
        for item in items:
            rows += item.rows
            size += item.bytes
            cost += item.cost
            own = item.own
            own.rows -= item.rows
            own.bytes -= item.bytes
            own.cost -= item.cost
            if not own.rows:
                del self._waiting[own.organization]
        self._waiting_rows -= rows
        self._waiting_bytes -= size
        self._waiting_cost -= cost

    def _on_end(self, batch: Batch, outcome: BatchOutcome | None) -> None:
        self.healthy = outcome is not None
        if outcome is None:
            return
        for settle, is_stored in zip(batch.settles, outcome.settles, strict=True):
            if is_stored is True:
                self._count(settle)
        appended = _by_queue(outcome)
        for each in appended:
            for on_append in self.on_append:
                call_apart(on_append, each)
        if outcome.heads:
            for on_heads in self.on_heads:
                call_apart(on_heads, outcome.heads.items())
        if (appended or outcome.heads) and self.has_other_workers:
            heads = [((each.organization, each.queue), each.entries[-1].seq) for each in appended]
            self.engine.notify(Notification(heads=(*heads, *outcome.heads.items())))

    def _count(self, settle: Settle) -> None:
        self.listener_counts.count(settle)
        for attempt in settle.attempts:
            self.measures.attempts[attempt.error or ACKNOWLEDGED] += 1
        if settle.new_misses is not None:
            self.measures.count_missed(settle.new_misses.by_reason)

    def _group_commits(self, kind: CommitKind, count: int) -> list[GroupCommit]:
        seconds = self.measures.commit_seconds.setdefault(kind, Histogram(COMMIT_SECONDS))
        return [
            GroupCommit(
                self.engine,
                self._tally_slot(number),
                CommitTime(self._monotonic),
                seconds=seconds,
                parts=self.measures.commit_parts,
                # Works of one transaction share its fsync; with one each, they would only wait for each other.
                works_at_once=1 if self.engine.concurrency.apart else _WORKS_TOGETHER,
                on_taken=self._on_taken,
                on_end=self._on_end,
            )
            for number in range(count)
        ]

    def _tally_slot(self, number: int) -> Callable[[], int]:
        return lambda: tallies.slot_of(self._worker_slot(), number)

    def _by_key(self, groups: list[GroupCommit], key: int) -> GroupCommit:
        # One queue's appends must not run in two concurrent commits: these would wait for each other's head row, and
        # finish in any order. The low bits of a row id are the slot of the worker that made it.
        return groups[(key >> 22) % len(groups)] if len(groups) > 1 else groups[0]


def _by_queue(outcome: BatchOutcome) -> list[Appended]:
    """Return what a batch has appended, once for each queue: a call of the lanes costs as much as several messages.

    Parts of a batch that were stored in several commits may have messages of other workers between them. Their seqs are
    not consecutive, and they stay apart.
    """
    appended = [result for result in outcome.appends if isinstance(result, Appended)]
    for results in outcome.topic_appends:
        if not isinstance(results, Exception):
            appended += results
    if len(appended) < 2:
        return appended
    found: list[Appended] = []
    queues: dict[QueueKey, list[Entry]] = {}
    for each in appended:
        queue = (each.organization, each.queue)
        entries = queues.get(queue)
        if entries is None:
            queues[queue] = list(each.entries)
        elif entries[-1].seq + 1 == each.entries[0].seq:
            entries += each.entries
        else:
            found.append(each)
    return [*(Appended(*queue, tuple(entries)) for queue, entries in queues.items()), *found]


async def _write_nothing(tx: Transaction) -> None:
    # An empty transaction would succeed on a full disk, and so would an update that changes no byte: SQLite writes
    # nothing for it. This writes a page.
    await tx.execute("INSERT INTO feed_head (shard, version) VALUES (-1, 0)")
    await tx.execute("DELETE FROM feed_head WHERE shard = -1")
