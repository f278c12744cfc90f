"""Limits of requests in flight: the global cap, the fair share of a listener, and the adaptive limit of an endpoint."""

from collections.abc import Collection
from typing import NamedTuple

from discue.domain.attempts import Outcome

_OVERLOAD_STATUSES = frozenset({429, 503})
# A proxy that recovers must not get all requests at once, either.
_OVERLOADS = frozenset({"timeout", "connect_timeout", "egress_proxy"})


def may_send(cap: int, in_flight: int, organization_in_flight: int, lane_in_flight: int, *, lane_limit: int) -> bool:
    """Return whether a lane may start one more request under the global cap.

    Dynamic thresholds (Choudhury and Hahne, 1998): an organization may hold at most as many requests as are free, a
    lane at most as many as its organization has left of that. A single organization stops at half of the cap, a
    single lane at a third, so hanging listeners never take the last slots. Slots that are taken are not revoked:
    in the worst case, k organizations fill up one after another while none of their requests ends, and
    (cap + 1) / 2^k - 1 slots remain free. As requests end, k such organizations converge to about cap / (k + 1) each.
    """
    room = cap - in_flight - organization_in_flight
    return lane_in_flight < lane_limit and lane_in_flight < room


class Claim(NamedTuple):
    """A lane that wants one more of the slots that the lanes of a listener share."""

    taken: int
    """Slots that the lane has."""
    turn: int
    """Position in the round robin, unique; the lowest is next. A lane that takes a slot gets the highest."""


def fair_share(slots: int, claims: int) -> int:
    """Return how many slots each claimant may have. Rounded up, so that no slot stays unused."""
    return -(-slots // claims)


def may_take_slot(slots: int, taken: int, claim: Claim, waiting: Collection[Claim]) -> bool:
    """Return whether a claimant may take a slot now. `taken` counts all slots in use, `waiting` the other claims.

    While a slot is free, at least one of the claimants may take it.
    """
    if taken >= slots:
        return False
    if not waiting:
        return True
    # Claimants below their share take turns. One at its share waits until each waiting claimant has as many slots.
    share = fair_share(slots, 1 + len(waiting))
    return claim.taken < share and all(each.taken >= share or claim.turn < each.turn for each in waiting)


def signals_overload(outcome: Outcome) -> bool:
    """Return whether an attempt shows an overloaded endpoint or proxy: a timeout, 429, 503, or a proxy that failed."""
    return outcome.error in _OVERLOADS or (outcome.error == "status" and outcome.status in _OVERLOAD_STATUSES)


class AdaptiveLimit:
    """An in-flight limit with additive increase and multiplicative decrease, from 1 to the limit of the listener.

    A sign of overload halves the limit; as many successes as the limit raise it by one. Requests that were sent before
    the last decrease do not decrease it again, because they report the same overload.
    """

    __slots__ = ("_ceiling", "_exact", "allowed", "epoch")

    def __init__(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self._exact = float(ceiling)
        self.allowed = ceiling
        """Maximum requests in flight."""
        self.epoch = 0
        """Number of decreases so far. Store it with each request that is sent, and pass it to `ended`."""

    @property
    def is_reduced(self) -> bool:
        return self._exact < self._ceiling

    def limit_to(self, ceiling: int) -> None:
        """Apply a changed limit of the listener. A limit that overload has reduced stays, but below the new one."""
        is_reduced, self._ceiling = self.is_reduced, ceiling
        self._allow(self._exact if is_reduced else float(ceiling))

    def ended(self, outcome: Outcome, epoch: int) -> None:
        """Adjust the limit to an outcome. Failures that are no sign of overload do not change it."""
        if outcome.error == "":
            # 1 / allowed per success adds up to one after as many successes as requests are allowed.
            if self._exact < self._ceiling:
                self._allow(self._exact + 1.0 / self._exact)
        # Requests of an earlier epoch were sent under the old limit and report the same overload again.
        elif epoch == self.epoch and signals_overload(outcome):
            self.epoch += 1
            self._allow(max(1.0, self._exact / 2))

    def _allow(self, exact: float) -> None:
        self._exact = min(exact, float(self._ceiling))
        self.allowed = int(self._exact)
