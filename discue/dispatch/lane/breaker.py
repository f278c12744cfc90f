"""Whether a listener is open to messages: all of them, none, or a few and then ever more."""

from collections.abc import Collection
from typing import Final

from discue.dispatch.lane.endpoint import Endpoint
from discue.domain.listener_health import (
    NO_FAILURES,
    BreakerState,
    Liveness,
    after_failure,
    breaker_state,
    should_disable,
    with_new_url,
)
from discue.store.listener_health import ListenerHealth

ALL: Final = 1 << 30
ENOUGH: Final = 64

_PLACES: Final[dict[BreakerState, int]] = {"closed": ALL, "half_open": 1, "open": 0}


class CircuitBreaker:
    """How many requests may be under way at once by how the listener is, and since when all of them failed.

    An inactive listener whose probe succeeded is opened carefully: one request, one more for each that succeeds, and
    with the 64th all. One that fails closes it again, until a probe brings something else.
    """

    __slots__ = ("_earlier", "failing", "liveness", "places")

    def __init__(self, known: ListenerHealth) -> None:
        self.liveness = known.liveness
        self.failing = known.failing if known.failing.first_at else NO_FAILURES
        self.places = _PLACES[breaker_state(known.liveness)]
        self._earlier: set[int] = set()

    @property
    def is_closed(self) -> bool:
        return self.places == 0

    def has_place(self, under_way: int) -> bool:
        """Whether one more may begin. What was under way before a careful opening is none of its trials."""
        return under_way - len(self._earlier) < self.places

    def probed(self, liveness: Liveness, under_way: Collection[int]) -> bool:
        """How the listener is now, while requests for these seqs are under way. Whether it opens with that."""
        self.liveness = liveness
        return self._let(breaker_state(liveness), under_way)

    def configured(self, before: Endpoint, after: Endpoint, under_way: Collection[int]) -> bool:
        """The listener was changed, and what failed before that does not count. Whether it opens with that.

        Of another liveness URL nothing is known; to another place a careful lane that was closed again may try anew.
        """
        if after.config_version != before.config_version:
            self.failing = NO_FAILURES
        if after.liveness_url != before.liveness_url:
            return self.probed(with_new_url(self.liveness), under_way)
        return after.target != before.target and self._let(breaker_state(self.liveness), under_way)

    def succeeded(self, seq: int) -> bool:
        """An attempt succeeded. Whether something is to be stored."""
        was_failing = self.failing is not NO_FAILURES
        self.failing = NO_FAILURES
        if self.places < ALL and not self._is_earlier(seq) and self.places:
            self.places += 1
            if self.places > ENOUGH:
                self.places = ALL
        return was_failing

    def failed(self, seq: int, now: int) -> bool:
        """An attempt failed. Whether something is to be stored."""
        before, self.failing = self.failing, after_failure(self.failing, now)
        if self.places < ALL and not self._is_earlier(seq):
            self.places = 0
        return self.failing is not before

    def is_given_up(self, now: int, after_seconds: int) -> bool:
        """Whether the listener, which has just failed again, is to be disabled."""
        return should_disable(self.failing, now, after_seconds)

    def _let(self, allowed: BreakerState, under_way: Collection[int]) -> bool:
        was_closed = self.is_closed
        if allowed != "half_open" or was_closed:
            self.places = _PLACES[allowed]
            self._earlier = set(under_way) if allowed == "half_open" else set()
        return was_closed and not self.is_closed

    def _is_earlier(self, seq: int) -> bool:
        if seq in self._earlier:
            self._earlier.discard(seq)
            return True
        return False
