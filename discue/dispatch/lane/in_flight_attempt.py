"""A request under way."""

from typing import Protocol

from discue.dispatch.lane.endpoint import Endpoint
from discue.domain.attempts import Outcome
from discue.domain.messages import Entry, decode_options
from discue.domain.retry import RetryPolicy, with_options


class LeftBehind(Protocol):
    """Who hears what becomes of a request when its lane does not: `handed_over.Parting`."""

    def ended(self, attempt: "InFlightAttempt", outcome: Outcome) -> None: ...


class InFlightAttempt:
    """`excepted` when its delivery stands apart from the cursor, as an exception.

    `parting` is set when its lane has given it away. `era` is `Congestion.era` when it was sent.
    """

    __slots__ = ("endpoint", "epoch", "excepted", "extra", "handover", "is_retry", "message_id", "number", "seq")

    def __init__(self, entry: Entry, number: int, endpoint: Endpoint, epoch: int, *, is_retry: bool) -> None:
        self.seq = entry.seq
        self.message_id = entry.id
        self.extra = entry.extra
        self.number = number
        self.endpoint = endpoint
        self.epoch = epoch
        self.is_retry = is_retry
        self.excepted = is_retry
        self.handover: LeftBehind | None = None

    @property
    def policy(self) -> RetryPolicy:
        """When the delivery is tried again, if this attempt fails."""
        policy = self.endpoint.policy
        return with_options(policy, decode_options(self.extra).retry) if self.extra else policy
