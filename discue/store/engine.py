"""What a database engine promises. Callers see this and never SQLite or PostgreSQL.

SQL is written once, with parameters `$1`, `$2` … numbered in the order of their first appearance:
both engines take that text. What is written here as `async` may suspend on one engine and never
does on the other.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from discue.domain.attempts import Attempt
from discue.domain.messages import Entry

T = TypeVar("T")

Value = int | str | bytes | None
Row = tuple[Any, ...]


class Transaction(Protocol):
    """Statements within one transaction, or one snapshot when it came from `Engine.read`."""

    async def row(self, sql: str, *values: Value) -> Row | None:
        """The first row, or None."""
        ...

    async def rows(self, sql: str, *values: Value) -> list[Row]:
        """Every row: the statement bounds how many."""
        ...

    async def execute(self, sql: str, *values: Value) -> int:
        """How many rows the statement changed."""
        ...

    async def exclusive(self) -> None:
        """From here to the end of the transaction no other exclusive one runs, in whatever process.

        What reads and then writes what it read (the control plane's verbs) begins with this: the engine need
        not serialise transactions otherwise.
        """
        ...


Work = Callable[[Transaction], Awaitable[T]]


class NewEntry(msgspec.Struct, frozen=True, gc=False):
    """A message about to be appended. `alias` is None where none was given, and so is what was not asked for.

    `extra` are its options (`message_options`); a key stands in them, and its hash beside them. So does `due_at`, which
    is there for one that is not to be delivered before. Where `body_id` is given, its body is stored as that one.
    """

    id: str
    is_json: bool
    body: bytes
    alias: str | None = None
    expires_at: int | None = None
    key_hash: int | None = None
    extra: bytes | None = None
    due_at: int | None = None
    body_id: int | None = None


class IdempotencyRecord(msgspec.Struct, frozen=True, gc=False):
    """An idempotency key, as 128 bits of a hash, with what is kept of its first request and of the answer to it.

    The hash has the organization in it: of different keys, also of two organizations, the first halves differ already.
    `id` is a row's, made for this request.
    """

    key: tuple[int, int]
    fingerprint: bytes
    content: bytes
    id: int


class Append(msgspec.Struct, frozen=True):
    """Messages of one queue that are stored together or not at all; with the key `once`, at most once."""

    organization: int
    queue: int
    config_version: int
    now: int
    entries: tuple[NewEntry, ...]
    idempotency_record: IdempotencyRecord | None = None

    @property
    def bytes(self) -> int:
        """Of all bodies."""
        if len(self.entries) == 1:
            return len(self.entries[0].body)
        return sum(len(entry.body) for entry in self.entries)


class Appended(msgspec.Struct, frozen=True):
    """The entries as they stand in the log, consecutive, in the order given."""

    organization: int
    queue: int
    entries: tuple[Entry, ...]


class SharedBody(msgspec.Struct, frozen=True, gc=False):
    """A body that several rows of logs name: so many `uses` it begins with."""

    id: int
    content: bytes
    uses: int


class TopicAppend(msgspec.Struct, frozen=True):
    """Messages of a topic that go into one queue or several: one append for each, in the order of the queues' keys.

    They are stored together or not at all, and only while the topic has this `routes_version`. Only the first append
    may have an idempotency key, which is for all of them. `bodies` are those that entries name.
    """

    organization: int
    topic: int
    routes_version: int
    appends: tuple[Append, ...]
    bodies: tuple[SharedBody, ...] = ()

    @property
    def rows(self) -> int:
        return sum(len(append.entries) for append in self.appends)

    @property
    def bytes(self) -> int:
        """Of all bodies, each once."""
        shared = sum(len(body.content) * (body.uses - 1) for body in self.bodies)
        return self.bytes_in_queues - shared

    @property
    def bytes_in_queues(self) -> int:
        """Of all bodies, each in every queue that it goes into: quotas count so."""
        return sum(append.bytes for append in self.appends)

    @property
    def idempotency_record(self) -> IdempotencyRecord | None:
        return self.appends[0].idempotency_record


class DeliveryRow(msgspec.Struct, frozen=True, gc=False):
    """A delivery that is not simply acknowledged. Of one in the state `sending`, `sender` is the incarnation at it.

    One in the state `leased` was handed to whoever has the `token`, and `due_at` is when its lease ends.

    In an ordered queue it has the `key_hash` of its message, and `blocked` messages of that key, which the cursor has
    passed, wait behind it.
    `redelivered_at` is when it was made due again after it had been missed: once stored, it stays.
    """

    seq: int
    state: str
    attempts: int
    due_at: int
    reason: str
    sender: int | None = None
    key_hash: int | None = None
    blocked: int = 0
    redelivered_at: int | None = None
    token: int | None = None


class MissedRange(msgspec.Struct, frozen=True, gc=False):
    """Consecutive messages missed for one reason, both ends included."""

    seq_from: int
    seq_to: int
    reason: str
    missed_at: int


class RedeliveryStep(msgspec.Struct, frozen=True, gc=False):
    """How far a redelivery has come by this: `redelivered` and `gone` are added to what it has counted.

    It has `ended_at` when nothing is left to do for it. One that was cancelled meanwhile is gone, and stays so.
    """

    redelivery: int
    position: int
    redelivered: int
    gone: int
    now: int
    ended_at: int | None = None


class ReplayStep(msgspec.Struct, frozen=True, gc=False):
    """How far a replay has come by this: `expired` is added to what it has counted.

    Everything else is what its cursor says: what was acknowledged is delivered, and what was missed has failed.
    """

    expired: int
    now: int


Detail = tuple[int, bytes]
"""The id of an attempt, and what is kept of it beside its record, packed."""


class Settle(msgspec.Struct, frozen=True):
    """What happened in one lane since its last settle: absolute values for its cursor, and what came beside them.

    It takes effect whole, and only while the cursor has this `token` and `version`; the cursor then
    has `version + 1`. One that `releases` gives the cursor up in the same commit: it has no owner then, and
    `token + 1`. `unmissed` are the first seqs of missed ranges that are no more. Whatever comes from a replay's cursor
    has its step.
    """

    organization: int
    listener: int
    stream: int
    queue: int
    token: int
    version: int
    position: int
    ahead: bytes | None
    acknowledged: int
    missed: int
    retrying: int
    last_success_at: int
    last_failure_at: int
    attempts: tuple[Attempt, ...] = ()
    delivery_rows: tuple[DeliveryRow, ...] = ()
    resolved: tuple[int, ...] = ()
    missed_ranges: tuple[MissedRange, ...] = ()
    unmissed: tuple[int, ...] = ()
    redelivery: RedeliveryStep | None = None
    replay: ReplayStep | None = None
    details: tuple[Detail, ...] = ()
    releases: bool = False
    last_new_at: int = 0
    """When a new message was last handed out to a consumer that pulls, in milliseconds since the epoch; 0: never."""

    @property
    def bytes(self) -> int:
        """Of all details: the rest is narrow."""
        return sum(len(content) for _, content in self.details) if self.details else 0


class Batch(msgspec.Struct, frozen=True):
    """What one commit carries.

    What appends and settles come to is counted under `tally_slot`: of the commits that run side by side no two share
    one.
    """

    appends: Sequence[Append] = ()
    settles: Sequence[Settle] = ()
    works: Sequence[Work[Any]] = ()
    tally_slot: int = 0
    topic_appends: Sequence[TopicAppend] = ()


class BatchOutcome(msgspec.Struct, frozen=True):
    """One answer for each part of a batch, in its order. An exception stands for a part that changed nothing."""

    appends: Sequence[Appended | Exception]
    settles: Sequence[bool | Exception]
    works: Sequence[Any]
    topic_appends: Sequence[tuple[Appended, ...] | Exception] = ()


class LogPage(msgspec.Struct, frozen=True):
    """A stretch of a queue's log after some seq. Every seq up to `through` that has no entry here was deleted."""

    head: int
    through: int
    entries: tuple[Entry, ...]


QueueKey = tuple[int, int]
"""Organization and queue, by their row ids."""

CursorKey = tuple[int, int, int]
"""Organization, listener and stream."""


class WorkerRow(msgspec.Struct, frozen=True):
    """A worker's row: one run of one process. `remaining_ms` of its lease is by the database's clock.

    A `dead` one may still be named as the owner of cursors. One that `leaves` takes no cursors any more.
    """

    session_id: int
    role: str
    slot: int
    lease_ms: int
    remaining_ms: int
    is_leaving: bool
    dead: bool


class ClusterSnapshot(msgspec.Struct, frozen=True):
    """What a worker looks at once a second, all of one moment.

    `free` are live cursors without an owner, at most 1,000: those of replays go with them. `heads` are those of the
    queues that were asked for. `scheduled_at` is when the first of what waits for its time is due, a message or a
    schedule's run; None for nothing.
    """

    epoch: str
    feed_version: int
    has_jobs: bool
    members: tuple[WorkerRow, ...]
    free: tuple[CursorKey, ...]
    heads: dict[QueueKey, int]
    scheduled_at: int | None = None


class Notification(msgspec.Struct, frozen=True):
    """That something was committed: best effort, to be quick. What matters is found by `Engine.poll`, too.

    `feed`: the control plane changed. `cursors`: some are free, or what another worker had under way has ended.
    `heads`: queues with the last seq that was appended. `anything`: whatever it was, look.
    """

    feed: bool = False
    cursors: bool = False
    heads: tuple[tuple[QueueKey, int], ...] = ()
    anything: bool = False


class CommitConcurrency(msgspec.Struct, frozen=True):
    """How many commits may run side by side. Without `apart`, one commit carries appends, settles and works.

    Appends of one queue, and settles of one listener, always go by the same stream, one commit after another. Where
    they run `apart`, one more work than `works` may run: an urgent one.
    """

    appends: int = 1
    settles: int = 1
    works: int = 1
    apart: bool = False


class Engine(Protocol):
    """A database. Every method raises `errors.StoreUnavailable` when it cannot work at the moment.

    A statement of a `Transaction` that breaks a unique key raises `UniqueViolation`. In SQL, `clock_ms()` is the
    database's own clock in milliseconds: it decides leases, and nothing else.
    """

    concurrency: CommitConcurrency

    async def open(self) -> None:
        """Connect, and bring the schema up to date. Raises `errors.StoreUnusable` with the reason and the way out."""
        ...

    async def close(self) -> None: ...

    async def commit(self, batch: Batch) -> BatchOutcome:
        """Make the batch durable, in one transaction if it can be. Returns when it is.

        An append fails with `StaleConfiguration` when the queue's configuration is not the one it was
        checked against, with `QueueClosed` when the queue was deleted; its neighbours are not touched. What is
        routed fails with `StaleConfiguration` when that is so of any of its queues, or its topic is not as it was.
        A work that raises changes nothing, and its exception is its answer.
        """
        ...

    async def read(self, work: Work[T]) -> T:
        """Run `work` on one snapshot. It changes nothing."""
        ...

    async def page(self, organization: int, queue: int, after: int, rows: int, max_bytes: int) -> LogPage:
        """The log after a seq: at most `rows` entries, cut where their bodies pass `max_bytes` (never before one)."""
        ...

    async def poll(self, queues: Sequence[QueueKey]) -> ClusterSnapshot:
        """Everything that a worker must look at now and then, in one round trip."""
        ...

    def notify(self, hint: Notification) -> None:
        """Let other processes know soon, several hints together. Never waits, never fails."""
        ...

    def listen(self, heard: Callable[[Notification], None], lost: Callable[[], None]) -> None:
        """From now on `heard` is called, on the event loop, with what other processes tell.

        `lost` is called when connections were lost: when the store works again it may be another server, with a
        shorter history. Whatever was read before must then be read again.
        """
        ...


class UniqueViolation(Exception):
    """A row of that key stands already. The transaction that tried changes nothing."""


class AlreadyDone(Exception):
    """The idempotency key was used before: this time nothing changes."""


class StaleConfiguration(Exception):
    """The queue's configuration changed since the messages were checked, or the topic's since they were routed."""


class QueueClosed(Exception):
    """The queue was deleted."""


PULL_OWNER: Final = -1
"""Stands for the owner of a cursor that no lane works on: its messages are pulled, from whatever worker is asked."""
