"""Pull mode: consumers receive messages under leases, and settle them by receipt handles."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

from discue.control.context import ControlContext
from discue.control.listeners import ListenerPath, own_listener
from discue.domain.errors import Conflict
from discue.domain.messages import Entry, ReceiptHandle
from discue.domain.scopes import Principal
from discue.domain.trace_context import AttemptTrace
from discue.store.ledger import Reservation

MOST_AT_ONCE: Final = 100
LONGEST_WAIT_SECONDS: Final = 60

Action = Literal["acknowledge", "reject", "release", "extend"]
DecisionResult = Literal["acknowledged", "rejected", "released", "extended", "expired", "settled"]
"""The effect of a decision. `expired`: the lease was over, and the message is due again or leased to another consumer.
`settled`: the message has been settled before."""


class PullTarget(NamedTuple):
    """The row ids of a listener and its queue."""

    organization: int
    listener: int
    queue: int


class LeasedMessage(msgspec.Struct, frozen=True, gc=False):
    """A message that is leased to a consumer."""

    entry: Entry
    attempt: int
    """Number of the lease, from 1."""
    receipt: ReceiptHandle
    leased_until: int
    """Milliseconds since the epoch."""
    trace: AttemptTrace | None = None
    """None if the message was published outside of a trace."""


class Decision(msgspec.Struct, frozen=True, gc=False):
    """A consumer's decision about a leased message."""

    receipt: ReceiptHandle
    action: Action
    seconds: int | None = None
    """Delay until a released message is due again, or new length of an extended lease. None: the listener's default."""


class PullClient(msgspec.Struct, eq=False):
    """A consumer with an open pull request. It is active until its API key changes. `key` is the row id of the key."""

    key: int
    is_active: bool = True
    held: Reservation | None = None
    """The memory of the messages that it has received."""

    def hold(self, reservation: Reservation) -> None:
        """Hold the memory of received messages, and release that of earlier ones."""
        self.release()
        self.held = reservation

    def hand_over(self, reservation: Reservation) -> None:
        """Let the reservation of a request hold the memory from now on: its response follows."""
        if self.held is not None:
            reservation.take_over(self.held)
            self.held = None

    def release(self) -> None:
        """Release the memory: the messages are in a response."""
        if self.held is not None:
            self.held.release()
            self.held = None


class Puller(Protocol):
    """The broker that leases messages. Its methods raise NotFound if the listener is deleted, and Unavailable."""

    def connect(self, key: int, account: int) -> AbstractContextManager[PullClient]:
        """Register a consumer for the duration of the block, and count it for its account. Raises Overloaded.

        A changed key or a drain makes the consumer inactive.

        The consumer holds the memory of its messages until it releases the memory, or the block ends.
        """
        ...

    async def pull(self, client: PullClient, target: PullTarget, most: int, wait_ms: int) -> list[LeasedMessage]:
        """Lease up to `most` messages, waiting up to `wait_ms` for the first one. Returns none to an inactive client.

        Raises Conflict for a disabled listener. If cancelled, no message stays leased.
        """
        ...

    async def decide(self, target: PullTarget, decisions: Sequence[Decision]) -> list[DecisionResult]:
        """Apply the decisions and return their results in the same order, after they are stored."""
        ...


async def pull_target(control: ControlContext, principal: Principal, path: ListenerPath) -> PullTarget:
    """Return the target to pull from. Raises Conflict for a listener in push mode."""
    listener = await control.store.read(lambda tx: own_listener(tx, principal, "write", path))
    if listener.mode != "pull":
        detail = "This listener is in push mode. Only listeners in pull mode can be pulled from."
        raise Conflict(detail, code="wrong_mode")
    return PullTarget(listener.organization, listener.id, listener.queue)
