"""Pulling: messages that are handed out under leases, and what consumers say of them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

from discue.control.context import ControlContext
from discue.control.redeliveries import Path, listener_at
from discue.domain.errors import Conflict
from discue.domain.model import Entry, Listener
from discue.domain.receipt_handle import ReceiptHandle
from discue.domain.scopes import Principal
from discue.store.engine import Transaction

MOST_AT_ONCE: Final = 100
LONGEST_WAIT_SECONDS: Final = 60

Action = Literal["acknowledge", "reject", "release", "extend"]
DecisionResult = Literal["acknowledged", "rejected", "released", "extended", "expired", "settled"]
"""What became of a receipt: `expired` when its lease was over and the message is due again or with somebody else,
`settled` when there is nothing to do for the message any more."""


class PullTarget(NamedTuple):
    """A listener and its queue, by their row ids."""

    organization: int
    listener: int
    queue: int


class LeasedMessage(msgspec.Struct, frozen=True, gc=False):
    """A message that was handed out: for the `attempt`th time, until its lease ends."""

    entry: Entry
    attempt: int
    receipt: ReceiptHandle
    leased_until: int


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What is to become of a message that was handed out.

    `seconds` is after how many of them one that is released is due again, or for how long one that is extended is
    leased from now on; None leaves that to the listener.
    """

    receipt: ReceiptHandle
    action: Action
    seconds: int | None = None


class PullClient:
    """Somebody who waits for messages with a key, by its row id. It `may_stay` until the key changes."""

    __slots__ = ("is_active", "key")

    def __init__(self, key: int) -> None:
        self.key = key
        self.is_active = True


class Puller(Protocol):
    """Who hands messages out. It raises NotFound when a listener is gone, and Unavailable."""

    def connect(self, key: int) -> AbstractContextManager[PullClient]:
        """Somebody comes with a key, and stays as long as this lasts, or less: also until the service stops."""
        ...

    async def pull(self, client: PullClient, place: PullTarget, most: int, wait_ms: int) -> list[LeasedMessage]:
        """At most so many messages, waiting for the first of them if need be; none for whoever may not stay.

        Raises Conflict for a disabled listener. Cancelled, it leaves none leased.
        """
        ...

    async def answer(self, place: PullTarget, decisions: Sequence[Decision]) -> list[DecisionResult]:
        """What became of each, in their order; stored when this returns."""
        ...


async def place_of(control: ControlContext, principal: Principal, path: Path) -> PullTarget:
    """Where messages of a listener are pulled. Raises Conflict for one that they are sent to."""

    async def work(tx: Transaction) -> Listener:
        return await listener_at(tx, principal, "write", path)

    listener = await control.store.read(work)
    if listener.mode != "pull":
        raise Conflict("Messages are sent to this listener. Only those of a listener in the mode pull can be pulled.")
    return PullTarget(listener.organization, listener.id, listener.queue)
