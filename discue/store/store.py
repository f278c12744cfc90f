"""The database as the rest of the service sees it."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar, cast

from discue.domain.errors import Overloaded
from discue.store import tallies
from discue.store.engine import (
    Append,
    Appended,
    BatchOutcome,
    Engine,
    Notification,
    Settle,
    TopicAppend,
    Transaction,
    Work,
)
from discue.store.group_commit import APPEND_BYTES, APPEND_ROWS, CommitTime, GroupCommit

T = TypeVar("T")

_WAITING_ROWS = 4_096
_LONGEST_WAIT_SECONDS = 0.3
_WORKS_TOGETHER = 32


class Store:
    """Reads go to the engine, writes wait for a shared commit (`stream.Stream`), one of a few side by side.

    Publishes that wait are bounded in rows, in bytes and in the time that commits take lately; the surplus is refused
    with `Overloaded` at once. Cancelling a caller never cancels a commit: its outcome stands.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_waiting_bytes: int,
        worker_slot: Callable[[], int] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`worker_slot`: of all processes that write at the same time this one alone has it."""
        self.engine = engine
        self.read = engine.read
        self.page = engine.page
        self.appended: Callable[[Appended], None] = _nobody_listens
        self.healthy = True
        self.has_other_workers = False
        """Whether other workers have to hear of what this one appends."""
        self.workers = 1
        """How many are on the database, this one included, as far as is known."""
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting_bytes = 0
        self._waiting_rows = 0
        self._monotonic = monotonic
        streams = engine.streams
        # Works that share a transaction share its fsync; those that do not would only wait for each other.
        works = 1 if streams.apart else _WORKS_TOGETHER
        self._worker_slot = worker_slot or _only_worker
        self._append_streams = self._streams(streams.appends, works)
        self._rows_together = APPEND_ROWS * streams.appends
        self._bytes_together = APPEND_BYTES * streams.appends
        self._settle_streams = self._work_streams = self._append_streams
        if streams.apart:
            self._settle_streams = self._streams(streams.settles, works)
            self._work_streams = self._streams(streams.works, works)
        self._urgent_stream = self._streams(1, works)[0] if streams.apart else self._append_streams[0]
        self._works_begun = 0

    async def append(self, append: Append) -> Appended:
        """Store messages of one queue. Raises `Overloaded`, `StoreUnavailable`, `StaleConfiguration`, `QueueClosed`."""
        size = append.bytes
        self.check_capacity(size)
        self._waiting_bytes += size
        self._waiting_rows += len(append.entries)
        return cast("Appended", await self._by_key(self._append_streams, append.queue).append(append))

    async def route(self, routed: TopicAppend) -> tuple[Appended, ...]:
        """Store messages of a topic in all of its queues. Raises `Overloaded`, `StoreUnavailable`, `AlreadyDone`, and
        `StaleConfiguration` when the topic or one of the queues is not as it was."""
        size = routed.bytes
        self.check_capacity(size)
        self._waiting_bytes += size
        self._waiting_rows += routed.rows
        stream = self._by_key(self._append_streams, routed.topic)
        return cast("tuple[Appended, ...]", await stream.route(routed))

    def check_capacity(self, size: int = 0) -> None:
        """Raises `Overloaded` when so many bytes more are too much: to say so before they are read costs little."""
        rows, waiting = self._waiting_rows, self._waiting_bytes
        if rows >= _WAITING_ROWS or waiting + size > self._max_waiting_bytes:
            raise Overloaded
        # What goes into the next commit is never too much: only commits tell how long they take.
        if rows >= self._rows_together or waiting >= self._bytes_together:
            self._check_wait(max(rows // self._rows_together, waiting // self._bytes_together))

    def _check_wait(self, commits: int) -> None:
        if min(stream.commit_time.seconds(commits) for stream in self._append_streams) > _LONGEST_WAIT_SECONDS:
            raise Overloaded

    async def settle(self, settle: Settle) -> bool:
        """Whether the cursor was still at the token and version given, so that all of it was stored."""
        return cast("bool", await self._by_key(self._settle_streams, settle.listener).settle(settle))

    async def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction. What it raises is raised here, and then it changed nothing."""
        self._works_begun += 1
        return cast("T", await self._by_key(self._work_streams, self._works_begun << 22).work(work))

    async def write_urgently(self, work: Work[T]) -> T:
        """The same, behind no other work: those may wait for a lock that a process holds which stands still."""
        return cast("T", await self._urgent_stream.work(work))

    async def write_exclusively(self, work: Work[T]) -> T:
        """The same, with no other exclusive write between what it reads and what it writes, in whatever process."""
        return await self.write(lambda tx: _alone(tx, work))

    async def try_again(self) -> None:
        """After a failure, see whether the store takes writes again: by one that changes nothing."""
        if not self.healthy:
            await self.write(_touch)

    @property
    def commits(self) -> set[asyncio.Task[None]]:
        """What commits at the moment."""
        streams = (*self._append_streams, *self._settle_streams, *self._work_streams, self._urgent_stream)
        return {stream.running for stream in streams if stream.running is not None}

    def taken(self, rows: int, size: int) -> None:
        self._waiting_rows -= rows
        self._waiting_bytes -= size

    def failed(self) -> None:
        self.healthy = False

    def succeeded(self, outcome: BatchOutcome) -> None:
        self.healthy = True
        appended = [answer for answer in outcome.appends if isinstance(answer, Appended)]
        for answers in outcome.routed:
            if not isinstance(answers, Exception):
                appended += answers
        for each in appended:
            self._tell(each)
        if appended and self.has_other_workers:
            heads = tuple(((each.organization, each.queue), each.entries[-1].seq) for each in appended)
            self.engine.notify(Notification(heads=heads))

    def _streams(self, count: int, works_at_once: int) -> list[GroupCommit]:
        slots = [self._tally_slot(number) for number in range(count)]
        return [
            GroupCommit(self.engine, self, slot, CommitTime(self._monotonic), works_at_once=works_at_once)
            for slot in slots
        ]

    def _tally_slot(self, stream: int) -> Callable[[], int]:
        return lambda: tallies.slot_of(self._worker_slot(), stream)

    def _by_key(self, streams: list[GroupCommit], key: int) -> GroupCommit:
        # The low bits of a row id say which worker made it, not which row it is.
        return streams[(key >> 22) % len(streams)] if len(streams) > 1 else streams[0]

    def _tell(self, appended: Appended) -> None:
        """Whatever goes wrong with delivering, those who published hear what became of it."""
        try:
            self.appended(appended)
        except Exception as error:  # noqa: BLE001 - handed to the loop's handler, which logs it
            context = {"message": "messages were stored, and their lanes failed to take them", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)


async def _alone(tx: Transaction, work: Work[T]) -> T:
    await tx.exclusive()
    return await work(tx)


async def _touch(tx: Transaction) -> None:
    # An empty transaction would succeed on a full disk, and so does an update that changes no byte: SQLite then
    # writes nothing. This one writes a page.
    await tx.execute("INSERT INTO feed_head (shard, version) VALUES (-1, 0)")
    await tx.execute("DELETE FROM feed_head WHERE shard = -1")


def _only_worker() -> int:
    return 0


def _nobody_listens(_appended: Appended) -> None:
    """No lanes run in this process: they find the messages in the log."""
