"""What producers, clients, listeners and the nemesis did and saw, in one order: everything that a verdict is made of.

A tick is a place in that order, 0 is never; a field that ends in `_at` is in seconds of one monotonic clock.
"""

import tempfile
from pathlib import Path

import msgspec

NEVER = 0


class Wish(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a producer asked for with a message. `expires_at` is an instant of the wall clock, 0 for none."""

    key: str = ""
    expires_at: float = 0.0


class Published(msgspec.Struct):
    """A publish of one message or a batch. `answered` only if its 200 arrived; otherwise it is undecided.

    `wishes` are empty, or one for each message.
    """

    queue: str
    bodies: tuple[str, ...]
    sent: int
    answered: int = NEVER
    ids: tuple[str, ...] = ()
    answered_at: float = 0.0
    wishes: tuple[Wish, ...] = ()

    @property
    def lasting(self) -> tuple[str, ...]:
        """The ids of those that do not expire."""
        if not self.wishes:
            return self.ids
        return tuple(each for each, wish in zip(self.ids, self.wishes, strict=False) if not wish.expires_at)

    def lasting_for(self, listener: "Registered") -> set[str]:
        """Of those, what its filter lets through."""
        if not listener.sort:
            return set(self.lasting)
        wanted = {each for each, body in zip(self.ids, self.bodies, strict=False) if listener.wants(body)}
        return wanted & set(self.lasting)


class Rate(msgspec.Struct, frozen=True):
    """So many requests at once, and so many a second in the long run."""

    per_second: float
    burst: int


class Registered(msgspec.Struct):
    """A listener, known by the name in its address even where the answer to its creation was lost."""

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

    def wants(self, body: str) -> bool:
        """Whether its filter lets a message through."""
        return not self.sort or f'"sort": "{self.sort}"' in body


class Replayed(msgspec.Struct):
    """Somebody asked for a part of a queue once more: from one message to another, or without that to the newest.

    `name` is the listener's. It has an id only if the answer arrived.
    """

    name: str
    first: str
    last: str
    sent: int
    answered: int = NEVER
    id: str = ""
    delete_sent: int = NEVER
    deleted_at: float = 0.0


class ReplayCounts(msgspec.Struct, frozen=True):
    """How a replay stood at the end."""

    state: str
    delivered: int
    failed: int
    expired: int


class Receipt(msgspec.Struct):
    """A request that a listener read whole at `came_at`, and the status that it answered. `worker` sent it.

    That of a replay has its id.
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


class Resource(msgspec.Struct):
    """A queue, a listener or a key, from the request that creates it to the answer that says it is gone."""

    organization: str
    sent: int
    answered: int = NEVER
    delete_sent: int = NEVER
    deleted: int = NEVER
    deleted_at: float = 0.0


class Look(msgspec.Struct):
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
    """Something that the nemesis did. `workers` are those it touched: what they had under way may be repeated.

    It came in so many `blows`: at each of them, what was under way then.
    """

    kind: str
    workers: tuple[int, ...]
    began: int
    began_at: float
    ended: int = NEVER
    ended_at: float = 0.0
    blows: int = 1


class Counts(msgspec.Struct):
    """What the service counted for a listener at the end, and the last seq in the log when it was created."""

    acknowledged: int
    pending: int
    missed: int
    start_seq: int


class Log(msgspec.Struct):
    """A queue's log at the end: the last seq given, the ids in it, in their order, and when some of them expire."""

    head: int
    ids: tuple[str, ...]
    expiries: dict[str, float] = {}


class PullCounts(msgspec.Struct, frozen=True):
    """What the service counted for a listener whose messages are pulled, when it was last asked."""

    acknowledged: int
    pending: int
    missed: int


class Pulling(msgspec.Struct):
    """A listener whose messages are pulled. `start_seq` is the last seq when it was created; -1: not known."""

    queue: str
    sent: int
    answered: int = NEVER
    id: str = ""
    start_seq: int = -1
    counts: PullCounts | None = None


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


class Bounds(msgspec.Struct, frozen=True):
    """What the verdict measures with."""

    most_unrecorded: int
    """So many attempts of one listener may be begun by one worker and not recorded at a time."""
    timeout_seconds: float
    """An attempt takes no longer."""
    notice_seconds: float = 1.0
    """In that time a worker that nothing disturbs has heard of what another one changed."""
    recording_seconds: float = 5.0
    """An attempt's outcome waits no longer for being stored."""
    recovery_seconds: float = 6.0
    """What a fault brought about shows until so long after its end."""
    lateness_seconds: float = 1.0
    """A request that has begun arrives within that time."""


class History(msgspec.Struct):
    """Everything there is to decide from. `resources` are known by their address.

    `epoch` is the wall clock's time, in seconds, when the monotonic one showed 0.
    """

    bounds: Bounds
    epoch: float = 0.0
    publishes: list[Published] = []
    listeners: dict[str, Registered] = {}
    receipts: list[Receipt] = []
    resources: dict[str, Resource] = {}
    looks: list[Look] = []
    faults: list[Fault] = []
    counts: dict[str, Counts] = {}
    logs: dict[str, Log] = {}
    pulling: list[Pulling] = []
    handed_out: list[HandedOut] = []
    ordered: list[str] = []
    """The queues that keep the order of each key."""
    replays: list[Replayed] = []
    replay_counts: dict[str, ReplayCounts] = {}
    said: dict[int, list[str]] = {}
    """The last lines of the logs of workers: for whoever looks for a reason."""
    redelivered: list[str] = []
    """The listeners that got everything again that they had missed."""

    @property
    def live(self) -> list[Receipt]:
        """What came of no replay."""
        return [receipt for receipt in self.receipts if not receipt.replay]

    def keep(self, path: Path) -> None:
        """Write it down: `python -m tests.faults.verdict PATH` decides it again."""
        path.write_bytes(msgspec.msgpack.encode(self))

    def keep_for_later(self, seed: int) -> str:
        """Write it down where it outlives the test; how it is decided again."""
        path = Path(tempfile.gettempdir()) / f"discue-history-{seed}"
        self.keep(path)
        return f"seed {seed}; decide it again: python -m tests.faults.verdict {path}"


def kept_in(path: Path) -> History:
    """A history that was written down."""
    return msgspec.msgpack.decode(path.read_bytes(), type=History)
