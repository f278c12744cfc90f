"""The selector of a lane: the order in which messages get their turn, and the settlement of those that are not sent."""

from math import inf
from typing import Final

from discue.dispatch.delivery_rules import DeliveryRules, Gap, steps_of_page
from discue.dispatch.lane.backlog import Backlog
from discue.dispatch.lane.context import PAGE_BYTES
from discue.dispatch.lane.endpoint import Endpoint, InFlightAttempt
from discue.dispatch.lane.limits import Limits, Turns
from discue.dispatch.lane.states import FILTERS, IDLE, REQUESTS, WORKER, Blocked, DeliveryState
from discue.domain.filters import compile_filter
from discue.domain.messages import Entry
from discue.domain.transforms import MOST_FAILURES
from discue.store.delivery_rows import retries_up_to
from discue.store.message_log import last_seq_stored_before
from discue.store.time_slice import SLICE_SECONDS

_PAGES: Final = 20
"""The pages of old messages that a run of the job looks at, where it must look at each message."""


class Selector:
    """Selects one message after the other, and settles those that are not sent.

    Retries that are due come first in half of the slots; with a single slot they take turns with new messages. Each
    kind comes in its own order.
    """

    def __init__(
        self, backlog: Backlog, limits: Limits, filter_turns: Turns, in_flight: dict[int, InFlightAttempt]
    ) -> None:
        """`filter_turns` limits how long the filters of all lanes of a worker hold the event loop."""
        owned = self._owned = limits.owned
        self._cursor = owned.cursor
        self._backlog = backlog
        self._limits = limits
        self._tuning = owned.worker.tuning
        self._filter_turns = filter_turns
        self._in_flight = in_flight
        self._was_retry = False
        """Whether the last attempt that started was a retry."""
        self.configure(owned.endpoint)

    def configure(self, endpoint: Endpoint) -> None:
        """Decide on messages by the filter of a changed configuration from now on."""
        # A replay has its own filter in addition: it narrows down what the listener accepts.
        replay = self._owned.record.replay
        filters = [*endpoint.filters]
        if replay is not None and replay.filter is not None:
            filters.append(compile_filter(replay.filter))
        waits_since = 0 if replay is None else replay.created_at
        self.rules = DeliveryRules(filters, self._owned.worker.deadline_ms, waits_since, endpoint.transform)
        """The rules by which it decides on messages."""

    @property
    def is_quiet(self) -> bool:
        """Whether no message is in flight, or waits in memory for one that is."""
        return not self._in_flight and not self._backlog.waiting.count and self._owned.is_active

    @property
    def is_transform_broken(self) -> bool:
        """Whether to disable the listener. Replays do not count: their old messages say little about a transform."""
        return self.rules.failures >= MOST_FAILURES and self._owned.record.replay is None

    def next(self, now: int) -> InFlightAttempt | Blocked:
        """Return the attempt that starts next, for which it has taken what the limits count.

        Settles the messages before it that are not sent. Returns the reason if nothing can start.
        """
        backlog = self._backlog
        while (backlog.new or backlog.retries) and not self.is_transform_broken:
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
        states = self._cursor.states
        attempts = [
            each
            for each in self._in_flight.values()
            if each.seq <= until and states[each.seq] is DeliveryState.IN_FLIGHT
        ]
        for attempt in attempts:
            self._cursor.detach(attempt.seq, attempt.number, now)
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
        """Start or settle the next retry. Returns None if it was settled, and a reason if it cannot start."""
        retry = self._backlog.retries[0]
        # Only a first attempt asks the filter. Each attempt is transformed.
        asks = retry.attempts == 0 and self.rules.has_filter
        filters = (asks or self.rules.has_transform) and retry.entry is not None
        started_at = self._filter_turns.monotonic() if filters else 0.0
        if filters and not self._filter_turns.left:
            return FILTERS
        entry, is_first = retry.entry, self._cursor.resume(retry)
        reason = self.rules.decide_due(entry, retry.waits_since, now, is_first=is_first)
        if filters:
            self._filter_turns.spend_since(started_at)
        if entry is not None and not reason:
            return self._start(self.rules.shaped(entry), retry.attempts + 1, is_retry=True)
        self._cursor.settle_due(retry.seq, retry.attempts, reason, now, is_there=entry is not None)
        self._backlog.take_retry()
        return None

    def _next_new(self, now: int) -> InFlightAttempt | Blocked | None:
        """Start, settle or block the next new message. Returns None if another message has its turn."""
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
        filters = self.rules.has_filter or self.rules.has_transform
        started_at = self._filter_turns.monotonic() if filters else 0.0
        if filters and not self._filter_turns.left:
            return FILTERS
        reason = self.rules.decide_new(entry, now)
        if filters:
            self._filter_turns.spend_since(started_at)
        if reason:
            self._backlog.take_new()
            self._cursor.settle_new(entry, reason, now)
            return None
        throttle = self._limits.throttle
        if throttle.only_fails and self._is_throttled(now):
            return Blocked("throttle", throttle.until)
        turn = self._start(self.rules.shaped(entry), 1, is_retry=False)
        if throttle.only_fails and isinstance(turn, InFlightAttempt):
            throttle.on_start(now, self._cursor.open_rows)
        return turn

    def _start(self, entry: Entry, number: int, *, is_retry: bool) -> InFlightAttempt | Blocked:
        """Take the message from the backlog for an attempt, if the worker has a slot."""
        if not self._limits.acquire(is_retry=is_retry):
            return WORKER
        if is_retry:
            self._backlog.take_retry()
        else:
            self._backlog.take_new()
        self._was_retry = is_retry
        epoch = self._limits.adaptive.epoch
        is_trial = entry.seq == self._cursor.trial.seq
        return InFlightAttempt(entry, entry.seq, number, self._owned.endpoint, epoch, is_retry, is_trial)

    def _detach_busiest(self, now: int) -> bool:
        """Too many messages wait in memory: detach the request that most wait for, if that lets other keys go on."""
        ordering = self._cursor.ordering
        attempt = self._in_flight.get(ordering.busiest_seq() or 0) if ordering is not None else None
        if attempt is None or self._cursor.states[attempt.seq] is not DeliveryState.IN_FLIGHT:
            return False
        self._cursor.detach(attempt.seq, attempt.number, now)
        return True

    async def miss_older_than(self, before: int) -> None:
        """Miss the messages of a quiet lane that were stored before a time.

        If the listener may not be sent to, this includes retries: they have no turn in which their age is noticed.
        """
        backlog, cursor, window = self._backlog, self._cursor, self._cursor.window
        if backlog.new and backlog.new[0].stored_at < before:
            backlog.unread()
        last = await self._last_stored_before(
            before, (window.position, min(backlog.head, window.first_settled_beyond - 1))
        )
        # A missed message that blocks its key has a row. It is found to be too old in its turn.
        if not self.is_quiet or backlog.new or self._owned.record.blocks:
            return
        # Messages that were delivered during the read have moved the position.
        if last > window.position:
            ordering = cursor.ordering
            if self.rules.has_filter or (ordering is not None and ordering.may_hold_keys):
                # The next run looks at the rest.
                for _ in range(_PAGES):
                    position = window.position
                    await self._miss_old_page(position, last)
                    if not position < window.position < last:
                        break
            else:
                cursor.miss_range(window.position + 1, last, "too_old", self._owned.worker.clock.now())
                backlog.read_through = max(backlog.read_through, last)
        # In an ordered queue other messages wait behind a retry, and come next when it has its turn.
        if cursor.retrying and not self._limits.may_send and cursor.ordering is None:
            await self._miss_old_retries(before)

    async def _miss_old_page(self, after: int, last: int) -> None:
        """Miss the messages of a page. A message that the filter rejects is skipped: it is not for the listener.

        A message whose key is held is blocked, and missed in its turn. The row of a key counts the messages behind it,
        and finds each by its key in the log. If a missed range covered some of them, the row would move on to one of
        these, and the last that it counts would be lost.
        """
        backlog, cursor, clock = self._backlog, self._cursor, self._owned.worker.clock
        epoch = backlog.epoch
        queue = (self._owned.record.organization, self._owned.record.queue)
        page = await self._owned.reads.page(queue, after, self._tuning.missed_per_step, lambda: PAGE_BYTES)
        ordering = cursor.ordering
        has_changed = epoch != backlog.epoch or after != cursor.window.position or bool(backlog.new)
        if has_changed or not self.is_quiet or (ordering is not None and not ordering.is_known):
            return
        now, through, rules = clock.now(), min(page.through, last), self.rules
        until = clock.monotonic() + SLICE_SECONDS if rules.has_filter else inf
        for step in steps_of_page(page, after, self._owned.record.start_seq, through):
            if isinstance(step, Gap):
                cursor.skip(step.first, step.last)
                continue
            held = None if ordering is None else ordering.holder(step)
            if held is None:
                cursor.settle_new(step, rules.decide_new(step, now) or "too_old", now)
            elif held.row is not None:
                cursor.block(held, [step.seq])
            else:
                # Another worker has the holder in flight, and writes its row.
                through = step.seq - 1
                break
            if until < inf and clock.monotonic() >= until:
                through = step.seq
                break
        backlog.read_through = max(backlog.read_through, through)

    async def _miss_old_retries(self, before: int) -> None:
        backlog, cursor, key, limit = self._backlog, self._cursor, self._owned.record.key, self._tuning.missed_per_step
        epoch = backlog.epoch
        last = await self._last_stored_before(before, (0, cursor.window.position))
        found = await self._owned.reads.read(lambda tx: retries_up_to(tx, key, last, before, limit=limit))
        if epoch != backlog.epoch or self._limits.may_send or not self.is_quiet:
            return
        now = self._owned.worker.clock.now()
        for retry in found:
            if retry.seq in cursor.states:
                continue
            cursor.claim(retry.seq)
            cursor.settle_due(retry.seq, retry.attempts, "too_old", now, is_there=retry.is_there)

    async def _last_stored_before(self, before: int, bounds: tuple[int, int]) -> int:
        organization, queue = self._owned.record.organization, self._owned.record.queue
        return await self._owned.reads.read(
            lambda tx: last_seq_stored_before(tx, organization, queue, bounds, before=before)
        )
