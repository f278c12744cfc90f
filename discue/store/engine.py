"""The contract of a database engine. Callers see this, and never SQLite or PostgreSQL.

SQL is written once, with parameters `$1`, `$2` … numbered in the order of their first appearance: both engines accept
it. A method that is `async` here may suspend on one engine and never does on the other.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from discue.domain.attempts import Attempt
from discue.domain.causes import Cause
from discue.domain.message_data import Codec
from discue.domain.messages import Entry

T = TypeVar("T")

Value = int | str | bytes | None
Row = tuple[Any, ...]


class Transaction(Protocol):
    """Statements of one transaction, or of one snapshot if it came from `Engine.read`."""

    heads: "dict[QueueKey, int]"
    """The queues to which a work has appended messages, with their last seqs. They are announced after the commit."""

    inline_bytes: int
    """A body that is longer than this is stored in the table `body`."""

    has_intake: bool
    """Whether applications can publish in their own transactions: `discue.store.intake`."""

    async def row(self, sql: str, *values: Value) -> Row | None:
        """Return the first row, or None."""

    async def rows(self, sql: str, *values: Value) -> list[Row]:
        """Return all rows. The statement limits how many there can be."""

    async def execute(self, sql: str, *values: Value) -> int:
        """Run a statement, and return how many rows it changed."""

    async def exclusive(self) -> None:
        """Wait until no other exclusive transaction runs in any process, and keep them out until this one ends.

        Transactions that write what follows from what they read (those of the control plane) begin with this: an engine
        need not serialize transactions otherwise.
        """

    async def end_sessions(self, session_id: int) -> None:
        """End the connections of a worker whose lease is over, as `begin_session` has named them.

        Otherwise a worker that hangs could keep the locks of a transaction that it has begun.
        """


Work = Callable[[Transaction], Awaitable[T]]


class NewEntry(msgspec.Struct, frozen=True, gc=False):
    """A message to append. Optional fields are None unless the request has them."""

    id: str
    codec: Codec
    body: bytes
    alias: str | None = None
    expires_at: int | None = None
    key_hash: int | None = None
    extra: bytes | None = None
    """The encoded options (`domain.messages`), which include the key whose hash is `key_hash`."""
    due_at: int | None = None
    """When a delayed message is due, in milliseconds since the epoch."""
    body_id: int | None = None
    """The `SharedBody` of the same append that has this one's bytes."""

    @property
    def size(self) -> int:
        """The size of body and options, which quotas count."""
        return len(self.body) if self.extra is None else len(self.body) + len(self.extra)


_HASH_BYTES: Final = 48


class IdempotencyRecord(msgspec.Struct, frozen=True, gc=False):
    """An idempotency key, and what its response can be repeated from."""

    key: tuple[int, int]
    """Two halves of a 128-bit hash that includes the organization. The first halves of different keys differ."""
    fingerprint: bytes
    content: bytes
    """The encoded response."""
    id: int
    """A row id for this request."""

    @property
    def size(self) -> int:
        """The approximate number of stored bytes: the hashes and the content."""
        return _HASH_BYTES + len(self.content)


class Append(msgspec.Struct, frozen=True):
    """Messages of one queue, stored together or not at all; with an idempotency record, at most once."""

    organization: int
    queue: int
    config_version: int
    now: int
    entries: tuple[NewEntry, ...]
    idempotency_record: IdempotencyRecord | None = None

    @property
    def rows(self) -> int:
        return len(self.entries)

    @property
    def bytes(self) -> int:
        """The size of all messages."""
        if len(self.entries) == 1:
            return self.entries[0].size
        return sum(entry.size for entry in self.entries)


class Appended(msgspec.Struct, frozen=True):
    """The messages as they are in the log, with consecutive seqs in the given order."""

    organization: int
    queue: int
    entries: tuple[Entry, ...]


class SharedBody(msgspec.Struct, frozen=True, gc=False):
    """A body that several rows of logs refer to."""

    id: int
    """A row id. SQLite assigns its own id to the body."""
    content: bytes
    uses: int
    """The number of these rows."""


class TopicAppend(msgspec.Struct, frozen=True):
    """Messages of a topic, with one append per queue in the order of the queues' keys.

    They are stored together or not at all, and only while the topic has this `routes_version`.
    """

    organization: int
    topic: int
    routes_version: int
    appends: tuple[Append, ...]
    """Only the first may have an idempotency record, which then holds for all."""
    bodies: tuple[SharedBody, ...] = ()
    """The shared bodies that messages refer to."""

    @property
    def rows(self) -> int:
        """The number of messages in all queues."""
        return sum(len(append.entries) for append in self.appends)

    @property
    def bytes(self) -> int:
        """The size of all messages, counting a shared body once."""
        shared = sum(len(body.content) * (body.uses - 1) for body in self.bodies)
        return self.bytes_in_queues - shared

    @property
    def bytes_in_queues(self) -> int:
        """The size of all messages, counting a shared body in each queue, as quotas do."""
        return sum(append.bytes for append in self.appends)

    @property
    def idempotency_record(self) -> IdempotencyRecord | None:
        return self.appends[0].idempotency_record


class DeliveryRow(msgspec.Struct, frozen=True, gc=False):
    """The state of one delivery that is not simply acknowledged. The table is `delivery`."""

    seq: int
    state: str
    """`retry`, `sending`, `ended`, `leased` or `missed`."""
    attempts: int
    due_at: int
    """Milliseconds since the epoch: of a lease, its end; of a missed delivery, when it was missed."""
    reason: str
    sender: int | None = None
    """The session of the worker whose request is in flight, in the state `sending`."""
    key_hash: int | None = None
    """In an ordered queue, the hash of the message's key."""
    blocked: int = 0
    """In an ordered queue, how many messages of the key, which the cursor has passed, wait for this one."""
    redelivered_at: int | None = None
    """When it was last made due again after it had been missed; None keeps the stored value."""
    token: int | None = None
    """The token of the consumer that leased it, in the state `leased`."""
    cause: int | None = None
    """The id of the cause of a missed delivery; None keeps the stored value."""


class MissedRange(msgspec.Struct, frozen=True, gc=False):
    """Consecutive messages that were missed for one reason, both ends included."""

    seq_from: int
    seq_to: int
    reason: str
    missed_at: int
    missed_version: int | None = None
    """The version of the cursor when they were missed; None for that of the settle."""


class RedeliveryStep(msgspec.Struct, frozen=True, gc=False):
    """Progress of a redelivery. A redelivery that was cancelled meanwhile stays deleted."""

    redelivery: int
    position: int
    redelivered: int
    """Added to the stored count."""
    gone: int
    """The number of deleted messages, added to the stored count."""
    now: int
    ended_at: int | None = None
    """Set when nothing is left to redeliver, or when the trial failed."""
    trying_seq: int = 0
    """The seq of the trial's message that becomes due with this step; 0: none."""
    tried: int = 0
    """Number of acknowledged trial messages to add to the stored count."""
    stopped_by: str = ""
    """The cause of the failure that ended a trial, as JSON."""


class ReplayStep(msgspec.Struct, frozen=True, gc=False):
    """Progress of a replay, in addition to its cursor, which counts what was delivered and what has failed."""

    expired: int
    """Added to the stored count, like `filtered`."""
    filtered: int
    now: int


Detail = tuple[int, bytes]
"""An attempt's id, and its packed details."""


class NewMisses(msgspec.Struct, frozen=True, gc=False):
    """The deliveries of a listener that were missed since its last settle."""

    since: int
    """When the first one was missed, in milliseconds since the epoch."""
    count: int
    by_reason: dict[str, int]


class Settle(msgspec.Struct, frozen=True):
    """The results of one lane since its last settle: absolute values for its cursor, and other rows.

    It is applied as a whole, and only while the cursor has this `token` and `version`; then the cursor has `version +
    1`.
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
    """Rows to store; of several with one seq the last wins."""
    resolved: tuple[int, ...] = ()
    """The seqs of delivery rows to delete."""
    missed_ranges: tuple[MissedRange, ...] = ()
    causes: tuple[Cause, ...] = ()
    """The causes with a response of the deliveries that became missed."""
    new_misses: NewMisses | None = None
    """For the system event; None if nothing was missed, and for a replay."""
    unmissed: tuple[int, ...] = ()
    """The first seqs of missed ranges to delete."""
    redelivery: RedeliveryStep | None = None
    replay: ReplayStep | None = None
    """Set on each settle of a replay's cursor."""
    details: tuple[Detail, ...] = ()
    releases: bool = False
    """Whether the cursor is released in the same commit: it then has no owner and `token + 1`."""
    last_new_at: int = 0
    """When a new message was last handed out to a consumer that pulls, in milliseconds since the epoch; 0: never."""

    @property
    def bytes(self) -> int:
        """The size of all details. Everything else is small."""
        return sum(len(content) for _, content in self.details) if self.details else 0


class Batch(msgspec.Struct, frozen=True):
    """The content of one commit."""

    appends: Sequence[Append] = ()
    settles: Sequence[Settle] = ()
    works: Sequence[Work[Any]] = ()
    tally_slot: int = 0
    """Appends and settles are counted in this slot. No two commits that run concurrently share one."""
    topic_appends: Sequence[TopicAppend] = ()


class BatchOutcome(msgspec.Struct, frozen=True):
    """The results of a batch: one per part, in its order. A part whose result is an exception changed nothing."""

    appends: Sequence[Appended | Exception]
    settles: Sequence[bool | Exception]
    works: Sequence[Any]
    topic_appends: Sequence[tuple[Appended, ...] | Exception] = ()
    heads: "Mapping[QueueKey, int]" = msgspec.field(default_factory=dict)
    """The queues to which works have appended messages, with their last seqs."""


class LogPage(msgspec.Struct, frozen=True):
    """A section of a queue's log after some seq."""

    head: int
    through: int
    """Every seq up to this one that has no entry in the page was deleted."""
    entries: tuple[Entry, ...]


QueueKey = tuple[int, int]
"""Organization and queue, by row ids."""

CursorKey = tuple[int, int, int]
"""Organization, listener and stream."""


class WorkerRow(msgspec.Struct, frozen=True):
    """A worker: one run of one process."""

    session_id: int
    role: str
    slot: int
    lease_ms: int
    remaining_ms: int
    """The rest of its lease, by the database's clock."""
    is_leaving: bool
    """Whether it claims no more cursors."""
    dead: bool
    """Whether it was declared dead. It may still be the owner of cursors."""


FREE_IN_SNAPSHOT: Final = 3_000
"""The largest number of free cursors in a snapshot."""


class ClusterSnapshot(msgspec.Struct, frozen=True):
    """The state of the cluster at one moment, which a worker reads once a second."""

    epoch: str
    feed_version: int
    has_jobs: bool
    members: tuple[WorkerRow, ...]
    free: tuple[CursorKey, ...]
    """Live cursors without an owner, at most `FREE_IN_SNAPSHOT`. Cursors of replays are claimed with the live one."""
    heads: dict[QueueKey, int]
    """The heads of the queues that were asked for."""
    scheduled_at: int | None = None
    """When the next delayed message or run of a schedule is due; None if there is none."""
    has_intake: bool = False
    """Whether messages wait in the intake, which SQLite does not have."""
    clock_ms: int | None = None
    """The time by the database's clock; None if that is the machine's."""


class Notification(msgspec.Struct, frozen=True, array_like=True):
    """A hint that something was committed. It may be lost: `Engine.poll` finds everything, too."""

    feed: bool = False
    """Whether the control plane has changed."""
    cursors: bool = False
    """Whether cursors are free, or another worker's request has ended."""
    heads: tuple[tuple[QueueKey, int], ...] = ()
    """Queues, with the last seq that was appended."""
    anything: bool = False
    """Whether it is unknown what changed."""
    intake: bool = False
    """Whether an application has published in its own transaction."""


class CommitConcurrency(msgspec.Struct, frozen=True):
    """How many commits, and reads of lanes, may run concurrently.

    Appends of one queue, and settles of one listener, always use the same sequence of commits.
    """

    appends: int = 1
    settles: int = 1
    works: int = 1
    urgent_works: int = 1
    lane_reads: int = 1
    """More than one only if a read lets other tasks run."""
    apart: bool = False
    """Whether appends, settles, works and urgent works have commits of their own."""


class Engine(Protocol):
    """A database. Every method raises `StoreUnavailable` if it cannot work at the moment.

    A statement of a `Transaction` that violates a unique key raises `UniqueViolation`. In SQL, `clock_ms()` is the
    database's clock in milliseconds; it decides about leases of workers. Consumers' leases follow `DatabaseClock`.
    """

    concurrency: CommitConcurrency
    migrated_from: int
    """The schema version that `open` migrated; 0 if the database was new or up to date."""

    async def open(self) -> None:
        """Connect, and migrate the schema. Raises `StoreUnusable` with the reason and what to do."""

    async def close(self) -> None: ...

    def begin_session(self, session_id: int) -> None:
        """Name the connections of this process by the session id of its worker, from their next use on."""

    async def end_stuck_sessions(self) -> Sequence[str]:
        """End the connections of processes that hang in a transaction, workers or not. Returns their names.

        Others would wait for their locks, such as the lock of exclusive transactions.
        """

    async def warm_up(self) -> None:
        """Connect and plan what publishes and deliveries use, so that the first one is as fast as the others."""

    async def commit(self, batch: Batch) -> BatchOutcome:
        """Make the batch durable, in one transaction if possible. Returns when it is durable.

        An append fails with `StaleConfiguration` if the queue's configuration differs from the one that the messages
        were checked against, and with `QueueClosed` if the queue was deleted; this does not affect other appends. A
        topic append fails with `StaleConfiguration` if one of its queues or the topic has changed. A work that raises
        changes nothing, and its exception is its result.
        """

    async def read(self, work: Work[T]) -> T:
        """Run `work` on one snapshot. It must change nothing."""

    async def search(self, work: Work[T]) -> T:
        """Run `work`, which may take long, where it delays no other task: it may see several snapshots."""

    async def load(self, work: Work[T]) -> T:
        """Like `read`, for large bodies: runs where it delays no other task."""

    async def page(self, organization: int, queue: int, after: int, rows: int, *, max_bytes: int) -> LogPage:
        """Read the log after a seq: at most `rows` entries, and after the first at most `max_bytes` of bodies."""

    async def poll(self, queues: Sequence[QueueKey]) -> ClusterSnapshot:
        """Read what a worker must check periodically, in one round trip."""

    def notify(self, hint: Notification) -> None:
        """Notify other processes soon, combining several notifications. Never waits, never fails."""

    def listen(self, on_notify: Callable[[Notification], None], on_loss: Callable[[], None]) -> None:
        """Call `on_notify` on the event loop for each notification of other processes.

        `on_loss` is called when connections were lost. When the store works again, it may be another server with a
        shorter history: everything that was read before must be read again.
        """


class UniqueViolation(Exception):
    """A row with the same unique key exists. The transaction changes nothing."""


class AlreadyDone(Exception):
    """The idempotency key was used before: nothing changes now."""


class StaleConfiguration(Exception):
    """The queue's configuration, or the topic's routes, changed since the messages were checked."""


class QueueClosed(Exception):
    """The queue was deleted."""


PULL_OWNER: Final = -1
"""The owner of a cursor whose messages are pulled: no lane works on it, any worker may."""
