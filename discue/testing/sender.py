"""The sender of a server under test."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from discue.domain.attempts import Outcome
from discue.sending.request import AttemptRequest
from discue.sending.response import SenderLimits
from discue.sending.sender import Sender
from discue.testing.clock import MovableClock, SendingClock


class AttemptKey(NamedTuple):
    """Names an attempt, as its request does."""

    listener_id: str
    message_id: str
    number: int
    replay_id: str = ""


class KitSender(Sender):
    """A sender that knows its requests in flight."""

    def __init__(self, clock: MovableClock, limits: SenderLimits, **options: Any) -> None:
        super().__init__(clock=SendingClock(clock), limits=limits, **options)
        self._moved = clock
        self._open: dict[AttemptKey, int] = {}
        """The end of each request in flight, in milliseconds since the epoch on the clock of the test."""

    def is_busy(self, but: Collection[AttemptKey] = ()) -> bool:
        """Whether a request is in flight, except for those of `but`."""
        return any(key not in but for key in self._open)

    def next_deadline(self, of: Collection[AttemptKey]) -> int | None:
        """Return when the first of these requests times out, in milliseconds since the epoch."""
        return min((at for key, at in self._open.items() if key in of), default=None)

    def send(self, request: AttemptRequest, done: Callable[[Outcome], None]) -> None:
        key = AttemptKey(request.listener_id, request.message_id, request.number, request.replay_id)
        # The timer that applies timeouts compares fractions of a millisecond.
        self._open[key] = self._moved.now() + request.timeout_ms + 1

        def end(outcome: Outcome) -> None:
            self._open.pop(key, None)
            done(outcome)

        super().send(request, end)
