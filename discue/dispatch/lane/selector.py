"""Decisions on the next message of a lane, and the order in which messages get their turn."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from discue.dispatch.delivery_rules import Drop, decide_due, decide_new
from discue.dispatch.lane.attempt import InFlightAttempt
from discue.dispatch.lane.backlog import Backlog
from discue.dispatch.lane.breaker import Throttle
from discue.dispatch.lane.ordering import HeldKey
from discue.domain.messages import Entry
from discue.store.delivery_rows import DueRetry

if TYPE_CHECKING:
    from discue.dispatch.lane.context import LaneContext
    from discue.dispatch.lane.lane import Lane


class Start(msgspec.Struct, frozen=True, gc=False):
    """Start attempt `number`. A slot of the worker is taken for it."""

    entry: Entry
    number: int
    is_retry: bool


class SkipNew(msgspec.Struct, frozen=True, gc=False):
    """Settle a new message that the listener's filter rejects."""

    entry: Entry


class DropNew(msgspec.Struct, frozen=True, gc=False):
    """Miss a new message."""

    entry: Entry
    reason: str


class BlockNew(msgspec.Struct, frozen=True, gc=False):
    """Let the cursor pass a new message whose key has a row."""

    held: HeldKey
    seq: int


class DropRetry(msgspec.Struct, frozen=True, gc=False):
    """Miss a delivery that waits for a retry."""

    retry: DueRetry
    reason: str


class SkipRetry(msgspec.Struct, frozen=True, gc=False):
    """Remove the row of a message that was deleted, or that the listener's filter rejects."""

    retry: DueRetry


class Detach(msgspec.Struct, frozen=True, gc=False):
    """Give requests in flight rows, so that the cursor can pass them. Then ask again."""

    attempts: Collection[InFlightAttempt]


Decision = Start | SkipNew | DropNew | BlockNew | DropRetry | SkipRetry | Detach


class Selector:
    """Decides on one message after the other.

    Retries that are due come first in half of the slots; with a single slot they take turns with new messages. Each
    kind comes in its own order.
    """

    def __init__(
        self, lane: "Lane", context: "LaneContext", backlog: Backlog, in_flight: dict[int, InFlightAttempt]
    ) -> None:
        self._lane = lane
        self._limiter = context.limiter
        self._tuning = context.tuning
        self._backlog = backlog
        self._in_flight = in_flight
        self.throttle = Throttle(self._tuning.throttle_rows, self._tuning.throttle_failures)
        self.retries_in_flight = 0
        """Counted up here, and down by the lane when the attempt ends."""
        self._was_retry = False
        """Whether the last attempt that started was a retry."""

    def next(self, now: int) -> Decision | None:
        """Decide on the next message, and remove it from the backlog.

        Returns None if nothing can start before a request ends or something changes. For `Start` it has taken a slot of
        the worker: the only side effect outside the backlog.
        """
        backlog = self._backlog
        while backlog.new or backlog.retries:
            if backlog.retries and (not backlog.new or self._is_turn_of_a_retry(now)):
                return self._next_retry(now)
            entry = backlog.new[0]
            if not self._lane.cursor.window.fits(entry.seq):
                # If this detaches nothing, the oldest message waits in memory for a key of an inherited request.
                return self.make_room() or self._retry_instead(now)
            ordering = self._lane.cursor.ordering
            held = None if ordering is None else ordering.holder(entry)
            if held is None:
                return self._next_new(entry, now)
            if held.row is not None:
                backlog.take_new()
                return BlockNew(held, entry.seq)
            if backlog.waiting.count >= self._tuning.waiting_held:
                return self._detach_busiest() or self._retry_instead(now)
            backlog.waiting.add_next(held.key_hash)
        return None

    def make_room(self) -> Detach | None:
        """Detach the requests in flight that keep the cursor where it is; None if there is none."""
        until = self._lane.cursor.window.position + self._tuning.detach_within
        attempts = [each for each in self._in_flight.values() if not each.has_row and each.seq <= until]
        return Detach(attempts) if attempts else None

    def _is_turn_of_a_retry(self, now: int) -> bool:
        # With one slot, a throttle that holds new messages back must not hold the retries back with them.
        is_turn_of_new = (
            self._lane.slots.limit == 1 and self._was_retry and self.throttle.allows(now, self._lane.cursor.open_rows)
        )
        return self._may_retry and not is_turn_of_new

    @property
    def _may_retry(self) -> bool:
        return self.retries_in_flight * 2 < self._lane.slots.limit

    def _retry_instead(self, now: int) -> Decision | None:
        """Decide on a retry out of turn: no new message can start before a request ends."""
        return self._next_retry(now) if self._backlog.retries and self._may_retry else None

    def _next_retry(self, now: int) -> Decision | None:
        lane, retries = self._lane, self._backlog.retries
        retry = retries[0]
        entry, is_first = retry.entry, lane.cursor.resume(retry)
        reason = "" if entry is None else lane.drop_reason(entry, retry.waits_since, now)
        decision = decide_due(entry, lane.accepts, reason, is_first=is_first)
        if isinstance(decision, Drop):
            retries.popleft()
            return DropRetry(retry, reason)
        if entry is None or decision is not None:
            retries.popleft()
            return SkipRetry(retry)
        if not self._limiter.acquire(lane.slots):
            return None
        retries.popleft()
        self.retries_in_flight += 1
        self._was_retry = True
        return Start(entry, retry.attempts + 1, is_retry=True)

    def _next_new(self, entry: Entry, now: int) -> Decision | None:
        lane, backlog = self._lane, self._backlog
        decision = decide_new(entry, lane.accepts, lane.drop_reason(entry, entry.stored_at, now))
        if isinstance(decision, Drop):
            return DropNew(backlog.take_new(), decision.reason)
        if decision is not None:
            return SkipNew(backlog.take_new())
        rows = lane.cursor.open_rows
        if not self.throttle.allows(now, rows) or not self._limiter.acquire(lane.slots):
            return None
        if self.throttle.on_start(now, rows):
            lane.wake_at(self.throttle.until)
        self._was_retry = False
        return Start(backlog.take_new(), 1, is_retry=False)

    def _detach_busiest(self) -> Detach | None:
        """Too many messages wait in memory: detach the request that most wait for, if that lets other keys go on."""
        ordering = self._lane.cursor.ordering
        attempt = self._in_flight.get(ordering.busiest_seq() or 0) if ordering is not None else None
        return None if attempt is None or attempt.has_row else Detach([attempt])
