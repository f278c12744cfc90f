"""The reasons for which a lane starts nothing, each with what calls it again."""

from enum import Enum, auto
from typing import Final, NamedTuple


class BlockedBy(Enum):
    """A reason for which a lane starts nothing."""

    IDLE = auto()
    """Nothing waits, or it is being read. A publish, a read or a due time calls the lane again."""
    REPLAYS = auto()
    """Other replays of the organization have all replay slots, which call it again."""
    INACTIVE = auto()
    """It has not loaded its cursor, gives it up, or may not send to the listener. A change calls it again."""
    STORE = auto()
    """The store takes no outcomes. The next flush that succeeds calls it again."""
    LEASE = auto()
    """The worker's lease has lapsed. Its renewal calls it again."""
    SLOTS = auto()
    """The listener has no free slot. The flush of an outcome calls it again."""
    WORKER = auto()
    """The worker has no free slot, or no start is left in this turn. `ConcurrencyLimiter` calls it again."""
    RATE = auto()
    """The rate of the listener or of a replay. The lane is woken at a time."""
    SHARE = auto()
    """Other lanes of the listener come first. `FairShare` calls it again."""
    FILTERS = auto()
    """The turn of the filters is over. `FilterTurns` calls it again."""
    THROTTLE = auto()
    """The listener only fails. It is woken at a time."""
    REQUESTS = auto()
    """The next message waits for a request in flight, whose outcome calls it again."""


class Blocked(NamedTuple):
    """The reason why no attempt starts."""

    reason: BlockedBy
    until: int = 0
    """When to try again, in milliseconds since the epoch; 0 if something else calls the lane."""


IDLE: Final = Blocked(BlockedBy.IDLE)
REPLAYS: Final = Blocked(BlockedBy.REPLAYS)
INACTIVE: Final = Blocked(BlockedBy.INACTIVE)
STORE: Final = Blocked(BlockedBy.STORE)
LEASE: Final = Blocked(BlockedBy.LEASE)
SLOTS: Final = Blocked(BlockedBy.SLOTS)
WORKER: Final = Blocked(BlockedBy.WORKER)
SHARE: Final = Blocked(BlockedBy.SHARE)
FILTERS: Final = Blocked(BlockedBy.FILTERS)
REQUESTS: Final = Blocked(BlockedBy.REQUESTS)
