"""The history of a run: what producers, clients, listeners and the nemesis did and saw, in one order.

A tick is a position in that order; 0 means never. A field that ends in `_at` is in seconds of one monotonic clock.
"""

import tempfile
from collections import defaultdict
from pathlib import Path

import msgspec

NEVER = 0


class DeliveryOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Options of a published message. Times are wall-clock times in seconds; 0 means no time."""

    key: str = ""
    expires_at: float = 0.0
    due_at: float = 0.0
    delay: int = 0
    """Seconds from the request to `due_at`, if the request has `delay` instead of `deliver_at`."""


class Deletion(msgspec.Struct):
    """The deletion of a message, from the first request to the response that confirms it."""

    sent: int
    answered: int = NEVER
    answered_at: float = 0.0
    was_unknown: bool = False
    """Whether the first request that was answered got a 404."""


class Published(msgspec.Struct):
    """A publish of one message or a batch. `answered` is set only if its 200 arrived; else, the outcome is unknown.

    `options` are empty, or one for each message. `deletions` are by id. A publish to a topic has a record for each
    queue that its channels chose; `routes` are these queues.
    """

    queue: str
    bodies: tuple[str, ...]
    sent: int
    answered: int = NEVER
    ids: tuple[str, ...] = ()
    answered_at: float = 0.0
    options: tuple[DeliveryOptions, ...] = ()
    deletions: dict[str, Deletion] = {}
    routes: tuple[str, ...] = ()
    sent_at: float = 0.0

    @property
    def lasting(self) -> tuple[str, ...]:
        """The ids of the messages that do not expire and are not deleted."""
        if self.deletions:
            return tuple(each for each in self.ids if each not in self.deletions)
        if not self.options:
            return self.ids
        return tuple(each for each, given in zip(self.ids, self.options, strict=False) if not given.expires_at)

    def lasting_for(self, listener: "Registered") -> set[str]:
        """The ids in `lasting` that match the listener's filter."""
        if not listener.sort:
            return set(self.lasting)
        wanted = {each for each, body in zip(self.ids, self.bodies, strict=False) if listener.wants(body)}
        return wanted & set(self.lasting)


class Rate(msgspec.Struct, frozen=True):
    """A rate limit: `burst` requests at once, and `per_second` in the long run."""

    per_second: float
    burst: int


class Registered(msgspec.Struct):
    """A listener, known by the name in its URL even if the response to its creation was lost."""

    queue: str
    sent: int
    answered: int = NEVER
    id: str = ""
    secret: str = ""
    delete_sent: int = NEVER
    deleted_at: float = 0.0
    """When its deletion was answered; 0 if it was not."""
    rate: Rate | None = None
    sort: str = ""
    """The one that its filter lets through; empty: it has none."""
    attempts: int = 0
    """How many attempts each message has; 0: so many that no message is missed for that."""

    def wants(self, body: str) -> bool:
        """Whether its filter lets a message through."""
        return not self.sort or f'"sort": "{self.sort}"' in body


class Replayed(msgspec.Struct):
    """A replay of a queue from one message to another, or to the newest.

    `name` is the listener's. The replay has an id only if the response arrived.
    """

    name: str
    first: str
    last: str
    sent: int
    answered: int = NEVER
    id: str = ""
    delete_sent: int = NEVER
    deleted_at: float = 0.0
    was_unknown: bool = False
    """Whether the request to cancel it got a 404."""


class ReplayCounts(msgspec.Struct, frozen=True):
    """How a replay stood at the end."""

    state: str
    delivered: int
    failed: int
    expired: int


class Recorded(msgspec.Struct, frozen=True):
    """An attempt on record at the end, and the listener's name."""

    name: str
    message: str
    number: int
    replay: str = ""


class Receipt(msgspec.Struct):
    """A request that a listener read whole at `came_at`, and the status that it answered. `worker` sent it.

    The status is 0 if the listener hung up instead. A request of a replay has its id. `number` is that of the attempt.
    """

    name: str
    message: str
    body: str
    timestamp: int
    signature: str
    came_at: float
    tick: int
    at: float
    status: int
    worker: int = 0
    replay: str = ""
    number: int = 1


class Resource(msgspec.Struct):
    """A queue, a listener or a key, from the request that creates it to the response that confirms its deletion."""

    organization: str
    sent: int
    answered: int = NEVER
    delete_sent: int = NEVER
    deleted: int = NEVER
    deleted_at: float = 0.0


class ResourceRequest(msgspec.Struct):
    """A request for a resource by one worker, and the status it answered; 0 for none. `stranger` may not see it.

    For a key, a request that shows it.
    """

    resource: str
    worker: int
    sent: int
    sent_at: float
    stranger: bool = False
    answered: int = NEVER
    status: int = 0


class Fault(msgspec.Struct):
    """A fault of the nemesis. The requests in flight at `workers` may be repeated.

    A fault has one or more `blows`; each may repeat what was in flight at that moment.
    """

    kind: str
    workers: tuple[int, ...]
    began: int
    began_at: float
    ended: int = NEVER
    ended_at: float = 0.0
    blows: int = 1


class Counts(msgspec.Struct):
    """Final counts of a listener as the service reports them, and the head of the log at its creation."""

    acknowledged: int
    pending: int
    missed: int
    start_seq: int


class Run(msgspec.Struct, frozen=True):
    """A message that a schedule published for its run at a time, in milliseconds of the wall clock."""

    schedule: str
    run_at: int


class Log(msgspec.Struct):
    """A queue's log at the end: the last seq given, the ids in it, in their order, and when some of them expire."""

    head: int
    ids: tuple[str, ...]
    expiries: dict[str, float] = {}
    moved: int = 0
    """How many were delayed, and have taken a second seq when they were due."""
    runs: list[Run] = []


class Scheduled(msgspec.Struct):
    """A schedule with a run every `apart_ms` milliseconds. It has an id only if the response to its creation arrived.

    When it was last asked for, at `looked_at`, `reached` was its next run, in milliseconds of the wall clock.
    """

    queue: str
    body: str
    apart_ms: int
    sent_at: float
    id: str = ""
    first_run: int = 0
    looked_at: float = 0.0
    reached: int = 0
    deleted_at: float = 0.0


class Probe(msgspec.Struct, frozen=True):
    """A liveness probe of a listener, and how that answered it."""

    name: str
    at: float
    is_alive: bool


class SeenInactive(msgspec.Struct, frozen=True):
    """The service showed a listener as inactive, to a request sent and answered at these times."""

    name: str
    sent_at: float
    answered_at: float


class Pulling(msgspec.Struct):
    """A listener whose messages are pulled."""

    queue: str
    sent: int
    answered: int = NEVER
    id: str = ""
    counts: Counts | None = None


class HandedOut(msgspec.Struct):
    """A message that a consumer got under a lease, by a request that was sent at `sent_at` and answered at `came_at`.

    `said` is what the consumer said of it, first at `said_at`, and `state` what was answered at `answered_at`.
    """

    listener: str
    message: str
    body: str
    receipt: str
    sent: int
    sent_at: float
    came_at: float
    leased_until: float
    said: str = ""
    said_at: float = 0.0
    state: str = ""
    answered_at: float = 0.0


class MessageRequest(msgspec.Struct, frozen=True):
    """A request, answered at `at`, for a message of a queue that keeps messages for so long."""

    published: Published
    message: str
    kept_seconds: float
    at: float
    is_there: bool


class Bounds(msgspec.Struct, frozen=True):
    """Bounds that the checker applies."""

    most_unrecorded: int
    """Most attempts of one listener that one worker may have started and not recorded at a time."""
    timeout_seconds: float
    """An attempt takes no longer."""
    notice_seconds: float = 1.0
    """In that time a worker that nothing disturbs has heard of what another one changed."""
    recording_seconds: float = 5.0
    """An attempt's outcome waits no longer for being stored."""
    recovery_seconds: float = 6.0
    """How long after its end the effects of a fault may still show, in seconds."""
    lateness_seconds: float = 1.0
    """A request that has begun arrives within that time."""
    old_owner_seconds: float = 0.3
    """Requests of the previous owner of a cursor arrive within that time after the first one of the next owner."""


class History(msgspec.Struct):
    """The history of a run. `resources` are keyed by their path.

    `epoch` is the wall clock's time, in seconds, when the monotonic one showed 0.
    """

    bounds: Bounds
    epoch: float = 0.0
    publishes: list[Published] = []
    listeners: dict[str, Registered] = {}
    receipts: list[Receipt] = []
    resources: dict[str, Resource] = {}
    resource_requests: list[ResourceRequest] = []
    faults: list[Fault] = []
    counts: dict[str, Counts] = {}
    recorded: list[Recorded] | None = None
    """The attempts at listeners that exist at the end. None: no stock was taken of them."""
    logs: dict[str, Log] = {}
    pulling: list[Pulling] = []
    handed_out: list[HandedOut] = []
    ordered: list[str] = []
    """The queues that keep the order of each key."""
    blocking: list[str] = []
    """The ordered queues in which a missed message blocks its key until it is redelivered."""
    trimmed: list[str] = []
    """The queues of which messages are deleted. Nothing expires there, and nothing is replayed or missed."""
    short_retention: list[str] = []
    """The queues that keep messages for seconds only. Nothing expires, and nothing is deleted, replayed or missed."""
    message_requests: list[MessageRequest] = []
    """The requests for messages of those queues."""
    delaying: list[str] = []
    """The queues in which some messages are delayed. Nothing expires or is deleted there."""
    schedules: list[Scheduled] = []
    probes: list[Probe] = []
    """The probes of listeners that are down for a while."""
    inactive: list[SeenInactive] = []
    replays: list[Replayed] = []
    replay_counts: dict[str, ReplayCounts] = {}
    said: dict[int, list[str]] = {}
    """The last log lines of each worker, printed with a failure."""
    redelivered: list[str] = []
    """The listeners that got everything again that they had missed."""

    effects: dict[str, int] = {}
    """How many effects a message has had, by the name of a listener with an inbox, a space, and the message."""

    @property
    def incomplete(self) -> set[str]:
        """The queues whose logs lack messages at the end."""
        return {*self.trimmed, *self.short_retention}

    @property
    def live(self) -> list[Receipt]:
        """The receipts that belong to no replay."""
        return [receipt for receipt in self.receipts if not receipt.replay]

    def acknowledged(self) -> defaultdict[str, set[str]]:
        """Return the messages that each listener acknowledged outside replays."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for receipt in self.live:
            if receipt.status == 200:
                found[receipt.name].add(receipt.message)
        return found

    def keep(self, path: Path) -> None:
        """Write the history to a file: `python -m tests.faults.checker PATH` checks it again."""
        path.write_bytes(msgspec.msgpack.encode(self))

    def keep_for_later(self, seed: int) -> str:
        """Write the history where it outlives the test. Returns how to check it again."""
        path = Path(tempfile.gettempdir()) / f"discue-history-{seed}"
        self.keep(path)
        return f"seed {seed}; judge it again: python -m tests.faults.checker {path}"


def kept_in(path: Path) -> History:
    """A history that was written down."""
    return msgspec.msgpack.decode(path.read_bytes(), type=History)
