"""An attempt to deliver a message: its request while it is in flight."""

from typing import TYPE_CHECKING

from discue.dispatch.lane.endpoint import Endpoint
from discue.domain.messages import Entry, decode_options
from discue.domain.retry import RetryPolicy, with_options

if TYPE_CHECKING:
    from discue.dispatch.lane.handover import Handover


class InFlightAttempt:
    """A request in flight."""

    __slots__ = ("endpoint", "epoch", "extra", "handover", "has_row", "is_retry", "message_id", "number", "seq")

    def __init__(self, entry: Entry, number: int, endpoint: Endpoint, epoch: int, *, is_retry: bool) -> None:
        self.seq = entry.seq
        self.message_id = entry.id
        self.extra = entry.extra
        self.number = number
        self.endpoint = endpoint
        self.epoch = epoch
        """`AdaptiveLimit.epoch` when it was sent."""
        self.is_retry = is_retry
        self.has_row = is_retry
        """Whether the delivery has a row in the store: the cursor has passed it."""
        self.handover: Handover | None = None
        """Set once the lane has given the request away."""

    @property
    def policy(self) -> RetryPolicy:
        """The retry policy that applies if this attempt fails."""
        policy = self.endpoint.policy
        return with_options(policy, decode_options(self.extra).retry) if self.extra else policy
