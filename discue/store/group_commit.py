"""Group commit: what waits while one commit runs goes into the next, and is answered when that is durable."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

from discue.domain.errors import StoreUnavailable
from discue.store.engine import Append, Batch, BatchOutcome, Engine, Settle, TopicAppend, Work

_SHARE = 0.5
"""How much the last commit counts beside those before it."""


class CommitTime:
    """Of commits one after another. `monotonic` is in seconds."""

    __slots__ = ("_began", "_monotonic", "_usual")

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._usual = 0.0
        self._began: float | None = None

    def begin(self) -> None:
        """A commit begins."""
        self._began = self._monotonic()

    def end(self) -> None:
        """It has ended, well or not."""
        if self._began is not None:
            self._usual += (self._monotonic() - self._began - self._usual) * _SHARE
            self._began = None

    def seconds(self, commits: int) -> float:
        """Until so many commits have ended that have not begun. The one under way may take as long again as it has
        taken, and those after it no less."""
        each = self._usual if self._began is None else max(self._usual, self._monotonic() - self._began)
        return each * (commits + (self._began is not None))


T = TypeVar("T")

APPEND_ROWS = 512
APPEND_BYTES = 1 << 20
"""At most so much is appended in one commit."""

_SETTLE_ROWS = 1_024
_SETTLE_BYTES = 1 << 20

_Waiting = deque[tuple[T, "asyncio.Future[Any]"]]


class CommitObserver(Protocol):
    """Who hears of what a stream commits."""

    def taken(self, rows: int, size: int) -> None:
        """So many rows and bytes of appends do not wait any more."""
        ...

    def succeeded(self, outcome: BatchOutcome) -> None:
        """A batch is durable, and its callers have their answers."""
        ...

    def failed(self) -> None:
        """A whole batch could not be committed."""
        ...


class GroupCommit:
    """One commit after another. What waits is bounded by whoever hands it in."""

    def __init__(
        self,
        engine: Engine,
        committed: CommitObserver,
        tally_slot: Callable[[], int],
        commit_time: CommitTime,
        *,
        works_at_once: int,
    ) -> None:
        self._engine = engine
        self._tally_slot = tally_slot
        self.commit_time = commit_time
        self._works_at_once = works_at_once
        self._committed = committed
        self._appends: _Waiting[Append] = deque()
        self._routed: _Waiting[TopicAppend] = deque()
        self._settles: _Waiting[Settle] = deque()
        self._works: _Waiting[Work[Any]] = deque()
        self._running: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def running(self) -> asyncio.Task[None] | None:
        """What commits, while anything waits or is under way."""
        return self._running

    def append(self, append: Append) -> "asyncio.Future[Any]":
        return self._wait(self._appends, append)

    def route(self, routed: TopicAppend) -> "asyncio.Future[Any]":
        return self._wait(self._routed, routed)

    def settle(self, settle: Settle) -> "asyncio.Future[Any]":
        return self._wait(self._settles, settle)

    def work(self, work: Work[Any]) -> "asyncio.Future[Any]":
        return self._wait(self._works, work)

    def _wait(self, waiting: "_Waiting[Any]", item: object) -> "asyncio.Future[Any]":
        # Asking for the running loop costs a system call on Python 3.11, and a store lives on one loop only.
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        waiting.append((item, future))
        if self._running is None:
            self._running = loop.create_task(self._commit_all())
        return future

    async def _commit_all(self) -> None:
        try:
            while self._appends or self._settles or self._works or self._routed:
                await self._commit_next()
        finally:
            self._running = None

    async def _commit_next(self) -> None:
        appends = self._take_appends()
        settles = self._take_settles()
        works = _take(self._works, self._works_at_once, lambda _: 1)
        routed = self._take_routed() if self._routed else []
        slot = self._tally_slot()
        batch = Batch(
            [a for a, _ in appends], [s for s, _ in settles], [w for w, _ in works], slot, [r for r, _ in routed]
        )
        futures = [future for _, future in (*appends, *settles, *works, *routed)]
        self.commit_time.begin()
        try:
            outcome = await self._engine.commit(batch)
        except Exception as error:  # noqa: BLE001 - it is the answer of everything in the batch
            self._committed.failed()
            for future in futures:
                _resolve(future, error)
            if isinstance(error, StoreUnavailable):
                self._refuse_waiting(error)
            return
        finally:
            self.commit_time.end()
        answers = (*outcome.appends, *outcome.settles, *outcome.works, *outcome.routed)
        for future, answer in zip(futures, answers, strict=True):
            _resolve(future, answer)
        self._committed.succeeded(outcome)

    def _refuse_waiting(self, error: StoreUnavailable) -> None:
        """What waits would meet the same, one batch after another: its callers hear of it now, and may try again."""
        rows = sum(len(a.entries) for a, _ in self._appends) + sum(r.rows for r, _ in self._routed)
        size = sum(a.bytes for a, _ in self._appends) + sum(r.bytes for r, _ in self._routed)
        self._committed.taken(rows, size)
        for waiting in (self._appends, self._settles, self._works, self._routed):
            for _, future in cast("_Waiting[Any]", waiting):
                _resolve(future, error)
            waiting.clear()

    def _take_appends(self) -> "list[tuple[Append, asyncio.Future[Any]]]":
        taken: list[tuple[Append, asyncio.Future[Any]]] = []
        rows = size = 0
        waiting = self._appends
        while waiting:
            append = waiting[0][0]
            more_rows, more_bytes = len(append.entries), append.bytes
            if taken and (rows + more_rows > APPEND_ROWS or size + more_bytes > APPEND_BYTES):
                break
            rows += more_rows
            size += more_bytes
            taken.append(waiting.popleft())
        self._committed.taken(rows, size)
        return taken

    def _take_routed(self) -> "list[tuple[TopicAppend, asyncio.Future[Any]]]":
        taken: list[tuple[TopicAppend, asyncio.Future[Any]]] = []
        rows = size = 0
        waiting = self._routed
        while waiting:
            routed = waiting[0][0]
            more_rows, more_bytes = routed.rows, routed.bytes
            if taken and (rows + more_rows > APPEND_ROWS or size + more_bytes > APPEND_BYTES):
                break
            rows += more_rows
            size += more_bytes
            taken.append(waiting.popleft())
        self._committed.taken(rows, size)
        return taken

    def _take_settles(self) -> "list[tuple[Settle, asyncio.Future[Any]]]":
        taken: list[tuple[Settle, asyncio.Future[Any]]] = []
        rows = size = 0
        waiting = self._settles
        while waiting and rows < _SETTLE_ROWS:
            settle = waiting[0][0]
            size += settle.bytes
            if taken and size > _SETTLE_BYTES:
                break
            rows += len(settle.attempts) + 1
            taken.append(waiting.popleft())
        return taken


def _take(waiting: "_Waiting[T]", limit: int, weight: Callable[[T], int]) -> "list[tuple[T, asyncio.Future[Any]]]":
    taken = []
    total = 0
    while waiting and total < limit:
        item = waiting.popleft()
        total += weight(item[0])
        taken.append(item)
    return taken


def _resolve(future: "asyncio.Future[Any]", answer: object) -> None:
    """The caller may be gone: then nobody waits for the answer, and what was committed stands."""
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
