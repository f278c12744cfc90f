"""Group commit: what waits while one commit runs goes into the next, and is answered when that is durable."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import repeat
from typing import Any, Final, Generic, Protocol, TypeVar, TypeVarTuple, cast

import msgspec

from discue.domain.errors import StoreUnavailable
from discue.observability.metrics import Histogram
from discue.store.engine import Append, Batch, BatchOutcome, Engine, Settle, TopicAppend, Work

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
A = TypeVar("A", Append, TopicAppend)

APPEND_ROWS: Final = 512
"""The largest number of messages in one commit, unless a single append has more."""
APPEND_BYTES: Final = 1 << 20
"""The largest size of their bodies in one commit, unless a single append has more."""

_SETTLE_ROWS: Final = 1_024
_SETTLE_BYTES: Final = 1 << 20
_TOLD_PER_TURN: Final = 64
"""How many sources get their result before other work on the event loop runs."""
_LAST_COMMIT_WEIGHT: Final = 0.5

_ROW_COST: Final = APPEND_BYTES // APPEND_ROWS
"""The bytes that take about as long to store as the rest of a row."""

COMMIT_COST: Final = APPEND_BYTES
"""The cost of appends that fill a commit."""

_Waiting = deque[tuple[T, "asyncio.Future[Any]"]]
_Taken = list[tuple[T, "asyncio.Future[Any]"]]


class CommitTime:
    """An estimate of how long a commit takes: a moving average of commits that run one after another."""

    __slots__ = ("_average", "_monotonic", "_started_at")

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._average = 0.0
        self._started_at: float | None = None

    def begin(self) -> None:
        """Note that a commit begins."""
        self._started_at = self._monotonic()

    def end(self) -> float:
        """Note that the commit has ended, successfully or not. Returns how many seconds it took."""
        if self._started_at is None:
            return 0.0
        seconds = self._monotonic() - self._started_at
        self._average += (seconds - self._average) * _LAST_COMMIT_WEIGHT
        self._started_at = None
        return seconds

    def seconds(self, commits: int) -> float:
        """Estimate when that many commits have ended that have not begun.

        A commit that is running may take as long again as it has taken, and so may each after it.
        """
        # A running commit counts before it ends: otherwise a stalled disk would be noticed only after the stall.
        each = self._average if self._started_at is None else max(self._average, self._monotonic() - self._started_at)
        return each * (commits + (self._started_at is not None))


class WaitingAppends(msgspec.Struct, gc=False):
    """The size of the appends of an organization that wait for a commit."""

    organization: int
    rows: int = 0
    bytes: int = 0
    cost: int = 0
    """The parts of commits that they take, in units of COMMIT_COST."""


class Sized(msgspec.Struct, Generic[A], frozen=True, gc=False):
    """An append that waits, and its size, which takes long to compute for many messages."""

    append: A
    rows: int
    bytes: int
    cost: int
    """The part of a commit that it takes, in units of COMMIT_COST: at most one commit."""
    own: WaitingAppends
    """The count of its organization, which it is part of."""

    @classmethod
    def of(cls, append: A, own: WaitingAppends) -> "Sized[A]":
        rows, size = append.rows, append.bytes
        cost = rows * _ROW_COST
        if size > cost:
            cost = size
        return cls(append, rows, size, min(cost, COMMIT_COST), own)


class FairQueue(Generic[A]):
    """Appends that wait, in an order that is fair between organizations: those of one come in the order of arrival.

    Start-time fair queueing (Goyal, Vin and Cheng, 1996): an append starts when the previous one of its organization
    has ended, or at the time of the append that was taken last, and ends after its cost. The earliest start is next.
    So an organization with few appends waits behind at most one of another organization's, whatever waits there.
    """

    __slots__ = ("_arrived", "_ends", "_heap", "_now")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Sized[A], asyncio.Future[Any]]] = []
        self._ends: dict[int, int] = {}
        self._now = 0
        self._arrived = 0

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[tuple[Sized[A], "asyncio.Future[Any]"]]:
        return ((item, future) for _, _, item, future in self._heap)

    def append(self, waiting: "tuple[Sized[A], asyncio.Future[Any]]") -> None:
        item, future = waiting
        organization = item.own.organization
        start = self._ends.get(organization, 0)
        if start < self._now:
            start = self._now
        self._ends[organization] = start + item.bytes + item.rows * _ROW_COST
        self._arrived += 1
        heappush(self._heap, (start, self._arrived, item, future))

    def first(self) -> Sized[A]:
        """Return the append that is next."""
        return self._heap[0][2]

    def popleft(self) -> tuple[Sized[A], "asyncio.Future[Any]"]:
        start, _, item, future = heappop(self._heap)
        self._now = start
        if not self._heap:
            self.clear()
        return item, future

    def clear(self) -> None:
        # No caller waits, so no caller has a share to catch up on.
        self._heap.clear()
        self._ends.clear()
        self._now = 0


SettleResult = bool | Exception
"""Whether the cursor had the expected token and version, or the error because of which nothing was stored."""


class SettleSource(Protocol):
    """Provides changes of a cursor to store. They are determined when their commit begins."""

    def take(self) -> Settle | None:
        """Return all changes so far; None if nothing is left to store."""

    def on_result(self, result: SettleResult) -> None:
        """Handle the result of a commit. May get an exception before `take` was called."""


class GivenSettle:
    """A settle that a caller has made, and waits for."""

    __slots__ = ("_future", "_settle")

    def __init__(self, settle: Settle, future: "asyncio.Future[bool]") -> None:
        self._settle = settle
        self._future = future

    def take(self) -> Settle:
        return self._settle

    def on_result(self, result: SettleResult) -> None:
        resolve(self._future, result)


class GroupCommit:
    """A sequence of commits, one at a time. Its callers limit what waits."""

    def __init__(
        self,
        engine: Engine,
        tally_slot: Callable[[], int],
        commit_time: CommitTime,
        *,
        seconds: Histogram,
        parts: Histogram,
        works_at_once: int,
        on_taken: Callable[[Sequence[Sized[Any]]], None],
        on_end: Callable[[Batch, BatchOutcome | None], None],
    ) -> None:
        """`seconds` and `parts` measure each commit. `on_taken` gets appends that no longer wait.

        `on_end` gets a durable batch after its callers were answered, or a batch and None if all of it failed.
        """
        self._engine = engine
        self._on_taken = on_taken
        self._on_end = on_end
        self._tally_slot = tally_slot
        self.commit_time = commit_time
        self._seconds = seconds
        self._parts = parts
        self._works_at_once = works_at_once
        self.appends: FairQueue[Append] = FairQueue()
        self.topic_appends: FairQueue[TopicAppend] = FairQueue()
        self.settles: deque[SettleSource] = deque()
        self.works: _Waiting[Work[Any]] = deque()
        self.running: asyncio.Task[None] | None = None
        """The task that commits, while anything waits or is being committed."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._to_tell: deque[tuple[SettleSource, SettleResult]] = deque()
        """Results of finished commits that their sources get in the next turns."""

    @property
    def is_busy(self) -> bool:
        """Whether anything is being committed, or waits for that or for the result."""
        return self.running is not None or bool(self._to_tell)

    def add(self, waiting: "_Waiting[Any] | FairQueue[Any]", item: Any) -> "asyncio.Future[Any]":
        """Let an item wait for a commit, in the queue of its kind, and return its result."""
        future: asyncio.Future[Any] = self._running_loop().create_future()
        waiting.append((item, future))
        self._start()
        return future

    def add_settle(self, source: SettleSource) -> None:
        """Let a source wait for a commit."""
        self.settles.append(source)
        self._start()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        # Asking for the running loop costs a system call on Python 3.11, and a store uses one loop only.
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        return loop

    def _start(self) -> None:
        if self.running is None:
            self.running = self._running_loop().create_task(self._commit_all())

    async def _commit_all(self) -> None:
        try:
            # One commit at a time: all that arrives meanwhile shares the next fsync.
            while self.appends or self.settles or self.works or self.topic_appends:
                await self._commit_next()
        finally:
            self.running = None

    async def _commit_next(self) -> None:
        appends = self._take_appends(self.appends) if self.appends else []
        sources, settles = self._take_settles()
        works = [self.works.popleft() for _ in range(min(self._works_at_once, len(self.works)))]
        topic_appends = self._take_appends(self.topic_appends) if self.topic_appends else []
        batch = Batch(
            [append for append, _ in appends],
            settles,
            [work for work, _ in works],
            self._tally_slot(),
            [append for append, _ in topic_appends],
        )
        futures = [future for _, future in (*appends, *works, *topic_appends)]
        if not (futures or sources):
            return
        self.commit_time.begin()
        try:
            outcome = await self._engine.commit(batch)
        except Exception as error:  # It is the result of every part
            self._on_end(batch, None)
            for future in futures:
                resolve(future, error)
            self._tell(sources, repeat(error))
            if isinstance(error, StoreUnavailable):
                self._refuse_waiting()
            return
        finally:
            self._seconds.observe(self.commit_time.end())
            self._parts.observe(len(futures) + len(sources))
        # Callers are answered first: what follows for lanes takes longer.
        results = (*outcome.appends, *outcome.works, *outcome.topic_appends)
        for future, result in zip(futures, results, strict=True):
            resolve(future, result)
        try:
            self._on_end(batch, outcome)
        finally:
            self._tell(sources, outcome.settles)

    def _tell(self, sources: Sequence[SettleSource], results: Iterable[SettleResult]) -> None:
        """Tell sources their results: 64 in a turn, because each starts what waited for it."""
        is_telling = bool(self._to_tell)
        self._to_tell.extend(zip(sources, results, strict=False))
        if not is_telling:
            self._tell_some()

    def _tell_some(self) -> None:
        for _ in range(min(_TOLD_PER_TURN, len(self._to_tell))):
            source, result = self._to_tell.popleft()
            call_apart(source.on_result, result)
        if self._to_tell:
            self._running_loop().call_soon(self._tell_some)

    def _refuse_waiting(self) -> None:
        """Fail what waits: each batch would only fail in turn, and callers that learn it now can retry earlier."""
        error = StoreUnavailable(code="not_stored")
        self._on_taken([item for item, _ in (*self.appends, *self.topic_appends)])
        for waiting in (self.appends, self.works, self.topic_appends):
            for _, future in cast("_Waiting[Any]", waiting):
                resolve(future, error)
            waiting.clear()
        sources = tuple(self.settles)
        self.settles.clear()
        self._tell(sources, repeat(error))

    def _take_appends(self, waiting: FairQueue[A]) -> "_Taken[A]":
        """Take the next appends, at least one, up to the limits of a commit."""
        items: list[Sized[A]] = []
        taken: _Taken[A] = []
        rows = size = 0
        while waiting:
            item = waiting.first()
            rows += item.rows
            size += item.bytes
            # An append that is larger than a commit goes alone.
            if taken and (rows > APPEND_ROWS or size > APPEND_BYTES):
                break
            item, future = waiting.popleft()
            items.append(item)
            taken.append((item.append, future))
        self._on_taken(items)
        return taken

    def _take_settles(self) -> tuple[list[SettleSource], list[Settle]]:
        """Take settles until they reach a limit of a commit. Returns their sources, too."""
        sources: list[SettleSource] = []
        settles: list[Settle] = []
        rows = size = 0
        waiting = self.settles
        while waiting and rows < _SETTLE_ROWS and size < _SETTLE_BYTES:
            source = waiting.popleft()
            try:
                settle = source.take()
            except Exception as error:  # It is that source's result
                call_apart(source.on_result, error)
                continue
            if settle is not None:
                # A settle without attempts moves a cursor, which is a row as well.
                rows += len(settle.attempts) + 1
                size += settle.bytes
                sources.append(source)
                settles.append(settle)
        return sources, settles


def call_apart(function: Callable[[*Ts], None], *arguments: *Ts) -> None:
    """Call a function, and hand its failure to the event loop's handler instead of the caller."""
    try:
        function(*arguments)
    except Exception as error:  # Handed to the loop's handler
        context = {"message": "a callback failed", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)


def resolve(future: "asyncio.Future[Any]", result: object) -> None:
    """Answer a caller with a result or an exception, unless it has gone: what was committed stands."""
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
