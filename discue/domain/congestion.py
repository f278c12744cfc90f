"""How many requests may be under way to a listener that shows that they are too many."""

from discue.domain.model import Outcome

_OVERLOADED = frozenset({429, 503})
_TOO_LATE = frozenset({"timeout", "connect_timeout"})


def signals_overload(outcome: Outcome) -> bool:
    """Whether an attempt says that the listener has more to do than it can: it was late, or said so."""
    return outcome.error in _TOO_LATE or (outcome.error == "status" and outcome.status in _OVERLOADED)


class AdaptiveLimit:
    """Additive increase, multiplicative decrease: half as many after a bad sign, one more after as many good ones.

    Signs of requests that were sent before the last decrease do not count again: they say the same.
    `allowed` is from 1 to the listener's own limit.
    """

    __slots__ = ("_allowed", "_ceiling", "_decreases")

    def __init__(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self._allowed = float(ceiling)
        self._decreases = 0

    @property
    def allowed(self) -> int:
        return int(self._allowed)

    @property
    def epoch(self) -> int:
        """To be kept with each request when it is sent: how many decreases there were before it."""
        return self._decreases

    def limit_to(self, ceiling: int) -> None:
        """The listener has another limit. One that was not reached for its sake stays where it is."""
        if self._allowed == self._ceiling:
            self._allowed = float(ceiling)
        self._ceiling = ceiling
        self._allowed = min(self._allowed, float(ceiling))

    def ended(self, outcome: Outcome, epoch: int) -> None:
        """What an attempt says. Failures that say nothing of load change nothing."""
        if outcome.error == "":
            self._allowed = min(float(self._ceiling), self._allowed + 1.0 / self._allowed)
        elif epoch == self._decreases and signals_overload(outcome):
            self._decreases += 1
            self._allowed = max(1.0, self._allowed / 2)
