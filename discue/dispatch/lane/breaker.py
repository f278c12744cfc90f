"""Protection for listeners that fail: a circuit breaker, and a throttle for new messages."""

from collections.abc import Collection
from typing import Final

from discue.dispatch.lane.endpoint import Endpoint
from discue.dispatch.lane.states import BREAKER_TRANSITIONS, BreakerState, transition
from discue.domain.listener_health import (
    NO_FAILURES,
    Liveness,
    acknowledged_since_probe,
    after_failure,
    after_trials,
    breaker_state,
    with_new_url,
)
from discue.store.listeners import ListenerHealth

MOST_TRIALS: Final = 64
"""How many requests the half-open breaker lets be in flight at most. One more success closes it."""

RETRYING_LIMIT: Final = 1_000
FAILURES_IN_A_ROW: Final = 100
PAUSE_MS: Final = 30_000


class CircuitBreaker:
    """Opens when probes say that a listener is inactive, and closes step by step when they succeed again.

    It also remembers since when all attempts have failed, for the automatic disabling of listeners.
    """

    __slots__ = ("_earlier", "_most_trials", "_transitions", "acknowledges", "failing", "liveness", "state", "trials")

    def __init__(
        self,
        health: ListenerHealth,
        most_trials: int = MOST_TRIALS,
        transitions: dict[str, int] | None = None,
        *,
        acknowledged_at: int = 0,
    ) -> None:
        """Begin with what is stored. `acknowledged_at`: when the listener last acknowledged a message; 0: never.

        `transitions` counts the changes of the state, by the new one.
        """
        self._most_trials = most_trials
        self._transitions = transitions
        self.liveness = health.liveness
        self.failing = health.failing if health.failing.first_at else NO_FAILURES
        """The streak of failures since the last success."""
        # Kept up to date without times: the wall clock may be set between a probe and an acknowledgement.
        self.acknowledges = acknowledged_since_probe(health.liveness, acknowledged_at)
        """Whether a message was acknowledged since the last probe."""
        self.state = BreakerState(breaker_state(health.liveness))
        self.trials = 1
        """How many requests the half-open breaker allows in flight."""
        self._earlier: set[int] = set()
        """Requests that were in flight when the breaker became half open. They are not trials."""

    @property
    def is_open(self) -> bool:
        return self.state is BreakerState.OPEN

    @property
    def is_closed(self) -> bool:
        return self.state is BreakerState.CLOSED

    def allows(self, in_flight: int) -> bool:
        """Whether another request may start while so many are in flight."""
        if self.state is BreakerState.HALF_OPEN:
            return in_flight - len(self._earlier) < self.trials
        return self.state is BreakerState.CLOSED

    def on_probe(self, liveness: Liveness, in_flight: Collection[int]) -> bool:
        """Follow a probe, while requests for these seqs are in flight. True if the breaker is not open any more."""
        self.liveness = liveness
        self.acknowledges = False
        return self._follow_liveness(in_flight)

    def configure(self, before: Endpoint, after: Endpoint, in_flight: Collection[int]) -> bool:
        """Follow a change of the listener. True if the breaker is not open any more.

        Earlier failures do not count for the new configuration. The state is unknown with another liveness URL, or
        none. A new target gets new trials if the last probe did not fail.
        """
        if after.config_version != before.config_version:
            self.failing = NO_FAILURES
        if after.liveness_url != before.liveness_url:
            self.liveness = with_new_url(self.liveness)
            return self._follow_liveness(in_flight)
        return after.destination.target != before.destination.target and self._follow_liveness(in_flight)

    def on_success(self, seq: int, now: int) -> bool:
        """Count a successful attempt. True if this ends a streak of failures, which is to be stored."""
        was_failing = self.failing is not NO_FAILURES
        self.failing = NO_FAILURES
        self.acknowledges = True
        if self.state is BreakerState.HALF_OPEN and not self._is_earlier(seq):
            self.trials += 1
            if self.trials > self._most_trials:
                self._enter(BreakerState.CLOSED)
                self.liveness = after_trials(self.liveness, now)
        return was_failing

    def on_failure(self, seq: int, now: int) -> bool:
        """Count a failed attempt. True if the streak of failures changed, which is to be stored."""
        before, self.failing = self.failing, after_failure(self.failing, now)
        if self.state is BreakerState.HALF_OPEN and not self._is_earlier(seq):
            self._enter(BreakerState.OPEN)
        return self.failing is not before

    def on_postponed(self, seq: int) -> None:
        """Handle a request that was not made: it is not a trial, and no longer in flight."""
        self._earlier.discard(seq)

    def _follow_liveness(self, in_flight: Collection[int]) -> bool:
        was_open, state = self.is_open, BreakerState(breaker_state(self.liveness))
        if state is BreakerState.HALF_OPEN and not was_open:
            # Trials go on, and a closed breaker needs none.
            return False
        if state is not self.state:
            self._enter(state)
        self.trials = 1
        self._earlier = set(in_flight) if state is BreakerState.HALF_OPEN else set()
        return was_open and not self.is_open

    def _enter(self, state: BreakerState) -> None:
        self.state = transition(BREAKER_TRANSITIONS, self.state, state)
        if self._transitions is not None:
            self._transitions[state.value] += 1

    def _is_earlier(self, seq: int) -> bool:
        if seq in self._earlier:
            self._earlier.discard(seq)
            return True
        return False


class Throttle:
    """Lets one new message start per pause while a listener only fails, so that its backlog does not turn into rows.

    It is on while 1,000 deliveries have rows and the last 100 attempts all failed. Messages blocked behind a key have
    no rows: one failing key with many messages must not stop the other keys. Retries go on by their schedule. So a
    pause begins with the last new message, not with the last failure. A success, another target, and the circuit
    breaker when it stops being open end it.
    """

    __slots__ = ("_failures_in_a_row", "_most_failures", "_most_rows", "only_fails", "until")

    def __init__(self, most_rows: int = RETRYING_LIMIT, most_failures: int = FAILURES_IN_A_ROW) -> None:
        self._most_rows = most_rows
        self._most_failures = most_failures
        self._failures_in_a_row = 0
        self.only_fails = False
        """Whether the last 100 attempts all failed."""
        self.until = 0
        """When the pause ends, in milliseconds since the epoch; 0 if there is none."""

    def on_failure(self) -> None:
        self._failures_in_a_row += 1
        self.only_fails = self._failures_in_a_row >= self._most_failures

    def end(self) -> None:
        self._failures_in_a_row = self.until = 0
        self.only_fails = False

    def allows(self, now: int, rows: int) -> bool:
        """Whether a new message may start, although all fail, while so many deliveries with rows are not settled."""
        return now >= self.until or rows < self._most_rows

    def on_start(self, now: int, rows: int) -> None:
        """Note that a new message has started although all fail. May begin a pause."""
        if rows >= self._most_rows:
            self.until = now + PAUSE_MS

    def shorten(self, now: int) -> None:
        """Let a pause end in its usual time at the latest."""
        self.until = min(self.until, now + PAUSE_MS)
