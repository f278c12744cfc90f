"""The selector of a lane: the order in which messages get their turn, and the settlement of those that are not sent."""

from discue.dispatch.delivery_rules import SKIP, DeliveryRules
from discue.dispatch.lane.backlog import Backlog
from discue.dispatch.lane.blocked import FILTERS, IDLE, REQUESTS, WORKER, Blocked, BlockedBy
from discue.dispatch.lane.endpoint import Endpoint, InFlightAttempt
from discue.dispatch.lane.filter_turns import FilterTurns
from discue.dispatch.lane.limits import Limits
from discue.domain.filters import compile_filter
from discue.domain.messages import Entry


class Selector:
    """Selects one message after the other, and settles those that are not sent.

    Retries that are due come first in half of the slots; with a single slot they take turns with new messages. Each
    kind comes in its own order.
    """

    def __init__(
        self, backlog: Backlog, limits: Limits, turns: FilterTurns, in_flight: dict[int, InFlightAttempt]
    ) -> None:
        owned = self._owned = limits.owned
        self._cursor = owned.cursor
        self._backlog = backlog
        self._limits = limits
        self._tuning = owned.worker.tuning
        self._turns = turns
        self._in_flight = in_flight
        self._was_retry = False
        """Whether the last attempt that started was a retry."""
        self.configure(owned.endpoint)

    def configure(self, endpoint: Endpoint) -> None:
        """Decide on messages by the filter of a changed configuration from now on."""
        # A replay has its own filter in addition: it narrows down what the listener accepts.
        replay = self._owned.record.replay
        filters = [] if endpoint.filter is None else [endpoint.filter]
        if replay is not None and replay.filter is not None:
            filters.append(compile_filter(replay.filter))
        self.rules = DeliveryRules(filters, self._owned.worker.deadline_ms, 0 if replay is None else replay.created_at)
        """The rules by which it decides on messages."""

    def next(self, now: int) -> InFlightAttempt | Blocked:
        """Return the attempt that starts next, for which it has taken what the limits count.

        Settles the messages before it that are not sent. Returns the reason if nothing can start.
        """
        backlog = self._backlog
        while backlog.new or backlog.retries:
            if backlog.retries and (not backlog.new or self._is_turn_of_a_retry(now)):
                turn = self._next_retry(now)
            else:
                turn = self._next_new(now)
            if turn is not None:
                return turn
        return IDLE

    def make_room(self, now: int) -> bool:
        """Detach the requests in flight that keep the cursor where it is. False if there is none."""
        until = self._cursor.window.position + self._tuning.detach_within
        attempts = [each for each in self._in_flight.values() if not each.has_row and each.seq <= until]
        for attempt in attempts:
            self._detach(attempt, now)
        return bool(attempts)

    def _is_turn_of_a_retry(self, now: int) -> bool:
        if not self._limits.may_retry:
            return False
        # With one slot, a throttle that holds new messages back must not hold the retries back with them.
        is_turn_of_new = self._limits.adaptive.allowed == 1 and self._was_retry
        return not is_turn_of_new or self._is_throttled(now)

    def _is_throttled(self, now: int) -> bool:
        throttle = self._limits.throttle
        return throttle.only_fails and not throttle.allows(now, self._cursor.open_rows)

    def _retry_instead(self, now: int) -> InFlightAttempt | Blocked | None:
        """Give the turn to a retry: no new message can start before a request ends."""
        return self._next_retry(now) if self._backlog.retries and self._limits.may_retry else REQUESTS

    def _next_retry(self, now: int) -> InFlightAttempt | Blocked | None:
        """Give the next retry its turn. None: it was settled, and the next message has its turn."""
        retries = self._backlog.retries
        retry = retries[0]
        # Only a first attempt asks the filter.
        filters = retry.attempts == 0 and self.rules.has_filter and retry.entry is not None
        if filters and not self._turns.begin():
            return FILTERS
        entry, is_first = retry.entry, self._cursor.resume(retry)
        reason = self.rules.decide_due(entry, retry.waits_since, now, is_first=is_first)
        if filters:
            self._turns.end()
        if entry is None:
            self._cursor.drop_row(retry.seq)
        elif reason == SKIP:
            self._cursor.drop_filtered(retry.seq)
        elif reason:
            self._cursor.miss_retry(retry.seq, retry.attempts, reason, now)
        else:
            return self._start(entry, retry.attempts + 1, is_retry=True)
        retries.popleft()
        return None

    def _next_new(self, now: int) -> InFlightAttempt | Blocked | None:
        """Give the next new message its turn. None: it was settled or waits, and the next one has its turn."""
        entry, backlog, cursor = self._backlog.new[0], self._backlog, self._cursor
        if not cursor.window.fits(entry.seq):
            # If this detaches nothing, the oldest message waits in memory for a key of an inherited request.
            return None if self.make_room(now) else self._retry_instead(now)
        held = None if cursor.ordering is None else cursor.ordering.holder(entry)
        if held is None:
            return self._decide_new(entry, now)
        if held.row is not None:
            cursor.block(held, [backlog.take_new().seq])
        elif backlog.waiting.count < self._tuning.waiting_held:
            backlog.waiting.add_next(held.key_hash)
        elif not self._detach_busiest(now):
            return self._retry_instead(now)
        return None

    def _decide_new(self, entry: Entry, now: int) -> InFlightAttempt | Blocked | None:
        filters = self.rules.has_filter
        if filters and not self._turns.begin():
            return FILTERS
        reason = self.rules.decide_new(entry, now)
        if filters:
            self._turns.end()
        if reason:
            self._backlog.take_new()
            if reason == SKIP:
                self._cursor.skip_new(entry)
            else:
                self._cursor.miss_new(entry, reason, now)
            return None
        throttle = self._limits.throttle
        if self._is_throttled(now):
            return Blocked(BlockedBy.THROTTLE, throttle.until)
        turn = self._start(entry, 1, is_retry=False)
        if throttle.only_fails and isinstance(turn, InFlightAttempt):
            throttle.on_start(now, self._cursor.open_rows)
        return turn

    def _start(self, entry: Entry, number: int, *, is_retry: bool) -> InFlightAttempt | Blocked:
        """Take the message from the backlog for an attempt, if the worker has a slot."""
        if not self._limits.acquire(is_retry=is_retry):
            return WORKER
        if is_retry:
            self._backlog.retries.popleft()
        else:
            self._backlog.take_new()
        self._was_retry = is_retry
        epoch = self._limits.adaptive.epoch
        return InFlightAttempt(entry, number, self._owned.endpoint, epoch=epoch, is_retry=is_retry)

    def _detach_busiest(self, now: int) -> bool:
        """Too many messages wait in memory: detach the request that most wait for, if that lets other keys go on."""
        ordering = self._cursor.ordering
        attempt = self._in_flight.get(ordering.busiest_seq() or 0) if ordering is not None else None
        if attempt is None or attempt.has_row:
            return False
        self._detach(attempt, now)
        return True

    def _detach(self, attempt: InFlightAttempt, now: int) -> None:
        """Give a request in flight a row, so that the cursor can pass it."""
        attempt.has_row = True
        self._backlog.claimed.add(attempt.seq)
        self._cursor.detach(attempt.seq, attempt.number, now)
