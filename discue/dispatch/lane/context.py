"""The store, clocks, tuning constants, reads and memory budgets that all lanes of a worker share."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import msgspec

from discue.crypto.keyring import Keyring
from discue.dispatch.lane.breaker import FAILURES_IN_A_ROW, MOST_TRIALS, RETRYING_LIMIT
from discue.dispatch.timers import Sleeper
from discue.domain.attempts import Outcome, encode_detail, shown_trace
from discue.domain.clock import Clock
from discue.domain.ids import RowIds
from discue.domain.messages import Entry
from discue.domain.reservations import ReadBound
from discue.domain.trace_context import TraceIds
from discue.domain.window import SPAN
from discue.observability.logs import Log
from discue.observability.tracing import Tracer
from discue.store.engine import LogPage, QueueKey, Work
from discue.store.store import Store

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Runs a coroutine as a task of the worker, which logs its failure."""

STARTS_PER_TURN: Final = 8
"""How many requests start before everything else on the event loop has its turn.

A publish takes 6 turns on SQLite and about 15 on PostgreSQL, and a failed attempt half a millisecond. With 4, each
delivery takes a tenth more of the processor; above 8, nothing is gained.
"""


class Tuning(msgspec.Struct, frozen=True):
    """Tuning constants that users cannot set. Tests make them tiny, so that rare paths become common."""

    page_rows: int = 128
    """Messages per read of the log."""
    due_rows: int = 32
    """Retries per read, in addition to those that are claimed."""
    notified_held: int = 2_048
    """Messages from notifications that a lane holds in memory."""
    waiting_held: int = 256
    """Messages of a lane that wait in memory for their keys."""
    missed_per_step: int = 500
    """Retries that the deadline job misses at once."""
    waiting_retries: int = 500
    """The next step of a redelivery waits while more deliveries with rows are not settled. So a redelivery of any size
    makes few rows at once."""
    detach_within: int = SPAN // 2
    """How far from the position requests in flight are detached when the span is full."""
    throttle_rows: int = RETRYING_LIMIT
    throttle_failures: int = FAILURES_IN_A_ROW
    most_trials: int = MOST_TRIALS
    starts_per_turn: int = STARTS_PER_TURN
    flush_delay_ms: int = 10
    """How long the outcomes of lanes that have caught up wait until they are stored."""
    report_grace_ms: int = 60_000
    """How long after its timeout an inherited request may stay unreported before it counts as lost. A live sender needs
    this time if the store is unavailable when the request ends."""
    ends_per_write: int = 64
    """Outcomes of handed-over requests per write."""
    probes_at_once: int = 256
    health_records_per_write: int = 128
    cursors_per_release: int = 1_000
    cursors_per_claim: int = 500
    lanes_per_read: int = 500


_ENTRY_BYTES: Final = 300
"""Memory of a message besides its body and its options. Measured: 281 bytes on CPython 3.11."""


def memory_of(entry: Entry | None) -> int:
    """Return about how many bytes a message takes in memory."""
    return 0 if entry is None else _ENTRY_BYTES + len(entry.body) + len(entry.extra)


class BodyBudget:
    """How many bytes of messages the lanes of a worker hold in memory. Other messages are read again later."""

    __slots__ = ("_limit", "held")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    @property
    def left(self) -> int:
        return max(0, self._limit - self.held)

    def take(self, size: int) -> bool:
        """Take `size` bytes if they are left."""
        if self.held + size > self._limit:
            return False
        self.held += size
        return True

    def force(self, size: int) -> None:
        """Take `size` bytes beyond the limit, for the page that a lane needs to go on. Pages are bounded themselves."""
        self.held += size

    def give_back(self, size: int) -> None:
        self.held -= size


class WorkerSession:
    """The session of a worker, which owns its cursors, and how long attempts may start under it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.id = 0
        """Identifies this run of the worker in the rows of its cursors; 0 before it has joined."""
        self.held_until = -math.inf
        """When its lease is over, in seconds of the monotonic clock."""

    def is_held(self) -> bool:
        """Whether an attempt may start now: no other worker can have taken the cursors over yet."""
        return self.is_held_at(self.clock.monotonic())

    def is_held_at(self, monotonic: float) -> bool:
        """Whether an attempt may start at a time of the monotonic clock."""
        return monotonic < self.held_until


class Sources(msgspec.Struct, frozen=True):
    """Sources of time, random numbers, ids and keys of a worker, and what records its events and spans."""

    clock: Clock
    random: Callable[[], float]
    """Returns a random number from [0, 1)."""
    row_ids: RowIds
    trace_ids: TraceIds
    log: Log
    keyring: Keyring = msgspec.field(default_factory=Keyring)
    tracer: Tracer | None = None
    """Records the attempts of sampled messages; None unless spans are exported."""


class WorkerContext(Sources, frozen=True, kw_only=True):
    """Everything that the parts of a dispatcher share."""

    store: Store
    session: WorkerSession
    deadline_ms: int
    """How long a message may wait until it is missed."""
    tuning: Tuning
    spawn: Spawn
    wake_at: Callable[[Sleeper, int], None]
    """Wakes a sleeper at a time in milliseconds since the epoch."""


_HOUR_MS: Final = 3_600_000

SHORT_BODY_BYTES: Final = 1_024
"""How much is kept of the response body of a failure that is neither the first nor the last of its delivery."""


class DetailBudget:
    """Encodes the details of attempts while the budget of their organization lasts.

    Listeners choose what they answer, and how often they fail: without a budget, one organization could fill the
    database. Successes take at most half of it, so that they leave room for failures, which people look for.
    """

    def __init__(self, clock: Clock, bytes_per_hour: int, workers: Callable[[], int]) -> None:
        """`workers` returns how many workers share the budget, this one included."""
        self._clock = clock
        self._bytes_per_hour = bytes_per_hour
        self._workers = workers
        self._hour = 0
        self._used: dict[int, int] = {}
        """Bytes used in this hour, by organization."""

    def encode(self, organization: int, number: int, outcome: Outcome, next_attempt_at: int) -> bytes:
        """Return the details of an attempt in their stored form; b"" if they are not kept.

        `number` is that of the attempt in its delivery, `next_attempt_at` is 0 if no attempt follows.
        """
        trace = shown_trace(outcome)
        if trace is None:
            return b""
        hour = self._clock.now() // _HOUR_MS
        if hour != self._hour:
            self._hour = hour
            self._used.clear()
        budget = self._bytes_per_hour // self._workers()
        if not outcome.error:
            budget //= 2
        used = self._used.get(organization, 0)
        # Encoding takes longer than everything else here: it is not done in vain for each attempt of the hour.
        if used >= budget:
            return b""
        is_between = number > 1 and next_attempt_at > 0
        detail = encode_detail(trace, next_attempt_at, body_bytes=SHORT_BODY_BYTES if is_between else None)
        # Details that do not fit end the budget: what they leave is not worth encoding every later attempt.
        self._used[organization] = min(budget, used + len(detail))
        return detail if used + len(detail) <= budget else b""


T = TypeVar("T")

PAGE_BYTES: Final = 1 << 20
"""The largest page of the log that a lane reads."""
_ROW_BYTES: Final = 1_024


class LimitedReads:
    """Reads of lanes, a few at once in the order of the requests, so that thousands of lanes do not delay others.

    A message that is published to hundreds of lanes, or a restart, lets all of them read. The reads of SQLite let
    nothing else run, so there is a pause after each. Both methods raise Unavailable, as those of the store do.
    """

    def __init__(self, store: Store, slots: asyncio.Semaphore | None = None) -> None:
        """`slots` are shared with other reads: all of them take turns."""
        self._store = store
        self.slots = slots or asyncio.Semaphore(store.engine.concurrency.lane_reads)

    async def read(self, work: Work[T]) -> T:
        async with self.slots:
            # The store does not report it: only the lane knows which queue is damaged.
            found = await self._store.engine.read(work)
            await asyncio.sleep(0)
            return found

    async def page(self, queue: QueueKey, after: int, rows: int, max_bytes: Callable[[], int]) -> LogPage:
        """Read a page of the log. `max_bytes` returns its size when the read begins."""
        async with self.slots:
            size = max_bytes()
            # Limits the rows as well: small messages take more memory than the bytes of their bodies.
            page = await self._store.page(*queue, after, min(rows, 1 + size // _ROW_BYTES), max_bytes=size)
            await asyncio.sleep(0)
            return page


class ReservedReads(LimitedReads):
    """Reads of replays, with a reservation. Live lanes need none: see docs/architecture/event-loop-limits.md."""

    def __init__(self, store: Store, organization: int, slots: asyncio.Semaphore) -> None:
        super().__init__(store, slots)
        self._ledger = store.ledger
        self._organization = organization

    async def page(self, queue: QueueKey, after: int, rows: int, max_bytes: Callable[[], int]) -> LogPage:
        reservation = await self._ledger.reserve(self._organization, ReadBound(rows, PAGE_BYTES))
        try:
            return await super().page(queue, after, rows, max_bytes)
        finally:
            # The lane examines the messages in this step of the event loop, which is part of the read.
            asyncio.get_running_loop().call_soon(reservation.release)
