"""The gate that every request to a listener passes: a cap on all of a worker's, shared fairly."""

from collections import deque
from typing import Protocol

from discue.domain.concurrency import may_send

_LANES_TRIED_PER_RELEASE = 4


class Sending(Protocol):
    """What the gate needs to know of a lane."""

    organization: int
    in_flight_count: int
    max_in_flight: int
    is_queued: bool

    def pump(self) -> None: ...


class ConcurrencyLimiter:
    """Counts requests in flight, and lets lanes that found it full have their turn, one organization after another."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self.in_flight = 0
        self._by_organization: dict[int, int] = {}
        self._waiting: dict[int, deque[Sending]] = {}

    def enter(self, lane: Sending) -> bool:
        """Take a place, or be called when there may be one."""
        organization = lane.organization
        held = self._by_organization.get(organization, 0)
        if may_send(self._cap, self.in_flight, held, lane.in_flight_count, lane.max_in_flight):
            self.in_flight += 1
            self._by_organization[organization] = held + 1
            return True
        if lane.in_flight_count < lane.max_in_flight and not lane.is_queued:
            lane.is_queued = True
            self._waiting.setdefault(organization, deque()).append(lane)
        return False

    def leave(self, organization: int) -> None:
        """Give a place back. Lanes that wait are not called yet: `call_waiting` does that."""
        self.in_flight -= 1
        held = self._by_organization[organization] - 1
        if held:
            self._by_organization[organization] = held
        else:
            del self._by_organization[organization]

    def call_waiting(self) -> None:
        """Let a few of the lanes that wait try again: each organization in turn, in it each lane."""
        tried = 0
        while self._waiting and tried < _LANES_TRIED_PER_RELEASE:
            organization = next(iter(self._waiting))
            lanes = self._waiting.pop(organization)
            lane = lanes.popleft()
            if lanes:
                self._waiting[organization] = lanes
            lane.is_queued = False
            before = self.in_flight
            lane.pump()
            # One that had nothing to send any more has used nobody's turn.
            tried += lane.is_queued or self.in_flight != before
