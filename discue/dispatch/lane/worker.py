"""The context that the parts of a dispatcher share: store, time, numbers, and the memory for message bodies."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from discue.dispatch.lane.breaker import FAILURES_IN_A_ROW, MOST_TRIALS, RETRYING_LIMIT
from discue.dispatch.timers import Sleeper
from discue.domain.clock import Clock
from discue.domain.ids import RowIds
from discue.domain.window import SPAN
from discue.observability.logs import Log
from discue.store.store import Store

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Runs a coroutine as a task of the worker, which logs its failure."""

STARTS_PER_TURN: Final = 8
"""How many requests start before everything else on the event loop has its turn.

A publish takes 6 turns on SQLite and about 15 on PostgreSQL, and a failed attempt half a millisecond. With 4, each
delivery takes a tenth more of the processor; above 8, nothing is gained.
"""


class Tuning(msgspec.Struct, frozen=True):
    """Numbers that are no settings. Tests make them tiny, so that rare paths become common."""

    page_rows: int = 128
    """Messages per read of the log."""
    due_rows: int = 32
    """Retries per read, in addition to those that are claimed."""
    notified_held: int = 256
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


class BodyBudget:
    """How many bytes of message bodies the lanes of a worker hold in memory. Other messages are read again later."""

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
        return self.clock.monotonic() < self.held_until


class WorkerContext(msgspec.Struct, frozen=True):
    """Everything that the parts of a dispatcher share."""

    store: Store
    log: Log
    clock: Clock
    row_ids: RowIds
    random: Callable[[], float]
    """Returns a random number from [0, 1)."""
    session: WorkerSession
    deadline_ms: int
    """How long a message may wait until it is missed."""
    tuning: Tuning
    spawn: Spawn
    wake_at: Callable[[Sleeper, int], None]
    """Wakes a sleeper at a time in milliseconds since the epoch."""

    def time_to_start(self) -> int | None:
        """Return the time, in milliseconds since the epoch; None without the lease."""
        return self.clock.now() if self.session.is_held() else None
