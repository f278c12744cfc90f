"""The details of attempts that are stored, within a budget per organization and hour."""

from collections.abc import Callable
from typing import Final

from discue.domain.attempts import Outcome, encode_detail, shown_trace
from discue.domain.clock import Clock

_HOUR_MS: Final = 3_600_000

SHORT_BODY_BYTES: Final = 1_024
"""How much is kept of the response body of a failure that is neither the first nor the last of its delivery."""


class DetailBudget:
    """Encodes the details of attempts while the budget of their organization lasts.

    Listeners choose what they answer, and how often they fail: without a budget, one organization could fill the
    database. Successes take at most half of it, so that they leave room for failures, which people look for.
    """

    def __init__(self, clock: Clock, bytes_per_hour: int, workers: Callable[[], int]) -> None:
        """`workers` returns how many workers share the budget, this one included."""
        self._clock = clock
        self._bytes_per_hour = bytes_per_hour
        self._workers = workers
        self._hour = 0
        self._used: dict[int, int] = {}
        """Bytes used in this hour, by organization."""

    def encode(self, organization: int, number: int, outcome: Outcome, next_attempt_at: int) -> bytes:
        """Return the details of an attempt in their stored form; b"" if they are not kept.

        `number` is that of the attempt in its delivery, `next_attempt_at` is 0 if no attempt follows.
        """
        trace = shown_trace(outcome)
        if trace is None:
            return b""
        hour = self._clock.now() // _HOUR_MS
        if hour != self._hour:
            self._hour = hour
            self._used.clear()
        budget = self._bytes_per_hour // self._workers()
        if not outcome.error:
            budget //= 2
        used = self._used.get(organization, 0)
        # Encoding takes longer than everything else here: it is not done in vain for each attempt of the hour.
        if used >= budget:
            return b""
        is_between = number > 1 and next_attempt_at > 0
        detail = encode_detail(trace, next_attempt_at, body_bytes=SHORT_BODY_BYTES if is_between else None)
        # Details that do not fit end the budget: what they leave is not worth encoding every later attempt.
        self._used[organization] = min(budget, used + len(detail))
        return detail if used + len(detail) <= budget else b""
