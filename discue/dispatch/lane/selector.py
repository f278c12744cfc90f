"""What a lane starts next: due retries and new messages by turns, each in its order."""

from typing import Protocol

from discue.dispatch.lane.backlog import Backlog
from discue.dispatch.lane.cursor_state import CursorState
from discue.dispatch.lane.gate import ConcurrencyLimiter, Sending
from discue.dispatch.lane.in_flight_attempt import InFlightAttempt
from discue.dispatch.lane.ordering import WAITING_HELD, HeldKey
from discue.dispatch.lane.throttle import Throttle
from discue.domain.messages import Entry
from discue.domain.window import SPAN

_RELIEF = SPAN // 2
_RETRY_SHARE = 2


class Starter(Sending, Protocol):
    """The lane."""

    def wants(self, entry: Entry) -> bool:
        """Whether a message is for the listener."""
        ...

    def given_up(self, entry: Entry, waits_since: int, now: int) -> str:
        """Why a message is not sent any more; empty for one that is."""
        ...

    def send(self, entry: Entry, number: int, *, is_retry: bool) -> None: ...

    def settle(self) -> None:
        """There is something to store."""
        ...

    def wake_at(self, due_at: int) -> None: ...


class Selector:
    """Decides on one message after the other: it is sent, passed over, or waits for its key."""

    def __init__(
        self,
        lane: Starter,
        progress: CursorState,
        backlog: Backlog,
        attempts_in_flight: dict[int, InFlightAttempt],
        gate: ConcurrencyLimiter,
    ) -> None:
        self._lane = lane
        self._progress = progress
        self._backlog = backlog
        self._in_flight = attempts_in_flight
        self._gate = gate
        self.throttle = Throttle()
        self.retries_in_flight = 0
        self._was_retry = False
        """Whether the last attempt that started was a retry."""

    def next(self, now: int) -> bool:
        """Decide on the next one. False when nothing can be started before something has ended, or come."""
        backlog = self._backlog
        if backlog.retries and (not backlog.new or self._is_turn_of_a_retry()):
            return self._retry(now)
        return bool(backlog.new) and self._new(now)

    def _is_turn_of_a_retry(self) -> bool:
        """Whether a retry comes before a new message: in half of the slots; with one slot, every other time."""
        slots = self._lane.max_in_flight
        return self.retries_in_flight * _RETRY_SHARE < slots and not (slots == 1 and self._was_retry)

    def make_span(self, now: int) -> None:
        """Long requests leave the cursor's span: each becomes an exception, and is settled as one."""
        until = self._progress.window.position + _RELIEF
        for attempt in self._in_flight.values():
            if not attempt.excepted and attempt.seq <= until:
                self._except(attempt, now)
        self._lane.settle()

    def _retry(self, now: int) -> bool:
        retry = self._backlog.retries[0]
        is_first = self._progress.resume(retry)
        if retry.entry is None or (is_first and not self._lane.wants(retry.entry)):
            self._progress.forget(retry.seq)
        elif reason := self._lane.given_up(retry.entry, retry.waits_since, now):
            self._progress.expire(retry.seq, retry.attempts, reason, now)
        elif not self._gate.enter(self._lane):
            return False
        else:
            self._backlog.retries.popleft()
            self.retries_in_flight += 1
            self._was_retry = True
            self._lane.send(retry.entry, retry.attempts + 1, is_retry=True)
            return True
        self._backlog.retries.popleft()
        self._lane.settle()
        return True

    def _new(self, now: int) -> bool:
        entry = self._backlog.new[0]
        if not self._progress.window.fits(entry.seq):
            self.make_span(now)
            if not self._progress.window.fits(entry.seq):
                # The oldest message waits in memory for a key that an inherited request holds.
                return False
        ordering = self._progress.ordering
        if ordering is not None and (held := ordering.holder(entry)) is not None:
            return self._hold(entry, held, now)
        is_wanted = self._lane.wants(entry)
        given_up = self._lane.given_up(entry, entry.stored_at, now) if is_wanted else ""
        if is_wanted and not given_up and not self._may_start(now):
            return False
        self._backlog.take_new()
        if given_up or not is_wanted:
            self._progress.pass_over(entry, given_up, now)
            self._lane.settle()
        else:
            if self.throttle.begun(now, self._progress.open_rows):
                self._lane.wake_at(self.throttle.until)
            self._was_retry = False
            self._lane.send(entry, 1, is_retry=False)
        return True

    def _hold(self, entry: Entry, held: HeldKey, now: int) -> bool:
        """A message whose key is taken waits. False when nothing new can be started before something has ended."""
        if held.row is not None:
            self._backlog.take_new()
            self._progress.block(held, [entry.seq])
            self._lane.settle()
        elif self._backlog.waiting.count < WAITING_HELD:
            self._backlog.waiting.add_next(held.key_hash)
        else:
            return self._relieve(now)
        return True

    def _relieve(self, now: int) -> bool:
        """Too many wait in memory: let the cursor pass those that wait for one request, if that helps others."""
        ordering = self._progress.ordering
        attempt = self._in_flight.get(ordering.most_waited_for() or 0) if ordering is not None else None
        if attempt is None or attempt.excepted:
            return False
        self._except(attempt, now)
        return True

    def _may_start(self, now: int) -> bool:
        return self.throttle.allows(now, self._progress.open_rows) and self._gate.enter(self._lane)

    def _except(self, attempt: InFlightAttempt, now: int) -> None:
        """A request under way becomes an exception, so that the cursor can go on."""
        attempt.excepted = True
        self._backlog.claimed.add(attempt.seq)
        self._progress.depart(attempt.seq, attempt.number, now)
        self._lane.settle()
