"""Decisions on the next message of a lane, and the order in which messages get their turn."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from discue.dispatch.delivery_rules import SKIP, DeliveryRules
from discue.dispatch.lane.backlog import Backlog
from discue.dispatch.lane.endpoint import Endpoint, InFlightAttempt
from discue.dispatch.lane.limits import Limits
from discue.dispatch.lane.ordering import HeldKey
from discue.domain.filters import compile_filter
from discue.domain.messages import Entry
from discue.store.delivery_rows import DueRetry

if TYPE_CHECKING:
    from discue.dispatch.lane.context import LaneContext
    from discue.dispatch.lane.lane import Lane


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


Decision = InFlightAttempt | SkipNew | DropNew | BlockNew | DropRetry | SkipRetry | Detach
"""The next step of a lane. An attempt is to be sent: it has taken a slot of the worker."""


class Selector:
    """Decides on one message after the other.

    Retries that are due come first in half of the slots; with a single slot they take turns with new messages. Each
    kind comes in its own order.
    """

    def __init__(
        self, lane: "Lane", context: "LaneContext", *, limits: Limits, in_flight: dict[int, InFlightAttempt]
    ) -> None:
        self._lane = lane
        self._tuning = context.tuning
        self._deadline_ms = context.deadline_ms
        self._backlog: Backlog = lane.backlog
        self._limits = limits
        self._in_flight = in_flight
        self._was_retry = False
        """Whether the last attempt that started was a retry."""
        replay = lane.record.replay
        self._waits_since_at_least = 0 if replay is None else replay.created_at
        self._replay_filter = None if replay is None or replay.filter is None else compile_filter(replay.filter)
        self.configure(lane.endpoint)

    def configure(self, endpoint: Endpoint) -> None:
        """Decide on messages by the filter of a changed configuration from now on."""
        filters = [each for each in (endpoint.filter, self._replay_filter) if each is not None]
        self._rules = DeliveryRules(filters, self._deadline_ms, self._waits_since_at_least)

    def next(self, now: int) -> Decision | None:
        """Decide on the next message, and remove it from the backlog.

        Returns None if nothing can start before a request ends or something changes. An attempt has taken what the
        limits count: the only side effect outside the backlog.
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
        if not self._limits.may_retry:
            return False
        # With one slot, a throttle that holds new messages back must not hold the retries back with them.
        is_turn_of_new = self._limits.adaptive.allowed == 1 and self._was_retry
        return not is_turn_of_new or self._is_throttled(now)

    def _is_throttled(self, now: int) -> bool:
        throttle = self._limits.throttle
        return throttle.only_fails and not throttle.allows(now, self._lane.cursor.open_rows)

    def _retry_instead(self, now: int) -> Decision | None:
        """Decide on a retry out of turn: no new message can start before a request ends."""
        return self._next_retry(now) if self._backlog.retries and self._limits.may_retry else None

    def _next_retry(self, now: int) -> Decision | None:
        retries = self._backlog.retries
        retry = retries[0]
        entry, is_first = retry.entry, self._lane.cursor.resume(retry)
        reason = self._rules.decide_due(entry, retry.waits_since, now, is_first=is_first)
        if reason == SKIP or entry is None:
            retries.popleft()
            return SkipRetry(retry)
        if reason:
            retries.popleft()
            return DropRetry(retry, reason)
        return self._start(entry, retry.attempts + 1, is_retry=True)

    def _next_new(self, entry: Entry, now: int) -> Decision | None:
        reason = self._rules.decide_new(entry, now)
        if reason:
            self._backlog.take_new()
            return SkipNew(entry) if reason == SKIP else DropNew(entry, reason)
        if self._is_throttled(now):
            return None
        attempt = self._start(entry, 1, is_retry=False)
        throttle = self._limits.throttle
        if attempt is not None and throttle.only_fails and throttle.on_start(now, self._lane.cursor.open_rows):
            self._lane.wake_at(throttle.until)
        return attempt

    def _start(self, entry: Entry, number: int, *, is_retry: bool) -> InFlightAttempt | None:
        """Take the message from the backlog for an attempt, if the worker has a slot."""
        if not self._limits.acquire(is_retry=is_retry):
            return None
        if is_retry:
            self._backlog.retries.popleft()
        else:
            self._backlog.take_new()
        self._was_retry = is_retry
        epoch = self._limits.adaptive.epoch
        return InFlightAttempt(entry, number, self._lane.endpoint, epoch=epoch, is_retry=is_retry)

    def _detach_busiest(self) -> Detach | None:
        """Too many messages wait in memory: detach the request that most wait for, if that lets other keys go on."""
        ordering = self._lane.cursor.ordering
        attempt = self._in_flight.get(ordering.busiest_seq() or 0) if ordering is not None else None
        return None if attempt is None or attempt.has_row else Detach([attempt])
